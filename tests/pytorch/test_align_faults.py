"""Planted faults: a dump of the PyTorch tree with one fault is compared with its own without; align names the fault."""

import pytest
import torch
from torch.nn import functional as F

import common.run.batching
from common.align.bounds import BOUNDS
from common.align.collect import run_dump
from common.align.compare import SINGLE_STEP, compare
from common.align.dump import Dump
from common.errors import UserError
from common.files import write_json_lines
from common.run.arguments import alignment_arguments
from common.run.dropout import Dropout
from tests import DEVICE
from tests.oracles.make_oracle import CARD, ROWS
from tests.trees.small_model import backbone_and_lora

import align
import device
import gpt2_ft
import kernels
import lora
import model
import optimizer
from kernel_sources import cpu_dropout

pytestmark = [pytest.mark.usefixtures("on_device"), pytest.mark.slow]
LAST = CARD.layers - 1


@pytest.fixture(scope="module")
def make_dump(tmp_path_factory, oracle):
    """``make_dump(name, *flags)`` writes a dump of the oracle's small model and returns it."""
    folder = tmp_path_factory.mktemp("dumps")
    write_json_lines(folder / "rows.jsonl", map(vars, ROWS * 3))

    def make(name, *flags):
        rows, path = str(folder / "rows.jsonl"), folder / f"{name}.npz"
        arguments = alignment_arguments(
            ["--output", str(path), "--train_data", rows, "--valid_data", rows, "--test_data", rows,
             "--init_checkpoint", "random", "--model_card", "gpt2.nano", "--seq_len", "48", "--train_batch_size", "2",
             "--steps", "4", "--max_step", "4", "--lr", "0.01", "--correct_bias", "--clip", "1",
             "--lora_dropout", "0.1", "--label_smooth", "0.1", "--contexts", "2", "--beam", "3", "--eval_len",
             "8", "--eos_token_id", "96", *map(str, flags)], "")
        arguments.card = CARD
        backbone, first = backbone_and_lora(oracle)
        run_dump(arguments, backbone, first, align.probes_of(arguments, backbone))
        return Dump(path)
    return make


@pytest.fixture(scope="module")
def right(make_dump):
    return make_dump("right")


@pytest.fixture
def found(make_dump, right):
    """``found()`` compares a dump of the tree as it is now, with all its faults, with the right one."""
    return lambda *flags: compare(right, make_dump("wrong", "--inputs", right.path, *flags))


def failed(parts):
    return [part.name for part in parts if not part.passed]


def first_cause(comparison):
    return next(cause.first for cause in comparison.causes if not cause.passed)


def point(comparison, name):
    return next(point for point in comparison.points if point.name == name)


def test_a_dump_equals_itself_and_what_is_made_again(right, found):
    for comparison in (compare(right, right), found()):
        assert comparison.passed and not comparison.first_operation
        assert all(point.measured == 0 for point in comparison.points)
    assert SINGLE_STEP in [point.name for point in comparison.points]


def test_a_wrong_epsilon_of_layer_norm(monkeypatch, found):
    monkeypatch.setattr(kernels, "layer_norm",
                        lambda x, weight, bias, eps: F.layer_norm(x, weight.shape, weight, bias, eps=1e-4))
    comparison = found()
    assert not failed(comparison.causes)
    assert comparison.first_operation == "transformer.h.0.ln_1 (forward, single-step)"
    assert point(comparison, "forward").first == "transformer.h.0.ln_1"
    wrong = [each.name for each in point(comparison, SINGLE_STEP).differences if each.relative > 4e-6]
    assert wrong and all(".ln_" in name and name.endswith(".output") for name in wrong)


def test_the_erf_form_of_gelu(monkeypatch, found):
    monkeypatch.setattr(kernels, "gelu", F.gelu)
    comparison = found()
    assert comparison.first_operation.startswith("kernels.gelu before transformer.h.0.mlp.c_proj")
    wrong = [each.name for each in point(comparison, SINGLE_STEP).differences if each.relative > 4e-6]
    assert wrong == [f"transformer.h.{layer}.mlp.c_proj.input" for layer in range(CARD.layers)]


def test_an_operation_of_float32_among_those_of_float64(monkeypatch, make_dump):
    """Its rounding is below all that float32's own bounds and noise floor let pass."""
    device.set_up(DEVICE, 1, "fp64")
    right, plain = make_dump("right_fp64", "--fp64"), kernels.gelu
    assert right["forward/logits"].dtype == right["optimiser/change/transformer.h.0.attn.c_attn.lora_A"].dtype == float
    monkeypatch.setattr(kernels, "gelu", lambda x: plain(x.float()).double())
    comparison = compare(right, make_dump("wrong_fp64", "--fp64", "--inputs", right.path))
    assert comparison.first_operation.startswith("kernels.gelu before transformer.h.0.mlp.c_proj")
    assert not point(comparison, "steps").passed and point(comparison, "steps").measured < BOUNDS["steps"].value


def test_masks_off_by_one_layer(monkeypatch, found):
    def number_from_one(whole):
        for stream, layer in enumerate((each for each in whole.modules() if isinstance(each, lora.MergedLinear)), 1):
            layer.stream = stream
    monkeypatch.setattr(model, "number_layers", number_from_one)
    comparison = found()
    assert failed(comparison.causes) == ["dropout masks"]
    assert first_cause(comparison) == "transformer.h.0.attn.c_attn in step 1"
    assert comparison.first_operation.startswith("transformer.h.0.attn.c_attn ")


def test_another_mask_than_the_layer_says(monkeypatch, found):
    """The dump's own masks are right: the forward pass alone shows it."""
    monkeypatch.setattr(lora, "Dropout", lambda probability, stream, *keys: Dropout(probability, stream + 1, *keys))
    comparison = found()
    assert not failed(comparison.causes)
    assert comparison.first_operation.startswith("transformer.h.0.attn.c_attn ")


def test_masks_of_another_hash(monkeypatch, found):
    monkeypatch.setattr(cpu_dropout, "TOKEN", cpu_dropout.TOKEN + 2)
    comparison = found()
    assert failed(comparison.causes) == ["dropout masks", "dropout masks against numpy"]
    assert comparison.causes[4].first == "transformer.h.0.attn.c_attn in step 1, pytorch"


def test_a_missing_label_smoothing(monkeypatch, found):
    plain = kernels.token_losses
    monkeypatch.setattr(kernels, "token_losses", lambda hidden, weight, targets, _: plain(hidden, weight, targets, 0.0))
    comparison = found()
    assert comparison.first_operation == "the loss (loss)"
    assert point(comparison, "forward").passed and point(comparison, SINGLE_STEP).passed


def test_another_order_of_batches(monkeypatch, found):
    order = common.run.batching.epoch_order
    monkeypatch.setattr(common.run.batching, "epoch_order", lambda *words, **more: order(*words, **more)[::-1])
    comparison = found()
    assert failed(comparison.causes) == ["batches", "dropout masks"]  # a mask has the shape of its batch
    assert first_cause(comparison) == "input_ids of step 1"
    # What follows has the batches' own shapes; the beam search has the right one's weights all the same.
    assert not point(comparison, "forward").passed and point(comparison, "beam").passed
    assert SINGLE_STEP not in [point.name for point in comparison.points]


def test_a_wrong_gradient_of_gelu(monkeypatch, found):
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(context, x):
            context.save_for_backward(x)
            return F.gelu(x, approximate="tanh")

        @staticmethod
        def backward(context, gradient):
            return gradient * torch.sigmoid(1.702 * context.saved_tensors[0])

    monkeypatch.setattr(kernels, "gelu", Wrong.apply)
    comparison = found()
    expected = f"the gradient through kernels.gelu before transformer.h.{LAST}.mlp.c_proj (backward)"
    assert comparison.first_operation == expected
    assert point(comparison, "forward").passed and point(comparison, "loss").passed


def test_a_missing_weight_decay(monkeypatch, found):
    """A ten-thousandth of what an update changes: no moment and no loss of a few steps shows it."""
    init = optimizer.AdamW.__init__

    def without(self, parameters, beta1, beta2, eps, weight_decay, *others, **more):
        init(self, parameters, beta1, beta2, eps, 0.0, *others, **more)
    monkeypatch.setattr(optimizer.AdamW, "__init__", without)
    comparison = found()
    assert comparison.first_operation == "the change of transformer.h.0.attn.c_attn.lora_A (optimiser)"


def test_a_clipping_left_out(monkeypatch, found):
    monkeypatch.setattr(gpt2_ft, "update", lambda optimizer, arguments, rate: optimizer.step(rate))
    monkeypatch.setattr(align, "update", gpt2_ft.update)
    comparison = found()
    assert point(comparison, "backward").passed
    assert comparison.first_operation == "the first moment of transformer.h.0.attn.c_attn.lora_A (optimiser)"


def test_a_warm_up_left_out(monkeypatch, found):
    """What differs behind the first update is found by the steps, the first one after it."""
    step = optimizer.AdamW.step
    monkeypatch.setattr(optimizer.AdamW, "step", lambda self, rate: step(self, rate * (1.0 + 0.01 * self.step_count)))
    comparison = found()
    assert comparison.first_operation.endswith("(steps)")
    assert point(comparison, "optimiser").passed


def test_a_wrong_score_of_the_beam_search(monkeypatch, found):
    right = kernels.top_k

    def wrong(log_probabilities, count):
        values, tokens = right(log_probabilities, count)
        return 1.001 * values, tokens

    monkeypatch.setattr(kernels, "top_k", wrong)
    comparison = found()
    assert comparison.first_operation == "context 1 (beam)"
    assert failed(comparison.points) == ["beam"]


def test_dumps_of_different_flags_are_refused(make_dump, right):
    with pytest.raises(UserError, match=r"--lr 0.01, .* with --lr 0.02"):
        compare(right, make_dump("other", "--lr", "0.02"))


def test_inputs_of_different_flags_are_refused_before_anything_is_computed(make_dump, right):
    with pytest.raises(UserError, match=r"--beam 3, .* with --beam 2"):
        make_dump("other", "--beam", "2", "--inputs", right.path)


def test_a_run_shorter_than_the_steps_is_refused(make_dump):
    with pytest.raises(UserError, match="--steps 5: the run has 4"):
        make_dump("short", "--steps", "5")
