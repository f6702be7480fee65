"""A small GPT-2, its LoRA files, and the same model in transformers."""

import numpy as np

from common.model.huggingface_files import config_of
from common.model.lora_arrays import LoraSettings, lora_shapes, merge_lora
from common.model.model_cards import ModelCard, backbone_shapes

CARD = ModelCard("gpt2.test", width=32, layers=3, heads=4, folder="gpt2-test", positions=16)
IDS = np.random.default_rng(3).integers(0, CARD.vocabulary, (2, 12))


def weights(settings, seed=0):
    """Returns ``(backbone, lora)``, of sizes at which every part of the model matters to its logits."""
    generator = np.random.default_rng(seed)
    backbone = {name: (name.endswith("weight") and ".ln_" in name) + 0.2 * generator.standard_normal(shape)
                for name, shape in backbone_shapes(CARD).items()}
    lora = {name: 0.3 * generator.standard_normal(shape) for name, shape in lora_shapes(CARD, settings).items()}
    return tuple({name: array.astype(np.float32) for name, array in arrays.items()} for arrays in (backbone, lora))


BACKBONE, _ = weights(LoraSettings())


def transformers_model(arrays):
    """Returns transformers' GPT-2 with these weights, ``{name: array}``, in evaluation."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(**config_of(CARD)))
    missing, unexpected = model.load_state_dict({name: torch.tensor(array) for name, array in arrays.items()}, False)
    assert missing == ["lm_head.weight"] and not unexpected, (missing, unexpected)
    return model.eval()


def logits_of(model):
    """Returns a torch model's logits ``(2, 12, vocabulary)`` behind the tokens of IDS."""
    import torch

    with torch.no_grad():
        return model(input_ids=torch.tensor(IDS)).logits.float().numpy()


def merged_logits(backbone, lora, settings):
    """Returns the logits of the backbone with the updates merged into it by their formula."""
    return logits_of(transformers_model(merge_lora(backbone, lora, settings)))


def assert_same_logits(found, expected, backbone=None):
    """Requires equal logits to 1e-5 of the largest; ``backbone`` without updates must have others."""
    size = np.abs(expected).max()
    assert np.abs(found - expected).max() < 1e-5 * size
    if backbone is not None:
        assert np.abs(expected - logits_of(transformers_model(backbone))).max() > 0.1 * size
