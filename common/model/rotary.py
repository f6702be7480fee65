"""The numbers of the rotary position embedding."""

import numpy as np


def rotary_numbers(positions: int, head_width: int, base: float = 10000.0) -> np.ndarray:
    """Returns ``(positions, head_width / 2)`` float32: the cosines of each position's angles, then their sines.

    Half of a head is rotated, in ``head_width / 4`` pairs; the i-th has the angle
    ``position * base^(-4 i / head_width)`` (Su et al. 2021, section 3.2.2). Computed in float64, in every precision: in
    16 bits, as ChatGLM2's published code has them, positions from 256 (bfloat16) or 2048 (float16) on would not be told
    apart.
    """
    pairs = head_width // 4
    angles = np.arange(positions)[:, None] * base ** (-np.arange(pairs) / pairs)
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
