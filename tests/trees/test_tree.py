"""Checks that both trees share, on the tree under test: against tests/oracles/oracle.npz and the plain beam search."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common.model.lora_arrays import LoraSettings, initial_lora, lora_shapes, merge_lora
from common.paths import ROOT
from common.run.batching import converted, make_batch, pack
from common.run.beam_search import SearchSettings, search
from common.run.dropout import Dropout, is_kept, step_key
from tests import DEVICE, FRAMEWORK
from tests.oracles.make_oracle import CARD, OPTIMIZER, ROWS, SETTINGS, STEPS, places_of_tokens
from tests.oracles.plain_beam_search import plain_search
from tests.trees.small_model import (
    arguments,
    arrays_of,
    backbone_and_lora,
    flat,
    model_of,
    part,
    relative_error,
)

import device
import kernels
from gpt2_beam import build_search_model
from gpt2_ft import build_optimizer, train_step, validation_step
from lora import MergedLinear, lora_state_dict
from model import GPT2LMModel

pytestmark = pytest.mark.usefixtures("on_device")


def test_only_the_sources_of_the_tree_under_test_are_on_the_path():
    assert device.FRAMEWORK == FRAMEWORK
    folders = [Path(folder).resolve() for folder in sys.path]
    assert [folder for folder in folders if folder.parent.parent == ROOT and folder.name == "src"] == [
        ROOT / f"NLG_{FRAMEWORK}" / "src"]


def test_logits(oracle, allowed):
    parsed = arguments()
    model, batch = model_of(oracle, parsed), make_batch(ROWS, 48)
    hidden, _ = model.transformer(converted(batch, device.from_numpy))
    expected = oracle["logits"][places_of_tokens(batch)]
    assert np.abs(device.to_numpy(model.logits(hidden)) - expected).max() <= allowed(1e-4)


def test_validation_loss(oracle, allowed):
    model = model_of(oracle, arguments())
    loss = float(validation_step(model, arrays_of(make_batch(ROWS, 48))))
    assert loss == pytest.approx(float(oracle["validation_loss"]), rel=allowed(1e-6))


def test_neighbours_change_nothing(oracle, allowed):
    """Batches of one row, put together, have the sum of their losses."""
    model = model_of(oracle, arguments())
    together = float(validation_step(model, arrays_of(make_batch(ROWS, 48, batch_size=1))))
    alone = [float(validation_step(model, arrays_of(make_batch([row], 48)))) for row in ROWS]
    assert together == pytest.approx(sum(alone), rel=allowed(1e-6))


def test_loss_and_gradients(oracle, allowed):
    """A step of size 0 leaves the gradient in the first moment, divided by 1 - beta1."""
    parsed, batch = arguments("--weight_decay", "0"), make_batch(ROWS, 48)
    model = model_of(oracle, parsed)
    optimizer = build_optimizer(parsed, model)
    loss = train_step(model, optimizer, parsed, arrays_of(batch), 0.0, True)
    assert float(loss) == pytest.approx(oracle["losses"][0], rel=allowed(1e-6))
    expected = part(oracle, "gradients/")
    names = [name for name, _ in model.named_parameters() if "lora_" in name]
    assert sorted(names) == sorted(expected)
    found = flat(map(device.to_numpy, optimizer.first_moments)) / (1 - parsed.adam_beta1)
    ends = np.cumsum([expected[name].size for name in names])
    for name, gradient in zip(names, np.split(found, ends[:-1]), strict=True):
        assert relative_error(gradient, expected[name].reshape(-1)) < allowed(1e-5), name


def test_ten_steps_of_adamw(oracle, allowed):
    parsed = arguments("--weight_decay", str(OPTIMIZER["weight_decay"]))
    model, batch = model_of(oracle, parsed), make_batch(ROWS, 48)
    optimizer = build_optimizer(parsed, model)
    losses = [float(train_step(model, optimizer, parsed, arrays_of(batch), OPTIMIZER["learning_rate"], True))
              for _ in range(STEPS)]
    assert losses == pytest.approx(oracle["losses"].tolist(), rel=allowed(1e-5))
    trained = lora_state_dict(model)
    for name, expected in part(oracle, "trained/").items():
        assert relative_error(trained[name], expected) < max(allowed(1e-3), 2.0 ** -24), name  # it is of float32


def test_gradients_add_up_over_micro_batches(oracle):
    """Two halves of a batch with equally many loss positions, accumulated, make the whole batch's step."""
    rows = [ROWS[0], ROWS[0], ROWS[1], ROWS[1]]
    results = []
    for batches, flags in (([rows], ()), ([[rows[0], rows[2]], [rows[1], rows[3]]], ("--grad_acc", "2"))):
        parsed = arguments("--clip", "0.5", *flags)
        model = model_of(oracle, parsed)
        optimizer = build_optimizer(parsed, model)
        for index, batch in enumerate(batches):
            train_step(model, optimizer, parsed, arrays_of(make_batch(batch, 48)), 0.01, index == len(batches) - 1)
        results.append(lora_state_dict(model))
    assert optimizer.step_count == 1
    for name in results[0]:
        assert relative_error(results[1][name], results[0][name]) < 1e-4, name


def test_clipping_bounds_the_joint_norm(oracle):
    parsed = arguments("--clip", "0.01", "--weight_decay", "0")
    model = model_of(oracle, parsed)
    optimizer = build_optimizer(parsed, model)
    train_step(model, optimizer, parsed, arrays_of(make_batch(ROWS, 48)), 0.0, True)
    norm = np.sqrt(sum((device.to_numpy(moment).astype(np.float64) ** 2).sum() for moment in optimizer.first_moments))
    assert norm / (1 - parsed.adam_beta1) == pytest.approx(0.01, rel=1e-3)


def losses_in(precision, oracle, steps=20):
    """The losses of a training run without dropout in some precision."""
    device.set_up(DEVICE, 1, precision)
    flags = () if precision == "fp32" else (f"--{precision}",)
    parsed = arguments("--clip", "1", *flags)
    model, batch = model_of(oracle, parsed), make_batch(ROWS, 48)
    optimizer = build_optimizer(parsed, model)
    losses = [float(train_step(model, optimizer, parsed, arrays_of(batch), 0.005, True)) for _ in range(steps)]
    assert device.describe()["precision"] == precision
    return np.array(losses)


@pytest.mark.slow
@pytest.mark.parametrize("precision, digits", [
    ("bf16", 8), ("fp16", 11), pytest.param("tf32", 11, marks=pytest.mark.gpu)])
def test_losses_in_other_precisions(oracle, precision, digits):
    """Near those of fp32, but not the same; ``digits`` is the length of the significand in bits."""
    expected, found = losses_in("fp32", oracle), losses_in(precision, oracle)
    assert expected[-1] < 0.8 * expected[0]
    assert not np.array_equal(found, expected)
    assert np.abs(found / expected - 1).max() < 4 * 2.0 ** -digits


def test_an_overflow_leaves_the_step_out_and_halves_the_scale(oracle):
    device.set_up(DEVICE, 1, "fp16")
    parsed, batch = arguments("--fp16", "--clip", "1"), make_batch(ROWS, 48)
    model = model_of(oracle, parsed)
    optimizer = build_optimizer(parsed, model)
    optimizer.loss_scale *= 2.0 ** 200
    before = lora_state_dict(model)
    train_step(model, optimizer, parsed, arrays_of(batch), 0.01, True)
    assert float(optimizer.loss_scale) == optimizer.first_scale * 2.0 ** 199 and optimizer.step_count == 0
    after = lora_state_dict(model)
    assert all(np.array_equal(after[name], before[name]) for name in before)
    assert not any(device.to_numpy(moment).any() for moment in optimizer.first_moments)
    optimizer.loss_scale /= 2.0 ** 199
    optimizer.good_steps += optimizer.growth_interval - 1
    train_step(model, optimizer, parsed, arrays_of(batch), 0.01, True)
    assert float(optimizer.loss_scale) == 2 * optimizer.first_scale
    assert optimizer.step_count == 1 and optimizer.good_steps == 0
    assert not all(np.array_equal(lora_state_dict(model)[name], before[name]) for name in before)


def test_only_lora_moves(oracle):
    parsed = arguments("--lora_dropout", "0.5")
    model = model_of(oracle, parsed)
    train_step(model, build_optimizer(parsed, model), parsed, arrays_of(make_batch(ROWS, 48)), 0.1, True)
    for name, parameter in model.named_parameters():
        moved = not np.array_equal(device.to_numpy(parameter), oracle[f"weights/{name}"])
        assert moved == ("lora_" in name), name


def test_dropout_acts_in_training_alone(oracle):
    parsed, batch = arguments("--lora_dropout", "0.5"), make_batch(ROWS, 48)
    model = model_of(oracle, parsed)
    optimizer = build_optimizer(parsed, model)
    training = [float(train_step(model, optimizer, parsed, arrays_of(replace(batch, step_key=step_key(1, step))), 0.0,
                                 True)) for step in (1, 2, 1)]
    assert training[0] == training[2] != training[1]
    assert float(validation_step(model, arrays_of(batch))) == pytest.approx(float(oracle["validation_loss"]), rel=1e-6)


@pytest.mark.parametrize("probability, stream, width", [(0.1, 0, 192), (0.5, 31, 1100), (0.9, 3, 8)])
def test_masks_are_those_of_the_plain_twin(probability, stream, width, allowed):
    batch = make_batch(ROWS, 48, step_key=step_key(110, 7), first_row=3)
    x = np.random.RandomState(0).randn(len(batch.input_ids), width).astype(np.float32)
    keys = converted(batch, device.from_numpy)
    found = kernels.dropped_out(device.from_numpy(x), Dropout(probability, stream, keys.step_key, keys.token_keys))
    plain = Dropout(probability, stream, batch.step_key, batch.token_keys)
    found = device.to_numpy(found)
    expected = np.where(is_kept(plain, width), x.astype(found.dtype) * found.dtype.type(plain.kept_factor), 0)
    np.testing.assert_array_equal(found, expected)


def test_each_layer_drops_by_its_own_stream():
    """The layers are numbered as the model runs them, with or without an update."""
    settings = LoraSettings(rank=2, alpha=4, dropout=0.5, targets=("k", "proj"))
    model = device.to_device(GPT2LMModel(CARD, settings))
    streams = {name: module.stream for name, module in model.named_modules() if isinstance(module, MergedLinear)}
    order = [f"transformer.h.{layer}.{name}" for layer in range(CARD.layers)
             for name in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")]
    assert streams == {name: stream for stream, name in enumerate(order)}


def test_a_layer_with_dropout_computes_its_formula(allowed):
    width, batch = 12, make_batch(ROWS, 48, step_key=step_key(1, 1))
    generator = np.random.RandomState(3)
    layer = MergedLinear(width, 2 * width, r=3, lora_alpha=6, lora_dropout=0.25, enable_lora=(False, True))
    weight, bias, lora_a, lora_b = (generator.randn(*shape).astype(np.float32) for shape in (
        (width, 2 * width), (2 * width,), (3, width), (width, 3)))
    layer.load_state_dict({name: device.from_numpy(array) for name, array in (
        ("weight", weight), ("bias", bias), ("lora_A", lora_a), ("lora_B", lora_b))})
    layer = device.to_device(layer)
    layer.stream = 5
    layer.train()
    x = generator.randn(len(batch.input_ids), width).astype(np.float32)
    found = device.to_numpy(layer(device.from_numpy(x), converted(batch, device.from_numpy)))
    mask = is_kept(Dropout(0.25, 5, batch.step_key, batch.token_keys), width) / 0.75
    expected = x.astype(np.float64) @ weight + bias
    expected[:, width:] += 6 / 3 * (x * mask) @ lora_a.T @ lora_b.T
    assert relative_error(found, expected) < allowed(1e-6)


@pytest.mark.parametrize("targets", [("q", "v"), ("k",), ("q", "k", "v", "o", "fc", "proj")])
def test_merged_weights_equal_the_layers(oracle, targets):
    settings = LoraSettings(rank=2, alpha=8, targets=targets)
    generator = np.random.RandomState(0)
    backbone, _ = backbone_and_lora(oracle)
    lora = {name: (0.1 * generator.randn(*shape)).astype(np.float32)
            for name, shape in lora_shapes(CARD, settings).items()}
    model = device.to_device(GPT2LMModel(CARD, settings))
    assert {name for name, _ in model.named_parameters()} == set(backbone) | set(lora)
    model.load_arrays({**backbone, **lora})
    merged = device.to_device(GPT2LMModel(CARD))
    merged.load_arrays(merge_lora(backbone, lora, settings))
    batch = converted(make_batch(ROWS, 48), device.from_numpy)
    first, second = (device.to_numpy(each.transformer(batch)[0]) for each in (model, merged))
    assert np.abs(first - second).max() < 1e-4


def output_of(arrays, x, **lora):
    """What a query-key-value projection with these arrays makes of ``x (rows, width)``."""
    layer = MergedLinear(CARD.width, 3 * CARD.width, **lora)
    layer.load_state_dict({name: device.from_numpy(array) for name, array in arrays.items()})
    return device.to_numpy(device.to_device(layer)(device.from_numpy(x)))


def test_lora_starts_without_effect(oracle):
    backbone, _ = backbone_and_lora(oracle)
    prefix = "transformer.h.0.attn.c_attn."
    plain = part(backbone, prefix)
    first = {**plain, **part(initial_lora(CARD, SETTINGS, 5), prefix)}
    assert 0 < np.abs(first["lora_A"]).max() <= CARD.width ** -0.5
    x = np.random.RandomState(0).randn(7, CARD.width).astype(np.float32)
    lora = {"r": SETTINGS.rank, "lora_alpha": SETTINGS.alpha, "enable_lora": (True, False, True)}
    expected = output_of(plain, x)
    assert relative_error(expected, x.astype(np.float64) @ plain["weight"] + plain["bias"]) < 1e-6
    assert relative_error(output_of(first, x, **lora), expected) < 1e-6
    moved = output_of({**first, "lora_B": first["lora_B"] + np.float32(0.01)}, x, **lora)
    changes = np.abs(moved - expected).reshape(len(x), 3, -1).max(axis=(0, 2))  # of queries, keys and values
    assert changes[0] > 0.01 and changes[2] > 0.01 and changes[1] < 1e-5


SEARCHES = [
    SearchSettings(beam=3, eval_len=20, length_penalty=0.8, eos_token_id=(96,)),
    SearchSettings(beam=4, eval_len=8, length_penalty=0.8, no_repeat_ngram_size=2, eos_token_id=(96, 50)),
    SearchSettings(beam=3, eval_len=8, repetition_penalty=1.5, min_length=5, eos_token_id=(96,)),
    SearchSettings(beam=1, eval_len=5, eos_token_id=(96,)),
]
CONTEXTS = [[5, 17, 3, 96], [8, 96], [1, 2, 3, 4, 5, 6, 7, 96], [33]]


@pytest.mark.slow
@pytest.mark.parametrize("settings", SEARCHES)
def test_beam_search_equals_the_plain_one(oracle, settings, allowed):
    kernels.free_positions_mask.cache_clear()  # they are of the precision before
    arrays = merge_lora(*backbone_and_lora(oracle), SETTINGS)
    model = device.to_device(GPT2LMModel(CARD))
    model.load_arrays(arrays)

    def logits_of(ids):
        hidden, _ = model.transformer(converted(pack([ids]), device.from_numpy))
        return device.to_numpy(model.logits(hidden))[-1]

    searched = build_search_model(CARD, arrays)
    together, scores = search(searched, CONTEXTS, settings)
    for context, output, score in zip(CONTEXTS, together, scores):
        expected, expected_score = plain_search(logits_of, context, settings)
        assert output.tolist() == expected
        assert score == pytest.approx(expected_score, rel=allowed(1e-4))
        assert search(searched, [context], settings)[0][0].tolist() == expected
