"""What sacrebleu counts for BLEU (Papineni et al., 2002), segment by segment."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sacrebleu.metrics.bleu import BLEU

ORDER = 4  # of the longest n-grams


def count_bleu(metric: BLEU, predictions: Sequence[str], streams: Sequence[Sequence[str | None]]) -> np.ndarray:
    """Counts n-grams with sacrebleu's ``BLEU``.

    Args:
        metric: a ``BLEU`` made with ``force=True``.
        predictions: one string per segment.
        streams: stream k has the k-th reference of each segment, or None.

    Returns:
        array ``(segments, 10)``, float64: words of the prediction and of the reference closest in length, then for each
        order the matches, then for each order the n-grams of the prediction.
    """
    return np.array(metric._extract_corpus_statistics(predictions, streams), dtype=np.float64)


def score_counts(counts: np.ndarray, min_matches: float = 0, min_ngrams: float = 0, **options: Any) -> list[float]:
    """Returns BLEU, from 0 to 100, of each row of counts.

    Args:
        counts: array ``(corpora, 10)``, as ``count_bleu`` returns it, or sums of its rows.
        min_matches, min_ngrams: lower bounds for each number of matches and of n-grams; smaller ones are raised.
        options: of sacrebleu's ``BLEU.compute_bleu``.
    """
    return [BLEU.compute_bleu([max(count, min_matches) for count in row[2:2 + ORDER]],
                              [max(total, min_ngrams) for total in row[2 + ORDER:]],
                              int(row[0]), int(row[1]), **options).score for row in counts.tolist()]


def score_segments(counts: np.ndarray) -> list[float]:
    """Returns the BLEU of each segment, from 0 to 100, smoothed as sacrebleu's ``sentence_bleu``."""
    return score_counts(counts, smooth_method="exp", effective_order=True)
