"""Which elements LoRA's dropout drops: a hash of where an element is, the same bits in both frameworks.

An element is known by the run's seed, the training step, the layer and projection (its *stream*), its row's index in
the whole batch, its token's position in the row, and its feature. So neither packing nor padding nor how often masks
were drawn before changes a mask, and a run that goes on where it was stopped draws those that it would have drawn.

All numbers are unsigned integers of 32 bits that wrap around. This module is the plain twin that the frameworks'
kernels are tested against.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

STREAM, TOKEN, FEATURE = 0x85EBCA6B, 0xC2B2AE35, 0x9E3779B1  # murmur3's, and 2^32 over the golden ratio
MIX = 0x7FEB352D, 0x846CA68B  # Wellons 2018, "Prospecting for hash functions": lowbias32
ROW_BITS = 15  # rows of a batch; positions have 16


@dataclass(frozen=True)
class Dropout:
    """What decides the mask of one layer in one step.

    Attributes:
        probability: share of the elements that are dropped.
        stream: number of the layer and projection, from 0 on.
        step_key: ``(1,)`` int32, of ``step_key``; an array of the framework or of numpy.
        token_keys: ``(count,)`` int32, of ``token_keys``; likewise.
    """

    probability: float
    stream: int
    step_key: Any
    token_keys: Any

    @property
    def threshold(self) -> int:
        """An element is dropped where its hash, read as a signed number, is below this."""
        return round(self.probability * 2**32) - 2**31

    @property
    def kept_factor(self) -> float:
        """What an element is multiplied by where it is not dropped."""
        return 1.0 / (1.0 - self.probability)


def mixed(x: np.ndarray) -> np.ndarray:
    """Returns uint32 numbers, each a scrambled one of ``x``'s, no two of one."""
    x = x ^ (x >> 16)
    x = x * np.uint32(MIX[0])
    x = x ^ (x >> 15)
    x = x * np.uint32(MIX[1])
    return x ^ (x >> 16)


def step_key(seed: int, step: int) -> np.ndarray:
    """Returns ``(1,)`` int32, the bits of a training step's key; steps are counted from 1 on."""
    with np.errstate(over="ignore"):
        return mixed(mixed(np.array([seed % 2**32], np.uint32)) + np.uint32(step % 2**32)).view(np.int32)


def token_keys(rows: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Returns ``(count,)`` int32, a key for each token of a batch.

    Args:
        rows: ``(count,)`` int, the index in the whole batch of each token's row, below 2^15.
        positions: ``(count,)`` int, of each token in its row, below 2^16.
    """
    if len(rows) and (rows.max() >= 1 << ROW_BITS or positions.max() >= 1 << 16):
        raise ValueError(f"found row {rows.max()} and position {positions.max()}, expected less than 2^{ROW_BITS} and "
                         "2^16")
    return (rows << 16 | positions).astype(np.int32)


def is_kept(dropout: Dropout, width: int) -> np.ndarray:
    """Returns ``(count, width)`` bool: which elements the mask keeps."""
    step_key, token_keys = (keys.view(np.uint32) for keys in (dropout.step_key, dropout.token_keys))
    with np.errstate(over="ignore"):
        stream = mixed(step_key + np.uint32((dropout.stream + 1) * STREAM % 2**32))
        tokens = mixed(token_keys * np.uint32(TOKEN) + stream)
        x = tokens[:, None] + np.arange(width, dtype=np.uint32) * np.uint32(FEATURE)
        return ((x ^ (x >> 15)) * np.uint32(MIX[1])).view(np.int32) >= dropout.threshold
