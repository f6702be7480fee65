"""Attention written out, with dropout of its weights by masks of our own, which no ready-made attention takes.

Sequences that lie one after another, as in common.run.batching.Packed, are padded to the longest for it.
"""

from dataclasses import dataclass, replace

import torch

import device
import kernels


@dataclass(frozen=True)
class Layout:
    """Where the tokens of a Packed are in padded sequences; made once for all layers of a pass.

    Attributes:
        packed: the Packed, of arrays on the device.
        indices: ``(batch, length)``, the token at each place; behind a sequence's end any.
        places: ``(count,)``, the place of each token among all ``batch * length``.
        is_token: ``(batch, length)`` bool, False behind a sequence's end.
        mask: ``(batch, length)``, what is added to the scores of places: MASKED behind a sequence's end, else 0.
    """

    packed: object
    indices: torch.Tensor
    places: torch.Tensor
    is_token: torch.Tensor
    mask: torch.Tensor


def layout_of(packed):
    """Returns the Layout of a Packed of arrays on the device."""
    offsets, count = packed.offsets, len(packed.input_ids)
    indices = offsets[:-1, None] + device.arange(packed.length)
    sequences = torch.searchsorted(offsets, device.arange(count).int(), right=True) - 1
    is_token = indices < offsets[1:, None]
    return Layout(packed, indices.clamp(max=count - 1), sequences * packed.length + packed.position_ids, is_token,
                  (~is_token).float() * kernels.MASKED)


def padded(x, parts, heads, layout):
    """``(count, parts * width)`` to each part's ``(batch * heads, length, head_width)``, float32."""
    batch, length = layout.indices.shape
    rows = x.index_select(0, layout.indices.view(-1)).float()
    return rows.view(batch, length, parts, heads, -1).permute(2, 0, 3, 1, 4).reshape(parts, batch * heads, length, -1)


def packed_again(parts, heads, layout):
    """``(parts, batch * heads, length, head_width)`` to ``(count, parts * width)``."""
    by_place = parts.unflatten(1, (-1, heads)).permute(1, 3, 0, 2, 4).reshape(layout.indices.numel(), -1)
    return by_place.index_select(0, layout.places)


class PaddedAttention(torch.autograd.Function):
    """Attention in both directions of ``fused (count, 3 * width)``; returns ``(count, width)``.

    For the backward pass, which draws the masks anew, it keeps the weights before dropout alone.
    """

    @staticmethod
    def forward(context, fused, heads, layout, dropout):
        query, key, value = padded(fused, 3, heads, layout)
        scores = torch.baddbmm(layout.mask.repeat_interleave(heads, 0)[:, None], query, key.transpose(1, 2),
                               alpha=key.shape[2] ** -0.5)
        weights = torch.softmax(scores, dim=2)
        context.save_for_backward(fused, weights)
        context.heads, context.layout = heads, layout
        context.dropout = dropout and replace(dropout, token_keys=dropout.token_keys[layout.indices])
        output = PaddedAttention.dropped_out(context, weights) @ value
        return packed_again(output[None], heads, layout).to(fused.dtype)

    @staticmethod
    def backward(context, gradient):
        (fused, weights), heads, layout = context.saved_tensors, context.heads, context.layout
        query, key, value = padded(fused, 3, heads, layout)
        [gradient] = padded(gradient, 1, heads, layout)
        gradient = gradient * layout.is_token.repeat_interleave(heads, 0)[:, :, None]  # the rest is no query's
        d_value = PaddedAttention.dropped_out(context, weights).transpose(1, 2) @ gradient
        d_weights = PaddedAttention.dropped_out(context, gradient @ value.transpose(1, 2))
        d_scores = weights * (d_weights - (weights * d_weights).sum(dim=2, keepdim=True)) * key.shape[2] ** -0.5
        parts = torch.stack([d_scores @ key, d_scores.transpose(1, 2) @ query, d_value])
        return packed_again(parts, heads, layout).to(fused.dtype), None, None, None

    @staticmethod
    def dropped_out(context, weights):
        """Drops weights ``(batch * heads, length, length)``."""
        return kernels.dropped_out(weights.unflatten(0, (-1, context.heads)), context.dropout).flatten(0, 1)
