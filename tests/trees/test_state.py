"""A training of the tree under test that goes on from its state computes the same bits as one that was not stopped."""

import numpy as np
import pytest

from common.model.initial_weights import RANDOM
from common.model.lora_file import is_lora
from common.run.batching import make_batch
from common.run.dropout import step_key
from common.run.progress import Progress
from common.run.state import State, read_state, write_state
from tests import DEVICE
from tests.oracles.make_oracle import ROWS
from tests.trees.small_model import arguments as small_arguments
from tests.trees.small_model import model_of

import device
from gpt2_ft import build_steps
from lora import trained_state_dict

pytestmark = pytest.mark.usefixtures("on_device")


def arguments(*flags):
    return small_arguments("--init_checkpoint", RANDOM, *flags)


def trained(steps, grad_acc, first, last):
    """Trains from one step to another; returns the losses."""
    return [float(steps.train(make_batch(ROWS, 48, step_key=step_key(1, step)), 0.01, step % grad_acc == 0))
            for step in range(first, last + 1)]


def is_reproducible(oracle, parsed, losses):
    """Tells whether a training that is not stopped has these losses once more."""
    return trained(build_steps(parsed, model_of(oracle, parsed)), parsed.grad_acc, 1, len(losses)) == losses


def through_a_file(state, folder):
    """Returns what steps.state() returned as a program that goes on reads it."""
    write_state(folder, State(Progress(step=1), device.FRAMEWORK, {}, 0, [], state), keep_last=1)
    return read_state(folder / "state.1.safetensors").arrays


@pytest.mark.parametrize("flags, stop", [
    ((), 4), (("--lora_dropout", "0.1", "--clip", "0.5"), 1), (("--grad_acc", "3"), 6),
    (("--grad_acc", "3", "--lora_dropout", "0.1"), 5), (("--fp16",), 4),
    (("--fp64", "--lora_dropout", "0.1", "--clip", "0.5"), 4), (("--fp64", "--grad_acc", "3"), 5)])
def test_it_goes_on_to_the_same_bits(oracle, flags, stop, tmp_path):
    parsed = arguments(*flags)
    device.set_up(DEVICE, 1, parsed.precision)
    last, results = 9, []
    for stops in (False, True):
        model = model_of(oracle, parsed)
        steps = build_steps(parsed, model)
        losses = trained(steps, parsed.grad_acc, 1, stop)
        if stops:
            state = steps.state()
            assert all(np.isfinite(array).all() for array in state.values())
            # What it has of float64, float32 would not hold.
            assert (state["values"].astype(np.float32) != state["values"]).any() == (parsed.precision == "fp64")
            state = through_a_file(state, tmp_path)
            trained(steps, parsed.grad_acc, stop + 1, last)  # what it holds is a copy, which this does not touch
            model = model_of(oracle, parsed)
            steps = build_steps(parsed, model)
            steps.load_state(state)
        losses += trained(steps, parsed.grad_acc, stop + 1, last)
        results.append((losses, trained_state_dict(model, is_lora), steps.state()))
    (losses, weights, state), (losses_again, weights_again, state_again) = results
    if DEVICE == "cuda" and not is_reproducible(oracle, parsed, losses):
        pytest.skip("two such trainings on this GPU, neither of them stopped, differ in a bit")
    assert losses_again == losses
    for found, expected in ((weights_again, weights), (state_again, state)):
        assert found.keys() == expected.keys()
        for name in expected:
            assert found[name].tobytes() == expected[name].tobytes(), name


def test_a_training_under_way_takes_on_a_state(oracle):
    """On a GPU its recorded steps go on from it, on the same memory."""
    parsed = arguments("--grad_acc", "2")
    model = model_of(oracle, parsed)
    steps = build_steps(parsed, model)
    trained(steps, 2, 1, 3)
    state = steps.state()
    losses = trained(steps, 2, 4, 8)
    weights = trained_state_dict(model, is_lora)
    steps.load_state(state)
    assert trained(steps, 2, 4, 8) == losses
    assert all((trained_state_dict(model, is_lora)[name] == weights[name]).all() for name in weights)


def test_the_loss_scale_is_part_of_the_state(oracle):
    parsed = arguments("--fp16")
    device.set_up(DEVICE, 1, parsed.precision)
    steps = build_steps(parsed, model_of(oracle, parsed))
    trained(steps, 1, 1, 3)
    state = steps.state()
    assert (state["step_count"], state["good_steps"]) == (3, 3) and state["loss_scale"] == 65536
    steps.load_state({**state, "loss_scale": np.array(8.0), "step_count": np.array(2.0)})
    again = steps.state()
    assert (again["loss_scale"], again["step_count"]) == (8, 2)
