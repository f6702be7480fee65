"""LoRA's arrays: names, shapes, first values and merging by the formula."""

import numpy as np
import pytest

from common.errors import UserError
from common.model.lora_arrays import TARGETS, LoraSettings, initial_lora, lora_shapes, merge_lora
from common.model.model_cards import MODEL_CARDS, ModelCard, backbone_shapes

CARD = ModelCard("gpt2.test", 8, 1, 2, "x", positions=4, vocabulary=11)


def test_the_number_of_trained_parameters_is_that_of_the_papers_formula():
    """Hu et al. 2021, section 5.1: 2 * matrices * width * rank, here for queries and values in 24 layers.

    Table 3 of the paper prints 0.35 M for this model (GPT-2 medium, r = 4), less than its formula gives.
    """
    shapes = lora_shapes(MODEL_CARDS["gpt2.md"], LoraSettings())
    total = sum(int(np.prod(shape)) for shape in shapes.values())
    assert total == 2 * (2 * 24) * 1024 * 4 == 393_216
    assert shapes["transformer.h.0.attn.c_attn.lora_A"] == (8, 1024)
    assert shapes["transformer.h.0.attn.c_attn.lora_B"] == (2048, 4)


def test_backbones_have_the_published_number_of_parameters():
    for name, count in (("gpt2.sm", 124_439_808), ("gpt2.md", 354_823_168), ("gpt2.lg", 774_030_080),
                        ("gpt2.xl", 1_557_611_200)):
        # the counts that transformers' GPT2LMHeadModel.num_parameters() gives for these sizes
        assert sum(int(np.prod(shape)) for shape in backbone_shapes(MODEL_CARDS[name]).values()) == count


def test_the_same_seed_gives_the_same_first_values():
    first, again = (initial_lora(CARD, LoraSettings(), 110) for _ in range(2))
    other = initial_lora(CARD, LoraSettings(), 111)
    name = "transformer.h.0.attn.c_attn.lora_A"
    assert np.array_equal(first[name], again[name]) and not np.array_equal(first[name], other[name])
    assert first[name].dtype == np.float32 and not first[name[:-1] + "B"].any()


@pytest.mark.parametrize("targets", [("q", "v"), ("k",), TARGETS])
def test_merging_by_the_formula(targets):
    settings = LoraSettings(rank=2, alpha=6, targets=targets)
    generator = np.random.RandomState(0)
    backbone = {name: generator.randn(*shape).astype(np.float32) for name, shape in backbone_shapes(CARD).items()}
    lora = {name: generator.randn(*shape).astype(np.float32) for name, shape in lora_shapes(CARD, settings).items()}
    merged = merge_lora(backbone, lora, settings)
    x = generator.randn(5, 8)
    prefix = "transformer.h.0.attn.c_attn."
    if prefix + "lora_A" in lora:
        expected = x @ backbone[prefix + "weight"].astype(np.float64)
        enabled = [target for target in ("q", "k", "v") if target in targets]
        for index, target in enumerate(enabled):
            a = lora[prefix + "lora_A"][2 * index:2 * index + 2]
            b = lora[prefix + "lora_B"][8 * index:8 * index + 8]
            place = 8 * ("q", "k", "v").index(target)
            expected[:, place:place + 8] += 3.0 * x @ a.T.astype(np.float64) @ b.T
        assert np.abs(x @ merged[prefix + "weight"] - expected).max() < 1e-5
    changed = {name for name in backbone if not np.array_equal(merged[name], backbone[name])}
    assert changed == {name[:-len("lora_A")] + "weight" for name in lora if name.endswith("lora_A")}


@pytest.mark.parametrize("targets, sentence", [
    ((), r"\(none\): expected some of"), (("q", "up"), "expected some of"), (("q", "v", "q"), "name each once")])
def test_impossible_targets_are_refused(targets, sentence):
    with pytest.raises(UserError, match=sentence):
        LoraSettings(targets=targets)
