"""Checks of BERT that both trees share, on the tree under test: against tests/oracles/bert_oracle.npz."""

import numpy as np
import pytest

from common.model.bert_cards import BERT_CARDS, HEAD_NAMES, is_trained
from common.model.bert_files import checked_minilm, package_folder, read_bert
from common.run.dropout import step_key
from tests import DEVICE
from tests.oracles import make_bert_oracle
from tests.oracles.make_bert_oracle import CARD, QUERIES, SETTINGS, TARGETS, TYPES, batch_of
from tests.trees.small_bert import flags, model_of
from tests.trees.small_model import arrays_of, part, relative_error

import device
import encoder_kernels
from bert import BertSpanModel
from bert_eae_ft import evaluate
from gpt2_ft import build_optimizer, train_step, validation_step
from lora import HiddenDropout, MergedLinear, trained_state_dict

pytestmark = pytest.mark.usefixtures("on_device")


@pytest.fixture(scope="module")
def bert_oracle():
    """The arrays of tests/oracles/make_bert_oracle.py by name."""
    with np.load(make_bert_oracle.PATH) as file:
        return dict(file)


BATCH = batch_of(QUERIES, TYPES, TARGETS)


def test_logits(bert_oracle, allowed):
    found = evaluate(model_of(bert_oracle, flags()), BATCH)
    assert np.abs(found - bert_oracle["logits"]).max() <= allowed(1e-5)


def test_minilm_gives_transformers_hidden_states(bert_oracle):
    if package_folder() is None:
        pytest.skip("the package with MiniLM's weights is not installed: run scripts/setup.sh")
    card = BERT_CARDS["bert.minilm"]
    model = BertSpanModel(card)
    model.load_arrays(read_bert(checked_minilm(package_folder()), card))
    model = device.to_device(model)
    model.eval()
    batch = arrays_of(batch_of(make_bert_oracle.MINILM_QUERIES, make_bert_oracle.MINILM_TYPES))
    found = device.to_numpy(model.bert(batch, encoder_kernels.layout_of(batch)))
    assert np.abs(found - bert_oracle["minilm/hidden"]).max() <= 1e-5


def test_validation_loss(bert_oracle, allowed):
    loss = float(validation_step(model_of(bert_oracle, flags()), arrays_of(BATCH)))
    assert loss == pytest.approx(float(bert_oracle["validation_loss"]), rel=allowed(1e-6))


@pytest.mark.parametrize("rank, heads, prefix", [(SETTINGS.rank, "trained", ""), (SETTINGS.rank, "frozen", ""),
                                                 (0, "trained", "all/")])
def test_loss_and_gradients(bert_oracle, rank, heads, prefix, allowed):
    """LoRA's are those of PEFT's query and value, all others those of transformers' model."""
    arguments = flags(rank, heads)
    model = model_of(bert_oracle, arguments)
    optimizer = build_optimizer(arguments, model)
    names = [name for name, _ in model.named_parameters() if is_trained(name, rank, heads)]
    loss = train_step(model, optimizer, arguments, arrays_of(BATCH), 0.0, is_update=True)
    assert float(loss) == pytest.approx(float(bert_oracle[prefix + "loss"]), rel=allowed(1e-6))
    expected = {name: array for name, array in part(bert_oracle, prefix + "gradients/").items()
                if heads == "trained" or name not in HEAD_NAMES}
    assert sorted(names) == sorted(expected)
    found = np.concatenate([device.to_numpy(moment).reshape(-1) for moment in optimizer.first_moments])
    ends = np.cumsum([expected[name].size for name in names])
    # Gradients that are zero but for rounding (of the keys' bias) are held to the largest of all.
    largest = max(np.abs(array).max() for array in expected.values())
    for name, gradient in zip(names, np.split(found / (1 - arguments.adam_beta1), ends[:-1]), strict=True):
        error = np.abs(gradient - expected[name].reshape(-1)).max()
        assert error <= allowed(1e-5) * max(np.abs(expected[name]).max(), 1e-2 * largest), name


@pytest.mark.parametrize("rank, heads", [(SETTINGS.rank, "trained"), (SETTINGS.rank, "frozen"), (0, "trained")])
def test_what_is_trained_moves_and_nothing_else(bert_oracle, rank, heads):
    arguments = flags(rank, heads, backbone_dropout=0.1, head_dropout=0.3, lora_dropout=0.1)
    model = model_of(bert_oracle, arguments)
    before = trained_state_dict(model, lambda name: True)
    train_step(model, build_optimizer(arguments, model), arguments, arrays_of(BATCH), 0.1, is_update=True)
    for name, array in trained_state_dict(model, lambda name: True).items():
        # A softmax over places does not see the heads' bias, whose gradient is zero but for rounding.
        if name != "heads.bias" or heads == "frozen":
            assert np.array_equal(array, before[name]) != is_trained(name, rank, heads), name


def test_neighbours_and_filling_change_nothing(bert_oracle, allowed):
    model = model_of(bert_oracle, flags())
    alone = [evaluate(model, batch_of([query], [types])) for query, types in zip(QUERIES, TYPES)]
    together = evaluate(model, BATCH.padded(64))[:len(BATCH.input_ids)]
    assert np.abs(np.concatenate(alone) - together).max() <= allowed(1e-5)
    losses = [float(validation_step(model, arrays_of(batch))) for batch in (BATCH, BATCH.padded(64))]
    assert losses[0] == pytest.approx(losses[1], rel=allowed(1e-6))


def test_filling_changes_no_gradient(bert_oracle, allowed):
    """With dropout, whose attention another part of the PyTorch tree computes."""
    arguments, found = flags(0, backbone_dropout=0.3, head_dropout=0.3), []
    for batch in (BATCH, BATCH.padded(64)):
        model = model_of(bert_oracle, arguments)
        optimizer = build_optimizer(arguments, model)
        train_step(model, optimizer, arguments, arrays_of(batch), 0.0, is_update=True)
        found.append(np.concatenate([device.to_numpy(moment).reshape(-1) for moment in optimizer.first_moments]))
    assert relative_error(found[1], found[0]) < allowed(1e-5)


def test_dropout_acts_in_training_alone(bert_oracle):
    arguments = flags(backbone_dropout=0.1)
    model = model_of(bert_oracle, arguments)
    optimizer = build_optimizer(arguments, model)
    batches = [batch_of(QUERIES, TYPES, TARGETS, step_key(1, step)) for step in (1, 2, 1)]
    losses = [float(train_step(model, optimizer, arguments, arrays_of(batch), 0.0, True)) for batch in batches]
    assert losses[0] == losses[2] != losses[1]
    assert float(validation_step(model, arrays_of(BATCH))) == pytest.approx(float(bert_oracle["validation_loss"]),
                                                                           rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("rank, heads", [(SETTINGS.rank, "frozen"), (0, "trained")])
@pytest.mark.parametrize("precision, digits", [
    ("bf16", 8), ("fp16", 11), pytest.param("tf32", 11, marks=pytest.mark.gpu)])
def test_losses_in_other_precisions(bert_oracle, precision, digits, rank, heads):
    """Near those of fp32 but not the same; ``digits`` is the length of the significand in bits."""
    found = {}
    for name in ("fp32", precision):
        device.set_up(DEVICE, 1, name)
        arguments = flags(rank, heads, precision=name, backbone_dropout=0.1, lora_dropout=0.1, clip=1.0)
        model = model_of(bert_oracle, arguments)
        optimizer = build_optimizer(arguments, model)
        if name == "fp16":  # 65536 times these gradients overflow, and the first steps would be left out
            optimizer.loss_scale /= 2.0 ** 8
        found[name] = np.array([float(train_step(model, optimizer, arguments, arrays_of(
            batch_of(QUERIES, TYPES, TARGETS, step_key(1, step))), 0.002, True)) for step in range(8)])
    assert not np.array_equal(*found.values())
    assert np.abs(found[precision] / found["fp32"] - 1).max() < 4 * 2.0 ** -digits


def test_each_layer_drops_by_its_own_stream():
    model = device.to_device(BertSpanModel(CARD, SETTINGS, 0.1, 0.1))
    streams = {name: module.stream for name, module in model.named_modules()
               if isinstance(module, (MergedLinear, HiddenDropout))}
    names = ("attention.query_key_value", "attention.weights_dropout", "attention.output", "attention.dropout",
             "feed_forward.intermediate", "feed_forward.output", "feed_forward.dropout")
    order = ["bert.embeddings.dropout", *(f"bert.layers.{layer}.{name}" for layer in range(CARD.layers)
                                          for name in names), "dropout", "heads"]
    assert streams == {name: stream for stream, name in enumerate(order)}


def test_states_go_back_to_the_arrays_they_came_from(bert_oracle):
    model = model_of(bert_oracle, flags())
    found = trained_state_dict(model, lambda name: True)
    expected = part(bert_oracle, "weights/")
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
