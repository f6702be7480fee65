"""Small dumps with everything in them that a comparison reads."""

import copy

import numpy as np

from common.align.dump import Dump, prefixed, write_dump

STEPS = 6
FLAGS = {"model_card": "gpt2.nano", "steps": STEPS, "precision": "fp32", "lr": 0.001}
MASK = {"layer": "h.0.attn.c_attn", "step": 1, "stream": 0, "sha256": "m", "twin": "m"}
META = {"description": {"framework": "pytorch", "version": "1", "device": "CPU", "precision": "fp32"},
        "versions": {"Python": "3", "numpy": "2"}, "flags": FLAGS, "inputs": None,
        "weights": {"wte": "a", "ln_f": "b"}, "probe": {"lora_A": "c"},
        "batches": [{"input_ids": "d", "offsets": "e"}, {"input_ids": "f", "offsets": "g"}],
        "masks": [MASK, {**MASK, "step": 2}], "contexts": ["h", "i", "j"], "decoded": {"lora_A": "k"}}
OPERATIONS = ("h.0.ln_1.output", "h.0.attn.c_attn.output", "h.0.attn.c_proj.input", "h.0.attn.c_proj.output")
PARAMETERS = ("h.0.attn.c_attn.lora_A", "h.0.attn.c_attn.lora_B")


def numbers(*shape, seed=0):
    return np.random.RandomState(seed).randn(*shape).astype(np.float32)


def arrays():
    """Returns the arrays of a dump; the noise floor of its losses is 2e-7, that of its weights 1e-6."""
    operations = {name: numbers(5, 4, seed=index) for index, name in enumerate(OPERATIONS)}
    parameters = {name: numbers(2, 3, seed=index) for index, name in enumerate(PARAMETERS)}
    losses = np.linspace(5, 4, STEPS)
    return {**prefixed("forward/", {**operations, "logits": numbers(3, 7)}), "loss/forward": np.array([4.5]),
            **prefixed("backward/", {name: operations[name] for name in OPERATIONS[1:]}),
            **prefixed("backward/", parameters), **prefixed("optimiser/first_moment/", parameters),
            **prefixed("optimiser/second_moment/", parameters), **prefixed("optimiser/change/", parameters),
            "steps/losses": losses, "steps/nudged_losses": losses * (1 + 2e-7),
            **prefixed("steps/weights/", parameters),
            **prefixed("steps/nudged_weights/", {name: array * (1 + 1e-6) for name, array in parameters.items()}),
            "beam/tokens": np.arange(12, dtype=np.int32).reshape(3, 4), "beam/scores": np.array([-1.0, -2.0, -3.0])}


def make_dump(path, change=lambda arrays, meta: None):
    """Writes a dump that ``change(arrays, meta)`` has changed in place, and returns it."""
    made, meta = {name: array.copy() for name, array in arrays().items()}, copy.deepcopy(META)
    change(made, meta)
    write_dump(path, made, meta)
    return Dump(path)
