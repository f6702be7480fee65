"""NIST (Doddington, 2002, "Automatic evaluation of machine translation quality using n-gram co-occurrence statistics").

No library has the score of the E2E challenge: nltk's uses only the best reference of each segment, while mteval-v13a,
which the E2E scorer follows, clips the matches by the merged counts of all references.
"""

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from functools import reduce
from operator import or_

import numpy as np

from common.metrics.bootstrap import Tally

MAX_ORDER = 5  # of n-grams
# The length penalty is 0.5 if the output has two thirds of the references' mean length (Doddington, section 4).
BETA = math.log(0.5) / math.log(1.5) ** 2


def ngram_counts(tokens: Sequence[Hashable], order: int) -> Counter[tuple[Hashable, ...]]:
    """Counts the n-grams of a list of tokens."""
    return Counter(zip(*(tokens[start:] for start in range(order))))


def nist(references: Sequence[Sequence[Sequence[str]]], predictions: Sequence[Sequence[str]],
         corrected: bool) -> Tally:
    """Returns the tally of NIST: the sum over orders of (information of matched n-grams / n-grams), times a penalty.

    The penalty lowers the score of outputs shorter than the references' mean length. The information of an n-gram is
    log2(count of its first n-1 tokens / its own count) over all references, where the count of the empty n-gram is the
    number of all words (Doddington, equation 2). Matches are clipped by the greatest count in a single reference of
    the segment.

    Args:
        references: for each segment a list of at least one list of tokens.
        predictions: for each segment a list of tokens.
        corrected: a prediction of L tokens has max(L - n + 1, 0) n-grams; the official scorer counts L - n + 1, even
            if that is negative, and gives 0 if the corpus has 0 n-grams of some order.

    Returns:
        Tally with scores from 0 up. The information is that of all these references, also when segments are resampled.
    """
    counts: Counter[tuple[Hashable, ...]] = Counter()  # of all references, by n-gram of any order
    matches: list[Counter[tuple[Hashable, ...]]] = []  # for each segment, by n-gram of any order
    totals = np.zeros((len(predictions), MAX_ORDER))
    reference_lengths = np.zeros(len(predictions))  # in words: the mean over the segment's references
    for segment, (group, prediction) in enumerate(zip(references, predictions)):
        matches.append(Counter())
        for order in range(1, MAX_ORDER + 1):
            in_references = [ngram_counts(reference, order) for reference in group]
            matches[-1].update(ngram_counts(prediction, order) & reduce(or_, in_references))
            for in_reference in in_references:
                counts.update(in_reference)
            total = len(prediction) - order + 1
            totals[segment, order - 1] = max(total, 0) if corrected else total
        words = sum(map(len, group))
        counts[()] += words
        reference_lengths[segment] = words / len(group)

    information = np.zeros((len(predictions), MAX_ORDER))
    for segment, matched in enumerate(matches):
        for ngram, count in matched.items():
            information[segment, len(ngram) - 1] += count * math.log2(counts[ngram[:-1]] / counts[ngram])

    def score(sums: np.ndarray) -> list[float]:
        return [_score(row[:MAX_ORDER], row[MAX_ORDER:-1], row[-1], corrected) for row in sums]

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
