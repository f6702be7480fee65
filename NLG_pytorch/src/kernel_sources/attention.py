"""Attention over sequences that lie one after another, as in common.run.batching.Packed; no array is padded."""

import torch
from torch.nn import functional as F


def attention(fused, heads, packed, is_causal):
    """Scaled dot-product attention of each sequence with itself.

    Args:
        fused: ``(count, 3 * width)``, queries, keys and values side by side, each ``(heads, head_width)``.
        heads: number of heads.
        packed: Packed of arrays on the device.
        is_causal: whether a token sees itself and what comes before it alone.

    Returns:
        ``(count, width)``.
    """
    count, width = fused.shape[0], fused.shape[1] // 3
    if fused.is_cuda:
        # What scaled_dot_product_attention calls for nested tensors, its causal mask being number 1: for sequences one
        # after another there is no public call that takes float32.
        query, key, value = fused.view(1, count, 3, heads, -1).unbind(2)
        output, *_ = torch.ops.aten._efficient_attention_forward(
            query, key, value, None, packed.offsets, packed.offsets, packed.length, packed.length, 0.0,
            custom_mask_type=int(is_causal), compute_log_sumexp=True)
        return output.view(count, width)
    query, key, value = fused.view(1, count, 3, heads, -1).permute(2, 0, 3, 1, 4)
    lengths = packed.offsets.diff().tolist()
    sequences = zip(*(each.split(lengths, dim=2) for each in (query, key, value)))
    return torch.cat([F.scaled_dot_product_attention(*parts, is_causal=is_causal).transpose(1, 2).reshape(-1, width)
                      for parts in sequences])
