"""The operations of ChatGLM2 that are tuned for Jittor, the same names as in the other tree; see kernels.py.

Weights are stored ``(out, in)``, as they are published, and frozen; see kernels.py for precisions. All arrays are
float32 in every precision.
"""

import functools

import jittor as jt

from common.model.rotary import rotary_numbers

import device
from kernel_sources import chatglm_functions


def weight(*shape):
    """Returns what stands for a parameter ``(out, in)`` or ``(out,)`` until ``kernels.store`` puts its array there.

    Zeros of that shape would be computed with the first array that is loaded, all layers' at once and in 32 bits.
    """
    return jt.zeros((1,))


def lora_weight(*shape):
    """Returns a parameter of zeros that is trained, float32."""
    return jt.zeros(shape)


@functools.lru_cache
def rotary_table(positions, head_width):
    """Returns ``(positions, head_width / 2)``, cosines and sines of common.model.rotary; made once."""
    return device.from_numpy(rotary_numbers(positions, head_width)).stop_grad()


def rms_norm(x, weight):
    """``(..., width)`` to the same: divided by the root of the mean of squares, and scaled (Zhang and Sennrich 2019,
    equation 4); eps 1e-5."""
    return chatglm_functions.RMSNorm.apply(x, weight)


def swiglu(x):
    """``(count, 2 * width)`` to ``(count, width)``: silu of the first half, times the second (Shazeer 2020)."""
    return chatglm_functions.SwiGLU.apply(x)


def linear(x, weight, bias=None):
    """``x @ weight.T + bias``: ``(count, in)`` to ``(count, out)``."""
    return chatglm_functions.Linear.apply(x, weight, bias)


def lora_linear(x, weight, bias, lora_A, lora_B, scaling, dropout):
    """Linear with one low-rank update of the whole output.

    ``x @ weight.T + bias + scaling * dropout(x) @ A.T @ B.T`` (Hu et al. 2021, section 4.1, equation 3).

    Args:
        x, weight, bias: as for linear.
        lora_A: ``(r, in)``.
        lora_B: ``(out, r)``.
        scaling: alpha / r.
        dropout: common.run.dropout.Dropout of the update's inputs, or None.
    """
    return chatglm_functions.LoraLinear.apply(x, weight, bias, lora_A, lora_B, scaling, dropout)


def rotate(fused, turns, heads, head_width):
    """Rotates half of each query and key by its position.

    Of a head's first half, neighbours ``(a, b)`` become ``(a cos - b sin, b cos + a sin)`` (Su et al. 2021, equation
    34); its second half stays.

    Args:
        fused: ``(count, fused_width)``, heads side by side; those behind the first ``heads`` stay.
        turns: ``(count, head_width / 2)``, rows of rotary_table.
        heads: number of heads of queries and of keys together.
        head_width: size of a head.
    """
    return chatglm_functions.Rotate.apply(fused, turns, heads, head_width)


def grouped_attention(fused, heads, groups, packed):
    """Causal attention in which groups of query heads share a head of keys and of values (Ainslie et al. 2023).

    Args:
        fused: ``(count, (heads + 2 * groups) * head_width)``, queries, keys and values side by side.
        heads: number of heads of queries.
        groups: number of heads of keys, and of values.
        packed: Packed of arrays on the device.

    Returns:
        ``(count, heads * head_width)``.
    """
    return chatglm_functions.GroupedAttention.apply(fused, heads, groups, on_host(packed.offsets))


_last_on_host = [None, None]


def on_host(offsets):
    """Returns an array of offsets as a list; those of one batch, which every layer asks for, are fetched once."""
    if _last_on_host[0] is not offsets:
        _last_on_host[:] = offsets, offsets.numpy().tolist()
    return _last_on_host[1]
