"""Training of all weights (``--lora_dim 0``) of GPT-2, on the tree under test; BERT's is in test_bert.py."""

import json

import numpy as np
import pytest

from common.model.initial_weights import random_backbone
from common.model.lora_file import read_checkpoint
from common.model.model_cards import MODEL_CARDS
from common.run.arguments import beam_arguments
from common.run.batching import make_batch
from common.run.searching import load_merged
from tests import DEVICE
from tests.oracles.make_oracle import ROWS
from tests.trees.small_model import arguments, arrays_of, backbone_and_lora, part

import device
import gpt2_ft
from gpt2_ft import build_model, build_optimizer, train_step
from lora import trained_state_dict

pytestmark = pytest.mark.usefixtures("on_device")


def model_of(oracle, parsed):
    return build_model(parsed, backbone_and_lora(oracle)[0], {})


def test_loss_and_gradients(oracle, allowed):
    """Those of transformers' model; a step of size 0 leaves the gradient in the first moment."""
    parsed = arguments("--lora_dim", "0", "--weight_decay", "0")
    model = model_of(oracle, parsed)
    optimizer = build_optimizer(parsed, model)
    loss = train_step(model, optimizer, parsed, arrays_of(make_batch(ROWS, 48)), 0.0, is_update=True)
    assert float(loss) == pytest.approx(float(oracle["all/loss"]), rel=allowed(1e-6))
    expected = part(oracle, "all/gradients/")
    names = [name for name, _ in model.named_parameters()]
    assert sorted(names) == sorted(expected)
    found = np.concatenate([device.to_numpy(moment).reshape(-1) for moment in optimizer.first_moments])
    ends = np.cumsum([expected[name].size for name in names])
    # The gradient of the keys' bias is zero but for rounding: elements are held to the largest of all arrays too.
    largest = max(np.abs(array).max() for array in expected.values())
    for name, gradient in zip(names, np.split(found / (1 - parsed.adam_beta1), ends[:-1]), strict=True):
        error = np.abs(gradient - expected[name].reshape(-1)).max()
        assert error <= allowed(1e-5) * max(np.abs(expected[name]).max(), 1e-2 * largest), name


@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=pytest.mark.slow),
                                       pytest.param("fp16", marks=pytest.mark.slow)])
def test_losses_fall_and_are_alike_in_each_precision(oracle, precision):
    losses = {}
    for name in dict.fromkeys(("fp32", precision)):
        device.set_up(DEVICE, 1, name)
        parsed = arguments("--lora_dim", "0", "--clip", "1", *(() if name == "fp32" else (f"--{name}",)))
        model, batch = model_of(oracle, parsed), arrays_of(make_batch(ROWS, 48))
        optimizer = build_optimizer(parsed, model)
        losses[name] = np.array([float(train_step(model, optimizer, parsed, batch, 0.002, True)) for _ in range(10)])
    assert losses["fp32"][-1] < 0.8 * losses["fp32"][0]
    digits = {"fp32": 24, "bf16": 8, "fp16": 11}[precision]
    assert np.abs(losses[precision] / losses["fp32"] - 1).max() < 4 * 2.0 ** -digits


def test_everything_moves(oracle):
    parsed = arguments("--lora_dim", "0")
    model = model_of(oracle, parsed)
    before = trained_state_dict(model, lambda name: True)
    train_step(model, build_optimizer(parsed, model), parsed, arrays_of(make_batch(ROWS, 48)), 0.1, is_update=True)
    for name, array in trained_state_dict(model, lambda name: True).items():
        assert not np.array_equal(array, before[name]), name


@pytest.mark.slow
def test_the_checkpoint_is_a_backbone_that_beam_search_reads(tmp_path):
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps({"context": [7, 8], "completion": [9, row, 50256]}) + "\n" for row in range(4)))
    common = ["--model_card", "gpt2.nano", "--lora_dim", "0", "--work_dir", str(tmp_path), "--device", DEVICE]
    gpt2_ft.main([*common, "--train_data", str(data), "--valid_data", str(data), "--init_checkpoint", "random",
                  "--max_step", "2", "--train_batch_size", "2", "--lr", "0.001", "--scheduler", "constant"])
    path = tmp_path / "model.2.safetensors"
    arrays, lora, record = read_checkpoint(path)
    assert not lora and record.lora_dim == 0 and record.step == 2
    card = MODEL_CARDS["gpt2.nano"]
    first = random_backbone(card)
    assert arrays.keys() == first.keys() and not np.array_equal(arrays["transformer.wte.weight"],
                                                               first["transformer.wte.weight"])
    merged = load_merged(beam_arguments([*common, "--data", str(data), "--init_checkpoint", str(path)], ""))
    assert all(np.array_equal(merged[name], array) for name, array in arrays.items())
