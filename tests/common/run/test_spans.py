"""From logits to spans: against a search over all spans, and the probabilities' sum."""

import itertools

import numpy as np
import pytest

from common.data.events import Span
from common.data.word_pieces import Query
from common.run.spans import argmax_span, best_span, span_losses

# Three pieces before the sentence, words of one, two, one and three pieces, one [SEP] behind it.
QUERY = Query(0, "Agent", list(range(12)), [0] * 12, 2, 5, [3, 4, 6, 7], [3, 5, 6, 9], ())


def logits_of(seed):
    return np.random.RandomState(seed).randn(12, 2).astype(np.float32)


@pytest.mark.parametrize("seed", range(8))
def test_the_best_span_is_that_of_a_plain_search(seed):
    logits = logits_of(seed).astype(np.float64)
    sums = {None: logits[2].sum()}
    for first, last in itertools.combinations_with_replacement(range(4), 2):
        sums[Span(5 + first, 5 + last)] = logits[QUERY.word_starts[first], 0] + logits[QUERY.word_ends[last], 1]
    expected = max(sums, key=sums.get)
    answer = best_span(QUERY, logits_of(seed))
    assert answer.span == expected
    assert answer.probability == pytest.approx(np.exp(sums[expected]) / sum(map(np.exp, sums.values())))


def test_no_argument_wins_a_tie():
    assert best_span(QUERY, np.zeros((12, 2))).span is None
    logits = np.zeros((12, 2))
    logits[2, 0] = 1e4  # does not overflow
    answer = best_span(QUERY, logits)
    assert answer.span is None and answer.probability == 1.0


@pytest.mark.parametrize("start, end, expected", [
    (4, 6, Span(6, 7)), (5, 8, Span(6, 8)),  # pieces inside words count for the words
    (6, 4, None),  # ends before it begins
    (2, 2, None), (3, 11, None), (1, 4, None), (0, 0, None)])
def test_start_and_end_by_themselves(start, end, expected):
    logits = np.zeros((12, 2))
    logits[start, 0] = logits[end, 1] = 3.0
    answer = argmax_span(QUERY, logits)
    assert answer.span == expected
    assert answer.probability == pytest.approx((np.exp(3) / (np.exp(3) + 11)) ** 2)


def test_the_loss_of_a_span():
    logits = logits_of(3).astype(np.float64)
    shares = np.exp(logits) / np.exp(logits).sum(axis=0)
    assert span_losses(QUERY, logits, Span(6, 7)) == pytest.approx(-np.log(shares[4, 0]) - np.log(shares[6, 1]))
    assert span_losses(QUERY, logits, None) == pytest.approx(-np.log(shares[2]).sum())
