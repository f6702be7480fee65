"""The operations of one forward pass by name: what the hooks of either framework's modules call."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from common.errors import UserError

INPUT, OUTPUT = ".input", ".output"
LOGITS = "logits"
# What computes the input of a module where no other module does; elsewhere it is a sum of modules' outputs.
MAKERS = {"attn.c_proj": "kernels.causal_attention", "mlp.c_proj": "kernels.gelu"}


class Trace:
    """What a model's modules take and give, in the order in which they are computed.

    An operation is what computes one array: a module, known by its output (``transformer.h.0.ln_1.output``), or what
    lies between two modules, known by the second one's input (``transformer.h.0.mlp.c_proj.input``, of GELU).

    Args:
        others: ``{operation: numpy array}`` of another framework, which takes the place of each array behind its
            operation, so that every operation gets the other framework's inputs; None leaves the arrays as they are.
        replace: ``(array, numpy array) -> array`` returns the second one as an array like the first.

    Attributes:
        arrays: ``{operation: array of the framework}``, each as it was computed.
        last: the array that went on from the latest module.
    """

    def __init__(self, others: Mapping[str, np.ndarray] | None = None,
                 replace: Callable[[Any, np.ndarray], Any] | None = None):
        self.others, self.replace = others, replace
        self.arrays: dict[str, Any] = {}
        self.last = None

    def before(self, name: str, inputs: tuple) -> tuple:
        """Takes in the inputs of a module, the array first, and returns those that it shall compute from."""
        array, *rest = inputs
        if array is self.last or "int" in str(array.dtype):  # a module's output, which has its name, or ids of tokens
            return inputs
        return self._note(name + INPUT, array), *rest

    def after(self, name: str, output: Any) -> Any:
        """Takes in the output of a module and returns what goes on from it."""
        self.last = self._note(name + OUTPUT, output)
        return self.last

    def _note(self, operation, array):
        if operation in self.arrays:
            raise ValueError(f"{operation} is computed twice in one pass: a trace needs a name for each time")
        self.arrays[operation] = array
        if self.others is None:
            return array
        if operation not in self.others:
            raise UserError(f"--inputs: there is no {operation} in that file; it must be of the same model")
        return self.replace(array, self.others[operation])

    def behind(self, modules: Collection[str]) -> dict[str, Any]:
        """Returns the arrays from the output of the first of these modules on: those that have a gradient."""
        operations = list(self.arrays)
        first = next(index for index, operation in enumerate(operations)
                     if operation.removesuffix(OUTPUT) in modules)
        return {operation: self.arrays[operation] for operation in operations[first:]}


def operation_title(operation: str) -> str:
    """Returns what a reader calls an operation: its module, or what computes a module's input."""
    if operation.endswith(OUTPUT):
        return operation.removesuffix(OUTPUT)
    module = operation.removesuffix(INPUT)
    if module == operation:
        return operation
    maker = next((maker for end, maker in MAKERS.items() if module.endswith(end)), "a sum")
    return f"{maker} before {module}"
