"""The oracle's small model in the tree under test."""

import numpy as np

from common.run.arguments import training_arguments
from common.run.batching import converted
from tests.oracles.make_oracle import CARD, OPTIMIZER, SMOOTHING

import device
from gpt2_ft import build_model


def part(oracle, prefix):
    """Returns the arrays under a prefix, without it in their names."""
    return {name[len(prefix):]: array for name, array in oracle.items() if name.startswith(prefix)}


def arguments(*flags):
    """Returns what gpt2_ft.py makes of the flags, for the oracle's model and optimiser."""
    parsed = training_arguments(["--train_data", "x", "--valid_data", "x", "--init_checkpoint", "x", "--max_step", "9",
                                 "--model_card", "gpt2.nano", "--label_smooth", str(SMOOTHING), "--correct_bias",
                                 "--adam_beta2", str(OPTIMIZER["beta2"]), *flags], "")
    parsed.card = CARD
    return parsed


def backbone_and_lora(oracle):
    """Returns the model's weights as two dictionaries."""
    weights = part(oracle, "weights/")
    return ({name: array for name, array in weights.items() if "lora_" not in name},
            {name: array for name, array in weights.items() if "lora_" in name})


def model_of(oracle, parsed):
    """Returns the oracle's model as gpt2_ft.py builds it."""
    return build_model(parsed, *backbone_and_lora(oracle))


def arrays_of(batch):
    """Returns the batch with its arrays on the device."""
    return converted(batch, device.from_numpy)


def flat(arrays):
    """Returns all elements of a list of arrays, in one."""
    return np.concatenate([np.reshape(array, -1) for array in arrays])


def relative_error(found, expected):
    """Returns the largest difference of two arrays over the largest expected element."""
    return np.abs(found - expected).max() / np.abs(expected).max()
