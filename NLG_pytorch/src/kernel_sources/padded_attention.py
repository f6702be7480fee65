"""Attention written out, with dropout of its weights by masks of our own, which no ready-made attention takes.

Sequences that lie one after another, as in common.run.batching.Packed, are padded for it: on a GPU, where shapes must
not change from batch to batch, to the longest; on a processor sequences of like length go together, a few at a time.
"""

from dataclasses import dataclass, field, replace

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
class Gather:
    """How arrays that lie side by side in a token's row, each ``(heads, head_width)``, get to padded heads and back.

    Each way is one gather of rows of ``head_width``, which takes less time than a gather of tokens and a copy.

    Attributes:
        to_heads: for each Part ``(arrays * batch * heads * length,)``, rows of ``(count * arrays * heads, ...)``.
        to_tokens: ``(count * arrays * heads,)``, rows of what to_heads takes, all parts one after another.
    """

    to_heads: list
    to_tokens: torch.Tensor


@dataclass(frozen=True)
class Layout:
    """Where the tokens of a Packed are in padded sequences; made once for all layers of a pass.

    Attributes:
        packed: the Packed, of arrays on the device.
        parts: list of Part, which hold all sequences.
        places: ``(count,)``, the place of each token among those of all parts, one after another.
        gathers: those of gather_of so far.
    """

    packed: object
    parts: list
    places: torch.Tensor
    gathers: dict = field(default_factory=dict)


def part_of(starts, ends, length, count):
    """Returns the Part of the sequences that begin and end there, ``(batch,)``, of ``length`` tokens at most."""
    indices = starts[:, None] + device.arange(length)
    is_token = indices < ends[:, None]
    return Part(indices.clamp(max=count - 1), is_token, (~is_token).to(device.real_dtype()) * kernels.MASKED)


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


def gather_of(layout, arrays, heads):
    """Returns the Gather of so many arrays of so many heads."""
    if (arrays, heads) not in layout.gathers:
        sides, to_heads, order, begin = device.arange(arrays * heads).view(arrays, 1, heads, 1), [], [], 0
        for part in layout.parts:
            to_heads.append((part.indices[:, None] * (arrays * heads) + sides).view(-1))
            taken = (device.arange(len(to_heads[-1])) + begin).view(arrays, -1, heads, part.indices.shape[1])
            order.append(taken.permute(1, 3, 0, 2).flatten(0, 1))
            begin += taken.numel()
        layout.gathers[arrays, heads] = Gather(to_heads, joined(order).index_select(0, layout.places).view(-1))
    return layout.gathers[arrays, heads]


def gathered(rows, indices, dtype):
    """Returns ``rows[indices]`` in a dtype."""
    if not rows.is_cuda:
        return rows.index_select(0, indices).to(dtype)
    from kernel_sources import gather  # Triton, which a torch for processors alone does not bring

    return gather.gathered(rows, indices, dtype)


def by_head(x, arrays, heads, layout):
    """Yields for each Part ``(arrays, batch * heads, length, head_width)`` of ``x (count, arrays * width)``.

    In real_dtype.
    """
    rows = x.reshape(len(x) * arrays * heads, -1)
    for part, taken in zip(layout.parts, gather_of(layout, arrays, heads).to_heads):
        yield gathered(rows, taken, device.real_dtype()).view(arrays, -1, part.indices.shape[1], rows.shape[1])


def by_token(results, arrays, heads, layout, dtype):
    """The way back of by_head: its arrays of all parts to ``(count, arrays * width)`` in a dtype."""
    rows = joined([result.view(-1, result.shape[-1]) for result in results])
    return gathered(rows, gather_of(layout, arrays, heads).to_tokens, dtype).view(len(layout.places), -1)


def joined(arrays):
    """Returns arrays one after another; a single one as it is, for a copy costs time."""
    return arrays[0] if len(arrays) == 1 else torch.cat(arrays)


def dropped_out(weights, heads, dropout):
    """Drops weights ``(batch * heads, length, length)`` of a Part; its Dropout has the keys ``(batch, length)``."""
    return kernels.dropped_out(weights.unflatten(0, (-1, heads)), dropout).flatten(0, 1)


def weights_of(query, key, heads, part):
    """Returns the weights of attention ``(batch * heads, length, length)``, before dropout."""
    mask = part.mask.repeat_interleave(heads, 0)[:, None]
    return torch.softmax(torch.baddbmm(mask, query, key.transpose(1, 2), alpha=key.shape[2] ** -0.5), dim=2)


class PaddedAttention(torch.autograd.Function):
    """Attention in both directions of ``fused (count, 3 * width)``; returns ``(count, width)``.

    Nothing is kept for the backward pass, which makes the weights and draws the masks anew: on PHEE all layers' weights
    would be a quarter of a training's memory, and making them is a twentieth of its time (bert.minilm, NVIDIA H200).
    """

    @staticmethod
    def forward(context, fused, heads, layout, dropout):
        context.heads, context.layout = heads, layout
        context.dropouts = [dropout and replace(dropout, token_keys=dropout.token_keys[part.indices])
                            for part in layout.parts]
        context.save_for_backward(fused)
        outputs = [dropped_out(weights_of(query, key, heads, part), heads, dropped) @ value
                   for part, dropped, (query, key, value) in zip(layout.parts, context.dropouts,
                                                                 by_head(fused, 3, heads, layout))]
        return by_token(outputs, 1, heads, layout, fused.dtype)

    @staticmethod
    def backward(context, gradient):
        [fused], heads, layout, results = context.saved_tensors, context.heads, context.layout, []
        for part, dropped, (query, key, value), [d_output] in zip(
                layout.parts, context.dropouts, by_head(fused, 3, heads, layout), by_head(gradient, 1, heads, layout)):
            d_output.unflatten(0, (-1, heads)).mul_(part.is_token[:, None, :, None])  # the rest is no query's
            result, scale = torch.empty((3, *query.shape), dtype=query.dtype, device=query.device), key.shape[2] ** -0.5
            weights = weights_of(query, key, heads, part)
            torch.bmm(dropped_out(weights, heads, dropped).transpose(1, 2), d_output, out=result[2])
            d_weights = dropped_out(d_output @ value.transpose(1, 2), heads, dropped)
            d_scores = torch._softmax_backward_data(d_weights, weights, 2, weights.dtype)  # all of it in one kernel
            torch.baddbmm(result[0], d_scores, key, beta=0, alpha=scale, out=result[0])
            torch.baddbmm(result[1], d_scores.transpose(1, 2), query, beta=0, alpha=scale, out=result[1])
            results.append(result)
        return by_token(results, 3, heads, layout, fused.dtype), None, None, None
