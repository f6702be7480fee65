"""Dropout on a processor, in torch's own operations; common/run/dropout.py says what it computes."""

import functools

import torch

from common.run.dropout import FEATURE, MIX, STREAM, TOKEN


def mixed(x):
    """Returns the scrambled int32 numbers of common.run.dropout.mixed; ``>>`` would fill with the sign."""
    x = (x ^ ((x >> 16) & 0xFFFF)) * signed(MIX[0])
    x = (x ^ ((x >> 15) & 0x1FFFF)) * signed(MIX[1])
    return x ^ ((x >> 16) & 0xFFFF)


def signed(number):
    """Returns the number whose 32 bits, read as a signed one, are those of ``number``."""
    return (number + 2**31) % 2**32 - 2**31


@functools.lru_cache
def feature_keys(heads, width, where):
    """Returns ``(heads, 1, width)`` int32, what a feature adds to its token's number; made once, as it costs time."""
    features = torch.arange(width, device=where) * heads + torch.arange(heads, device=where)[:, None, None]
    return features.int() * signed(FEATURE)


def dropped_out(x, dropout):
    """What kernels.dropped_out does on a processor."""
    by_head = x if x.dim() == 4 else x[None, None]
    stream = mixed(dropout.step_key + signed((dropout.stream + 1) * STREAM))
    tokens = mixed(dropout.token_keys * signed(TOKEN) + stream).view(len(by_head), 1, -1, 1)
    h = tokens + feature_keys(by_head.shape[1], by_head.shape[3], x.device)
    h = ((h >> 15) & 0x1FFFF).bitwise_xor_(h).mul_(signed(MIX[1]))
    return x * ((h >= dropout.threshold).to(x.dtype) * dropout.kept_factor).view_as(x)
