"""A small model's weights, and files of them."""

import numpy as np
import safetensors.numpy

from common.model.lora_arrays import LoraSettings, lora_shapes
from common.model.model_cards import ModelCard, backbone_shapes

CARD = ModelCard("gpt2.test", width=6, layers=2, heads=2, folder="gpt2-test", positions=8, vocabulary=11)
SETTINGS = LoraSettings(rank=2, alpha=32, targets=("q", "v"))
SHAPES = lora_shapes(CARD, SETTINGS)


def random_arrays(shapes, seed=0):
    generator = np.random.default_rng(seed)
    return {name: generator.standard_normal(shape, np.float32) for name, shape in shapes.items()}


BACKBONE = random_arrays(backbone_shapes(CARD))
LORA = random_arrays(SHAPES, seed=1)


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == np.float32 and found[name].flags.c_contiguous and found[name].flags.writeable
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def write(path, arrays):
    safetensors.numpy.save_file(arrays, path)
    return path
