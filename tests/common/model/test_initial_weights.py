"""Random backbones have the shapes of the real ones and GPT-2's initialisation, and serve as a backbone everywhere."""

import numpy as np

from common.model.checkpoint import load_weights, new_record
from common.model.initial_weights import RANDOM, random_backbone
from common.model.lora_arrays import LoraSettings, initial_lora
from common.model.lora_file import save_lora
from common.model.model_cards import MODEL_CARDS, backbone_shapes

CARD = MODEL_CARDS["gpt2.nano"]


def test_shapes_and_deviations():
    arrays = random_backbone(CARD)
    assert {name: array.shape for name, array in arrays.items()} == backbone_shapes(CARD)
    assert all(array.dtype == np.float32 for array in arrays.values())
    for name, deviation in (("wte.weight", 0.02), ("h.0.attn.c_attn.weight", 0.02), ("h.7.mlp.c_proj.weight", 0.005)):
        assert np.isclose(arrays[f"transformer.{name}"].std(), deviation, rtol=0.02), name
    assert not arrays["transformer.h.0.mlp.c_fc.bias"].any()
    assert (arrays["transformer.h.0.ln_1.weight"] == 1.0).all()


def test_they_are_the_same_at_every_call():
    first, second = random_backbone(CARD), random_backbone(CARD)
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_a_checkpoint_records_that_its_backbone_is_random(tmp_path):
    settings, path = LoraSettings(), tmp_path / "model.1.safetensors"
    save_lora(path, initial_lora(CARD, settings, 1), new_record(CARD, settings, RANDOM))
    backbone, lora, record = load_weights(str(path), None, CARD, settings)
    assert record.backbone_path == RANDOM and len(lora) == 2 * CARD.layers
    assert all(np.array_equal(array, backbone[name]) for name, array in random_backbone(CARD).items())
