"""The file that one framework writes of its short training: arrays by name in an npz, and what else there is as JSON.

Names of the arrays (see collect.py for how each is made):

    forward/OPERATION, forward/logits       what each operation gave in one forward pass; logits where there is a loss
    single/OPERATION, single/logits         the same, each operation from the other framework's inputs
    loss/forward, loss/single               the loss of either pass, ``(1,)``
    backward/OPERATION, backward/PARAMETER  gradients of that loss
    optimiser/first_moment/PARAMETER, optimiser/second_moment/PARAMETER
    optimiser/change/PARAMETER              what one update adds to a weight
    steps/losses, steps/nudged_losses       ``(steps,)``
    steps/weights/PARAMETER, steps/nudged_weights/PARAMETER
    beam/tokens                             ``(contexts, eval_len)`` int32, -1 behind an output's end
    beam/scores                             ``(contexts,)`` float64
"""

import hashlib
import json
import os
import zipfile
from collections.abc import Iterable, Mapping

import numpy as np

from common.errors import UserError
from common.files import atomic_write, sha256_of

FORMAT = 1
META = "meta"


class Dump:
    """A dump on disk; its arrays are read when they are asked for.

    Args:
        path: the npz file.

    Attributes:
        path: the file, as given.
        meta: what collect.py writes beside the arrays.

    Raises:
        UserError: there is no such file, or it is no dump of this version of the program.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = os.fspath(path)
        try:
            self._arrays = np.load(self.path, allow_pickle=False)
            self.meta = json.loads(str(self._arrays[META]))
            found = self.meta["format"]
        except FileNotFoundError:
            raise UserError(f"{path}: no such file; `bash scripts/align.sh --dump pytorch --output {path}` writes "
                            "one") from None
        except (OSError, ValueError, KeyError, TypeError, IndexError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(f"{path}: is no file that scripts/align.sh wrote ({error})") from error
        if found != FORMAT:
            raise UserError(f"{path}: has format {found}, expected {FORMAT}; write it anew with this version")

    def __getitem__(self, name: str) -> np.ndarray:
        return self._arrays[name]

    def get(self, name: str) -> np.ndarray | None:
        """Returns an array, or None where there is none of that name."""
        return self._arrays[name] if name in self._arrays else None

    def names(self, prefix: str) -> list[str]:
        """Returns what follows ``prefix`` in the names that begin with it, in the order in which it was written."""
        return [name[len(prefix):] for name in self._arrays.files if name.startswith(prefix)]

    def part(self, prefix: str) -> dict[str, np.ndarray]:
        """Returns the arrays whose names begin with ``prefix``, without it."""
        return {name: self[prefix + name] for name in self.names(prefix)}

    def sha256(self) -> str:
        """Returns the hash of the file."""
        return sha256_of(self.path)


def write_dump(path: str | os.PathLike, arrays: Mapping[str, np.ndarray], meta: dict) -> None:
    """Writes a dump, whole or not at all.

    Raises:
        UserError: the file cannot be written.
    """
    with atomic_write(path, "wb") as file:
        np.savez(file, **{META: np.array(json.dumps({"format": FORMAT, **meta}))}, **arrays)


def array_hash(array: np.ndarray) -> str:
    """Returns the SHA-256 of an array: its type, its shape and its bytes."""
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def prefixed(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the arrays with ``prefix`` before each name."""
    return {prefix + name: array for name, array in arrays.items()}


def by_name(shapes: Mapping[str, tuple[int, ...]], arrays: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
    """Gives an optimiser's arrays the names of its parameters.

    Args:
        shapes: ``{name: shape}`` of the parameters, in the optimiser's order.
        arrays: all their elements in that order, in one array or in many.
    """
    flat = np.concatenate([np.reshape(array, -1) for array in arrays])
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes.values()])
    if ends[-1] != flat.size:
        raise ValueError(f"the optimiser holds {flat.size} elements, its parameters {ends[-1]}")
    return {name: part.reshape(shape)
            for (name, shape), part in zip(shapes.items(), np.split(flat, ends[:-1]), strict=True)}


def rounded(array: np.ndarray, precision: str) -> np.ndarray:
    """Returns float32 numbers rounded to what ``precision`` stores weights in, to the nearest, ties to even."""
    if precision == "fp16":
        return array.astype(np.float16).astype(np.float32)
    if precision == "bf16":
        bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
        return ((bits + 0x7FFF + (bits >> 16 & 1)) & np.uint32(0xFFFF0000)).view(np.float32)
    return array
