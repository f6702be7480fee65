"""Attention over sequences that lie one after another, as in common.run.batching.Packed; in 32 and 16 bits no array is
padded."""

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
    if fused.is_cuda and fused.dtype == torch.float64:
        return attention_of_float64(fused, heads, packed, is_causal)
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


def attention_of_float64(fused, heads, packed, is_causal):
    """The same on a GPU: of torch's kernels for sequences one after another none takes float64."""
    from kernel_sources.padded_attention import layout_of  # it takes from kernels, which takes from here

    layout = layout_of(packed)
    [part] = layout.parts
    batch, length = part.indices.shape
    mask = part.is_token[:, None, None].expand(-1, 1, length, -1)
    if is_causal:
        mask = mask.tril()
    padded = fused.index_select(0, part.indices.view(-1)).view(batch, length, 3, heads, -1)
    output = F.scaled_dot_product_attention(*padded.permute(2, 0, 3, 1, 4), attn_mask=mask)
    return output.transpose(1, 2).reshape(batch * length, -1).index_select(0, layout.places)
