"""The operations of ChatGLM2 that are tuned for torch, the same names as in the other tree; see kernels.py.

Weights are stored ``(out, in)``, as they are published, and frozen. Residuals, norms and the softmax are float32 in
every precision; in ``bf16`` and ``fp16`` the outputs of products have 16 bits, as in kernels.py.
"""

import functools

import torch
from torch import nn
from torch.nn import functional as F

from common.model.rotary import rotary_numbers

import device
import kernels


def weight(*shape):
    """Returns a parameter of zeros ``(out, in)`` or ``(out,)`` in the dtype that its products want."""
    return nn.Parameter(torch.zeros(shape, dtype=kernels.product_dtype()))


def lora_weight(*shape):
    """Returns a parameter of zeros that is trained, float32."""
    return nn.Parameter(torch.zeros(shape))


@functools.lru_cache
def rotary_table(positions, head_width):
    """Returns ``(positions, head_width / 2)``, cosines and sines of common.model.rotary; made once."""
    return device.from_numpy(rotary_numbers(positions, head_width))


def rms_norm(x, weight):
    """``(..., width)`` to the same: divided by the root of the mean of squares, and scaled (Zhang and Sennrich 2019,
    equation 4); eps 1e-5."""
    return F.rms_norm(x, weight.shape, weight, 1e-5)


class SwiGLU(torch.autograd.Function):
    """silu of the first half, times the second; it keeps its input alone, the largest array of a layer."""

    @staticmethod
    def forward(context, x):
        context.save_for_backward(x)
        gate, up = x.chunk(2, dim=1)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(context, gradient):
        x, = context.saved_tensors
        (gate, up), result = x.chunk(2, dim=1), torch.empty_like(x)
        for_gate, for_up = result.chunk(2, dim=1)
        for_gate.copy_(torch.ops.aten.silu_backward(gradient * up, gate))
        torch.mul(F.silu(gate), gradient, out=for_up)
        return result


def swiglu(x):
    """``(count, 2 * width)`` to ``(count, width)``: silu of the first half, times the second (Shazeer 2020)."""
    return SwiGLU.apply(x)


def linear(x, weight, bias=None):
    """``x @ weight.T + bias``: ``(count, in)`` to ``(count, out)``."""
    return F.linear(x.to(weight.dtype), weight, bias)


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
    x = x.to(weight.dtype)
    update = kernels.dropped_out(x, dropout) @ lora_A.T.to(x.dtype)
    return F.linear(x, weight, bias).addmm_(update, (scaling * lora_B).T.to(x.dtype))


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
    count, half = len(fused), head_width // 2
    x = fused.view(count, -1, head_width)
    pairs = x[:, :heads, :half].float().reshape(count, heads, half // 2, 2)
    cos, sin = turns.unsqueeze(1).chunk(2, dim=2)
    first, second = pairs.unbind(3)
    rotated = torch.stack([first * cos - second * sin, second * cos + first * sin], dim=3).flatten(2)
    turned = torch.cat([rotated.to(x.dtype), x[:, :heads, half:]], dim=2)
    return torch.cat([turned, x[:, heads:]], dim=1).view(count, -1)


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
    count = len(fused)
    query, key, value = fused.view(count, heads + 2 * groups, -1).split([heads, groups, groups], dim=1)
    if fused.is_cuda:
        key, value = (each.repeat_interleave(heads // groups, dim=1) for each in (key, value))
        # As kernels.causal_attention: sequences one after another, the causal mask being number 1.
        output, *_ = torch.ops.aten._efficient_attention_forward(
            query.unsqueeze(0), key.unsqueeze(0), value.unsqueeze(0), None, packed.offsets, packed.offsets,
            packed.length, packed.length, 0.0, custom_mask_type=1, compute_log_sumexp=True)
        return output.view(count, -1)
    lengths = packed.offsets.diff().tolist()
    return torch.cat([plain_attention(*parts) for parts in zip(*(each.split(lengths) for each in (query, key, value)))])


def plain_attention(query, key, value):
    """Causal attention of one sequence, ``(length, heads or groups, head_width)`` to ``(length, heads * head_width)``.

    On a CPU F.scaled_dot_product_attention takes a rounder exponential: its gradients were measured to be three times
    as far from float64's.
    """
    length, groups, width = key.shape
    query = query.reshape(length, groups, -1, width).permute(1, 2, 0, 3)
    scores = query @ key.permute(1, 2, 0).unsqueeze(1) * width ** -0.5
    scores = scores.float().masked_fill(torch.ones(length, length, dtype=torch.bool).triu(1), -torch.inf)
    weights = torch.softmax(scores, dim=3).to(value.dtype)
    return (weights @ value.permute(1, 0, 2).unsqueeze(1)).permute(2, 0, 1, 3).reshape(length, -1)
