"""LoRA's dropout as one Triton kernel, forward and backward the same; common/run/dropout.py says what it computes."""

import torch
import triton
import triton.language as tl

from common.run.dropout import FEATURE, MIX, STREAM, TOKEN

BLOCK = 1024


@triton.jit
def mixed(x, first: tl.constexpr, second: tl.constexpr):
    """Returns the scrambled number, uint32."""
    x = (x ^ (x >> 16)) * first
    x = (x ^ (x >> 15)) * second
    return x ^ (x >> 16)


@triton.jit
def dropout_kernel(x, y, step_key, token_keys, stream, threshold, kept_factor, width, mix0: tl.constexpr,
                   mix1: tl.constexpr, token_factor: tl.constexpr, feature_factor: tl.constexpr, block: tl.constexpr):
    """Writes a part of a token's features, x times 0 or the factor of what is kept."""
    token = tl.program_id(0)
    features = tl.program_id(1) * block + tl.arange(0, block)
    key = mixed(tl.load(step_key).to(tl.uint32, bitcast=True) + stream.to(tl.uint32), mix0, mix1)
    key = mixed(tl.load(token_keys + token).to(tl.uint32, bitcast=True) * token_factor + key, mix0, mix1)
    h = key + features.to(tl.uint32) * feature_factor
    h = (h ^ (h >> 15)) * mix1
    factor = tl.where(h.to(tl.int32, bitcast=True) >= threshold, kept_factor, 0.0)
    places = token.to(tl.int64) * width + features
    inside = features < width
    values = tl.load(x + places, mask=inside).to(tl.float32) * factor
    tl.store(y + places, values.to(y.dtype.element_ty), mask=inside)


class Dropped(torch.autograd.Function):
    """``(count, width)`` on a GPU to the same, with the elements dropped that a common.run.dropout.Dropout names."""

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
        count, width = x.shape
        stream = (dropout.stream + 1) * STREAM % 2**32
        dropout_kernel[count, triton.cdiv(width, BLOCK)](
            x, y, dropout.step_key, dropout.token_keys, stream - 2**32 if stream >= 2**31 else stream,
            dropout.threshold, dropout.kept_factor, width, *MIX, TOKEN, FEATURE, BLOCK)
        return y
