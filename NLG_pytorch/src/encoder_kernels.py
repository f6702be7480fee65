"""Operations of encoders that are tuned for torch, beside those of kernels.py: the same names as in the other tree.

Sequences lie one after another, as in common.run.batching.Packed.
"""

import torch
from torch.nn import functional as F

from kernel_sources import padded_attention
from kernel_sources.attention import attention


def layout_of(packed):
    """Returns what the functions here need to know of a Packed of arrays on the device; once for all layers."""
    return padded_attention.layout_of(packed)


def gelu(x):
    """GELU itself, ``x * Phi(x)`` (Hendrycks and Gimpel 2016, section 2), as BERT was trained with."""
    return F.gelu(x)


def self_attention(fused, heads, layout, dropout):
    """Scaled dot-product attention in which a token sees its whole sequence.

    Args:
        fused: ``(count, 3 * width)``, queries, keys and values side by side, each ``(heads, head_width)``.
        heads: number of heads.
        layout: of layout_of.
        dropout: common.run.dropout.Dropout of the weights, or None; the features of a query are ``key position * heads
            + head``.

    Returns:
        ``(count, width)``.
    """
    if dropout is None and fused.is_cuda:
        return attention(fused, heads, layout.packed, is_causal=False)
    return padded_attention.PaddedAttention.apply(fused, heads, layout, dropout)


def span_losses(logits, targets, layout, label_smoothing):
    """Label-smoothed cross-entropy of the places at which spans start and end, each over its own sequence.

    ``(1 - e) * nll + e * mean of -log p``, the mean over the sequence's tokens; that of the start and of the end are
    added.

    Args:
        logits: ``(count, 2)``, of start and end.
        targets: ``(batch, 2)``, the position of either in its sequence.
        layout: of layout_of.
        label_smoothing: e.

    Returns:
        ``(batch,)``.
    """
    packed = layout.packed
    part = padded_attention.part_of(packed.offsets[:-1], packed.offsets[1:], packed.length, len(logits))
    by_place = logits.index_select(0, part.indices.view(-1)).view(*part.indices.shape, 2)
    log_p = torch.log_softmax(by_place + part.mask[:, :, None], dim=1)
    nll = -log_p.gather(1, targets[:, None].long()).squeeze(1)
    if label_smoothing:
        mean = (log_p * part.is_token[:, :, None]).sum(dim=1) / part.is_token.sum(dim=1, keepdim=True).clamp(min=1)
        nll = (1.0 - label_smoothing) * nll - label_smoothing * mean
    return nll.sum(dim=1)
