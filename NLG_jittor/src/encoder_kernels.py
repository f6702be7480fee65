"""Operations of encoders that are tuned for Jittor, beside those of kernels.py: the same names as in the other tree.

Sequences lie one after another, as in common.run.batching.Packed.
"""

from kernel_sources.attention import Attention
from kernel_sources.encoder_functions import ErfGelu, SpanLosses


def layout_of(packed):
    """Returns what the functions here need to know of a Packed of arrays on the device; once for all layers."""
    return packed


def gelu(x):
    """GELU itself, ``x * Phi(x)`` (Hendrycks and Gimpel 2016, section 2), as BERT was trained with."""
    return ErfGelu.apply(x)


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
    return Attention.apply(fused, heads, layout.offsets, layout.length, False, dropout)


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
    return SpanLosses.apply(logits, targets, layout.offsets, label_smoothing)
