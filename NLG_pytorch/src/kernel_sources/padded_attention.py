"""Attention written out, with dropout of its weights by masks of our own, which no ready-made attention takes.

Sequences that lie one after another, as in common.run.batching.Packed, are padded for it: on a GPU, where shapes must
not change from batch to batch, to the longest; on a processor sequences of like length go together, a few at a time.
"""

from dataclasses import dataclass, replace

import torch

import device
import kernels

TOGETHER = 8  # sequences on a processor


@dataclass(frozen=True)
class Part:
    """Some padded sequences.

    Attributes:
        indices: ``(batch, length)``, the token at each place; behind a sequence's end any.
        is_token: ``(batch, length)`` bool, False behind a sequence's end.
        mask: ``(batch, length)``, what is added to the scores of places: MASKED behind a sequence's end, else 0.
    """

    indices: torch.Tensor
    is_token: torch.Tensor
    mask: torch.Tensor


@dataclass(frozen=True)
class Layout:
    """Where the tokens of a Packed are in padded sequences; made once for all layers of a pass.

    Attributes:
        packed: the Packed, of arrays on the device.
        parts: list of Part, which hold all sequences.
        places: ``(count,)``, the place of each token among those of all parts, one after another.
    """

    packed: object
    parts: list
    places: torch.Tensor


def part_of(starts, ends, length, count):
    """Returns the Part of the sequences that begin and end there, ``(batch,)``, of ``length`` tokens at most."""
    indices = starts[:, None] + device.arange(length)
    is_token = indices < ends[:, None]
    return Part(indices.clamp(max=count - 1), is_token, (~is_token).float() * kernels.MASKED)


def layout_of(packed):
    """Returns the Layout of a Packed of arrays on the device."""
    offsets, count = packed.offsets, len(packed.input_ids)
    starts, ends = offsets[:-1], offsets[1:]
    if offsets.is_cuda:
        sequences = torch.searchsorted(offsets, device.arange(count).int(), right=True) - 1
        return Layout(packed, [part_of(starts, ends, packed.length, count)],
                      sequences * packed.length + packed.position_ids)
    parts = [part_of(starts[chosen], ends[chosen], int((ends[chosen] - starts[chosen]).max()), count)
             for chosen in torch.argsort(ends - starts).split(TOGETHER)]
    tokens = torch.cat([torch.where(part.is_token, part.indices, count).view(-1) for part in parts])
    places = torch.empty(count + 1, dtype=torch.int64).scatter_(0, tokens.long(), torch.arange(len(tokens)))
    return Layout(packed, parts, places[:count])


def padded(x, arrays, heads, part):
    """``(count, arrays * width)`` to each array's ``(batch * heads, length, head_width)`` of a Part, float32."""
    batch, length = part.indices.shape
    rows = x.index_select(0, part.indices.view(-1)).float()
    return rows.view(batch, length, arrays, heads, -1).permute(2, 0, 3, 1, 4).reshape(arrays, batch * heads, length, -1)


def by_place(arrays, heads):
    """``(arrays, batch * heads, length, head_width)`` to ``(batch * length, arrays * width)``."""
    return arrays.unflatten(1, (-1, heads)).permute(1, 3, 0, 2, 4).flatten(0, 1).flatten(1)


def joined(arrays):
    """Returns arrays one after another; a single one as it is, for a copy costs time."""
    return arrays[0] if len(arrays) == 1 else torch.cat(arrays)


class PaddedAttention(torch.autograd.Function):
    """Attention in both directions of ``fused (count, 3 * width)``; returns ``(count, width)``.

    For the backward pass, which draws the masks anew, it keeps the weights before dropout alone.
    """

    @staticmethod
    def forward(context, fused, heads, layout, dropout):
        context.heads, context.layout, context.dropout = heads, layout, dropout
        outputs, kept = [], []
        for part in layout.parts:
            query, key, value = padded(fused, 3, heads, part)
            weights = torch.softmax(torch.baddbmm(part.mask.repeat_interleave(heads, 0)[:, None],
                                                  query * key.shape[2] ** -0.5, key.transpose(1, 2)), dim=2)
            kept.append(weights)
            outputs.append(by_place((PaddedAttention.dropped_out(context, part, weights) @ value)[None], heads))
        context.save_for_backward(fused, *kept)
        return joined(outputs).index_select(0, layout.places).to(fused.dtype)

    @staticmethod
    def backward(context, gradient):
        (fused, *kept), heads, results = context.saved_tensors, context.heads, []
        for part, weights in zip(context.layout.parts, kept):
            query, key, value = padded(fused, 3, heads, part)
            [d_output] = padded(gradient, 1, heads, part)
            d_output = d_output * part.is_token.repeat_interleave(heads, 0)[:, :, None]  # the rest is no query's
            d_value = PaddedAttention.dropped_out(context, part, weights).transpose(1, 2) @ d_output
            d_weights = PaddedAttention.dropped_out(context, part, d_output @ value.transpose(1, 2))
            d_scores = torch._softmax_backward_data(d_weights, weights, 2, weights.dtype)  # all of it in one kernel
            scale = key.shape[2] ** -0.5
            arrays = torch.stack([d_scores @ key * scale, d_scores.transpose(1, 2) @ (query * scale), d_value])
            results.append(by_place(arrays, heads))
        return joined(results).index_select(0, context.layout.places).to(fused.dtype), None, None, None

    @staticmethod
    def dropped_out(context, part, weights):
        """Drops weights ``(batch * heads, length, length)`` of a Part."""
        if context.dropout is None:
            return weights
        dropout = replace(context.dropout, token_keys=context.dropout.token_keys[part.indices])
        return kernels.dropped_out(weights.unflatten(0, (-1, context.heads)), dropout).flatten(0, 1)
