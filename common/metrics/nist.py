"""NIST (Doddington, 2002, "Automatic evaluation of machine translation quality using n-gram co-occurrence statistics").

No library has the score of the E2E challenge: nltk's takes the one best reference of each segment, while mteval-v13a,
whose score the E2E scorer follows, clips the matches by the references' merged counts.
"""

import math
from collections import Counter
from functools import reduce
from operator import or_

import numpy as np

from common.metrics.bootstrap import Tally

# The length penalty is a half where the output has two thirds of the references' mean length (Doddington, section 4).
BETA = math.log(0.5) / math.log(1.5) ** 2


def ngram_counts(tokens, order):
    """Counts the n-grams of a list of tokens, as a Counter of tuples."""
    return Counter(zip(*(tokens[start:] for start in range(order))))


def nist(references, predictions, corrected=False, max_order=5):
    """NIST of a corpus: sum over orders of (information of matched n-grams / n-grams), times the length penalty.

    The information of an n-gram is log2(count of its first n-1 tokens / its own count) over all references, where the
    count of no token is that of all words (Doddington, equation 2). Matches are clipped by the greatest count
    in any one reference of the segment.

    Args:
        references: for each segment a list of at least one list of tokens.
        predictions: for each segment a list of tokens.
        corrected: a prediction of L tokens has max(L - n + 1, 0) n-grams; the official scorer counts L - n + 1, also
            where that is negative, and gives 0 when the corpus has 0 n-grams of some order.

    Returns:
        Tally with scores from 0 up. The information stays that of all these references when segments are resampled.
    """
    counts = Counter()  # of all references, by n-gram of any order
    matches = []  # for each segment, by n-gram of any order
    totals = np.zeros((len(predictions), max_order))
    reference_lengths = np.zeros(len(predictions))  # words: the mean over the segment's references
    for segment, (group, prediction) in enumerate(zip(references, predictions)):
        matches.append(Counter())
        for order in range(1, max_order + 1):
            in_references = [ngram_counts(reference, order) for reference in group]
            matches[-1].update(ngram_counts(prediction, order) & reduce(or_, in_references))
            for in_reference in in_references:
                counts.update(in_reference)
            total = len(prediction) - order + 1
            totals[segment, order - 1] = max(total, 0) if corrected else total
        words = sum(map(len, group))
        counts[()] += words
        reference_lengths[segment] = words / len(group)

    information = np.zeros((len(predictions), max_order))
    for segment, matched in enumerate(matches):
        for ngram, count in matched.items():
            information[segment, len(ngram) - 1] += count * math.log2(counts[ngram[:-1]] / counts[ngram])

    def score(sums):
        return [_score(line[:max_order], line[max_order:-1], line[-1], corrected) for line in sums]

    statistics = np.column_stack([information, totals, reference_lengths])
    return Tally(statistics, score, score(statistics))


def _score(information, totals, reference_length, corrected):
    if not reference_length or 0 in totals and not corrected:
        return 0.0
    score = sum(gained / total for gained, total in zip(information, totals) if total)
    return float(score * _length_penalty(totals[0] / reference_length))


def _length_penalty(ratio):
    """exp(beta * ln(min(ratio, 1))^2), with ratio = words of the output / mean words of the references."""
    return math.exp(BETA * math.log(min(ratio, 1.0)) ** 2) if ratio > 0 else 0.0
