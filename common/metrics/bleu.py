"""What sacrebleu counts for BLEU (Papineni et al., 2002), segment by segment."""

import numpy as np
from sacrebleu.metrics.bleu import BLEU

ORDER = 4  # of the longest n-grams


def count_bleu(metric, predictions, streams):
    """Counts n-grams by a sacrebleu ``BLEU``.

    Args:
        metric: a ``BLEU`` made with ``force=True``.
        predictions: list of strings.
        streams: list of references' lists; stream k has the k-th reference of each segment, or None.

    Returns:
        array (segments, 10): words of the prediction and of the reference closest in length, then for each order the
        matches, then for each order the n-grams of the prediction.
    """
    return np.array(metric._extract_corpus_statistics(predictions, streams), dtype=np.float64)


def score_counts(counts, least_matches=0, least_ngrams=0, **options):
    """Returns BLEU, from 0 to 100, of each line of counts, a list of floats.

    Args:
        counts: array (corpora, 10), as ``count_bleu`` returns it, or sums of its lines.
        least_matches, least_ngrams: what to raise each number of matches and of n-grams to.
        options: of sacrebleu's ``BLEU.compute_bleu``.
    """
    return [BLEU.compute_bleu([max(count, least_matches) for count in line[2:2 + ORDER]],
                              [max(total, least_ngrams) for total in line[2 + ORDER:]],
                              int(line[0]), int(line[1]), **options).score for line in counts.tolist()]


def score_segments(counts):
    """Returns the BLEU of each segment, from 0 to 100, smoothed as sacrebleu's ``sentence_bleu``; a list of floats."""
    return score_counts(counts, smooth_method="exp", effective_order=True)
