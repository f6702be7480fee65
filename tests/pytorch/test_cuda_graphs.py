"""Steps through recordings equal plain steps; on a GPU through CUDA graphs."""

from dataclasses import replace
from functools import partial
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch

from common.run.batching import Row, make_batch
from common.run.dropout import step_key
from tests import DEVICE
from tests.oracles import make_bert_oracle
from tests.oracles.make_oracle import ROWS
from tests.trees.small_bert import flags
from tests.trees.small_bert import model_of as bert_of
from tests.trees.small_model import arguments, arrays_of, model_of, relative_error

import cuda_graphs
import device
from cuda_graphs import Recordings, captured
from gpt2_ft import build_optimizer, train_step, validation_step
from lora import lora_state_dict

pytestmark = pytest.mark.usefixtures("on_device")

# Two shapes of batch: the second one is longer.
LONGER = Row([3, 1, 4, 1, 5, 9, 2, 6] * 2, [5, 3, 5, 96])
BATCHES = [make_batch(rows, 48) for rows in (ROWS, [*ROWS[:2], LONGER], ROWS[::-1])]
RATES = [0.0, 0.01, 0.02, 0.005, 0.01, 0.02, 0.01, 0.003]
FLAGS = [(), ("--clip", "0.5", "--grad_acc", "2"), ("--fp16", "--clip", "1")]


def steps_of(model, optimizer, parsed):
    return partial(train_step, model, optimizer, parsed), partial(validation_step, model)


def plain(train, validate):
    """The steps as they are, on the batches' arrays."""
    return (lambda batch, *others: train(arrays_of(batch), *others), lambda batch: validate(arrays_of(batch)))


def run(oracle, flags, wrap):
    """Losses and weights of a few steps whose batches, rates and updates change."""
    parsed = arguments(*flags)
    device.set_up(DEVICE, 1, parsed.precision)
    model = model_of(oracle, parsed)
    optimizer = build_optimizer(parsed, model)
    train, validate = wrap(*steps_of(model, optimizer, parsed))
    losses = [train(BATCHES[step % len(BATCHES)], rate, (step + 1) % parsed.grad_acc == 0)
              for step, rate in enumerate(RATES)]
    losses += [validate(batch) for batch in BATCHES]
    return [float(loss) for loss in losses], lora_state_dict(model), optimizer


def recorded(*steps, most=96):
    """What ``captured`` does on a GPU, with recordings that repeat a step by running it again."""
    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(device, "on_gpu", lambda: True)
        for name in ("graph_pool_handle", "Stream", "current_stream", "set_stream"):
            patches.setattr(torch.cuda, name, MagicMock())
        patches.setattr(device, "avoid_holes", lambda: None)
        patches.setattr(cuda_graphs, "Recordings", lambda _: Recordings(lambda function: function, most))
        return captured(*steps)


WAYS = [pytest.param(recorded, id="recorded"), pytest.param(partial(recorded, most=1), id="one recording"),
        pytest.param(captured, id="CUDA graphs", marks=pytest.mark.gpu)]


@pytest.mark.slow
@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("wrap", WAYS)
def test_recorded_steps_equal_plain_ones(oracle, flags, wrap):
    (expected, weights, alone), (found, found_weights, optimizer) = (
        run(oracle, flags, each) for each in (plain, wrap))
    # A filled-up batch adds the same numbers in another order; in half precision they are rounded before.
    loss_tolerance, weight_tolerance = (1e-3, 2e-2) if "--fp16" in flags else (1e-5, 1e-3)
    assert found == pytest.approx(expected, rel=loss_tolerance)
    assert float(optimizer.step_count) == float(alone.step_count) == len(RATES) // (2 if "--grad_acc" in flags else 1)
    for name in weights:
        assert relative_error(found_weights[name], weights[name]) < weight_tolerance, name


@pytest.mark.parametrize("wrap", WAYS)
def test_dropout_draws_anew_at_each_replay(oracle, wrap):
    parsed = arguments("--lora_dropout", "0.5")
    model = model_of(oracle, parsed)
    train, validate = wrap(*steps_of(model, build_optimizer(parsed, model), parsed))
    losses = [float(train(replace(BATCHES[0], step_key=step_key(1, step)), 0.0, True)) for step in (1, 2, 3, 1, 2)]
    assert len(set(losses[:3])) == 3
    # Recorded steps add up in another order than the first one, which is not recorded.
    assert losses[3:] == pytest.approx(losses[:2], rel=1e-6)
    expected = pytest.approx(float(oracle["validation_loss"]), rel=1e-6)
    assert [float(validate(BATCHES[0])) for _ in range(3)] == [expected] * 3


@pytest.mark.parametrize("wrap", WAYS)
def test_losses_survive_the_next_replay(oracle, wrap):
    parsed = arguments()
    model = model_of(oracle, parsed)
    _, validate = wrap(*steps_of(model, build_optimizer(parsed, model), parsed))
    together = [validate(batch) for batch in BATCHES * 2]
    alone = [float(validation_step(model, arrays_of(batch))) for batch in BATCHES * 2]
    np.testing.assert_allclose([float(loss) for loss in together], alone, rtol=1e-6)


@pytest.mark.parametrize("wrap", WAYS)
@pytest.mark.parametrize("rank", [4, 0])
def test_berts_recorded_steps_equal_plain_ones(wrap, rank):
    """Batches of queries, with all dropouts."""
    with np.load(make_bert_oracle.PATH) as file:
        oracle = dict(file)
    batches = [make_bert_oracle.batch_of(make_bert_oracle.QUERIES[::order], make_bert_oracle.TYPES[::order],
                                         make_bert_oracle.TARGETS[::order], step_key(1, step))
               for step, order in enumerate((1, -1, 1, -1))]
    results = []
    for each in (plain, wrap):
        parsed = flags(rank, backbone_dropout=0.1, head_dropout=0.1, lora_dropout=0.1)
        model = bert_of(oracle, parsed)
        train, _ = each(*steps_of(model, build_optimizer(parsed, model), parsed))
        results.append([float(train(batch, 0.001, True)) for batch in batches])
    assert results[1] == pytest.approx(results[0], rel=1e-5)
