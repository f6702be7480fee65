"""Dropout as one Triton kernel, forward and backward the same; common/run/dropout.py says what it computes."""

import torch
import triton
import triton.language as tl

from common.run.dropout import FEATURE, MIX, STREAM, TOKEN

BLOCK, LARGEST_WIDTH, ATTENTION_WIDTH = 2048, 1024, 64  # elements of a program; columns of it


@triton.jit
def mixed(x, first: tl.constexpr, second: tl.constexpr):
    """Returns the scrambled number, uint32."""
    x = (x ^ (x >> 16)) * first
    x = (x ^ (x >> 15)) * second
    return x ^ (x >> 16)


@triton.jit
def dropout_kernel(x, y, step_key, token_keys, stream, threshold, kept_factor, heads, count, width, all_rows,
                   mix0: tl.constexpr, mix1: tl.constexpr, token_factor: tl.constexpr, feature_factor: tl.constexpr,
                   rows: tl.constexpr, columns: tl.constexpr):
    """Writes a part of some rows of x ``(batch, heads, count, width)``, times 0 or the factor of what is kept."""
    row = tl.program_id(0) * rows + tl.arange(0, rows)
    column = tl.program_id(1) * columns + tl.arange(0, columns)[None, :]
    by_head = row // count
    token = by_head // heads * count + row % count
    key = mixed(tl.load(step_key).to(tl.uint32, bitcast=True) + stream.to(tl.uint32), mix0, mix1)
    token_key = tl.load(token_keys + token, mask=row < all_rows, other=0).to(tl.uint32, bitcast=True)
    key = mixed(token_key * token_factor + key, mix0, mix1)[:, None]
    h = key + (column * heads + (by_head % heads)[:, None]).to(tl.uint32) * feature_factor
    h = (h ^ (h >> 15)) * mix1
    factor = tl.where(h.to(tl.int32, bitcast=True) >= threshold, kept_factor, 0.0)
    places = row.to(tl.int64)[:, None] * width + column
    inside = (row < all_rows)[:, None] & (column < width)
    values = tl.load(x + places, mask=inside)
    if x.dtype.element_ty != tl.float64:
        values = values.to(tl.float32)
    tl.store(y + places, (values * factor).to(y.dtype.element_ty), mask=inside)


class Dropped(torch.autograd.Function):
    """What kernels.dropped_out drops of ``(count, width)`` or ``(batch, heads, count, width)`` on a GPU."""

    @staticmethod
    def forward(context, x, dropout):
        context.dropout = dropout
        return Dropped.masked(x, dropout)

    @staticmethod
    def backward(context, gradient):
        return Dropped.masked(gradient, context.dropout), None

    @staticmethod
    def masked(x, dropout):
        x = x.contiguous()
        y = torch.empty_like(x)
        count, width = x.shape[-2:]
        heads = x.shape[1] if x.dim() == 4 else 1
        stream = (dropout.stream + 1) * STREAM % 2**32
        # Of attention not by its width, which changes from batch to batch: no kernel must be compiled for a later one,
        # while a CUDA graph is recorded.
        columns = ATTENTION_WIDTH if x.dim() == 4 else min(LARGEST_WIDTH, triton.next_power_of_2(width))
        all_rows, rows = x.numel() // width, BLOCK // columns
        is_double = x.dtype == torch.float64  # a kernel's own numbers are float32, so that its factor is 1 there
        dropout_kernel[triton.cdiv(all_rows, rows), triton.cdiv(width, columns)](
            x, y, dropout.step_key, dropout.token_keys.contiguous(), stream - 2**32 if stream >= 2**31 else stream,
            dropout.threshold, 1.0 if is_double else dropout.kept_factor, heads, count, width, all_rows, *MIX, TOKEN,
            FEATURE, rows, columns)
        return y.mul_(dropout.kept_factor) if is_double else y
