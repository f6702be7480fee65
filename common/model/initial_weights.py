"""Backbones with random weights, for benchmarks and tests that need a model of some size but no trained one."""

import math

import numpy as np

from common.model.model_cards import ModelCard, backbone_shapes

RANDOM = "random"  # what --init_checkpoint says for these weights
SEED = 0


def random_backbone(card: ModelCard) -> dict[str, np.ndarray]:
    """Returns ``{name: float32 array}`` of GPT-2's or BERT's initialization, the same at every call.

    Weights are normal with standard deviation 0.02; those of the projections that end a residual branch are divided by
    the square root of the number of branches. Biases are 0 and gains 1 (Radford et al. 2018, section 4.1, and 2019,
    section 2.3). BERT has no such projections, and for the rest the same (Devlin et al. 2019, appendix A.2, and their
    program).
    """
    generator = np.random.default_rng(SEED)
    arrays = {}
    for name, shape in backbone_shapes(card).items():
        if name.endswith("bias"):
            arrays[name] = np.zeros(shape, np.float32)
        elif len(shape) == 1:  # of a layer norm
            arrays[name] = np.ones(shape, np.float32)
        else:
            deviation = 0.02 / (math.sqrt(2 * card.layers) if name.endswith("c_proj.weight") else 1.0)
            arrays[name] = generator.standard_normal(shape, np.float32) * np.float32(deviation)
    return arrays
