"""From the logits of queries to spans of words, and how sure the model is of them."""

from dataclasses import dataclass

import numpy as np

from common.data.events import Span
from common.data.word_pieces import Query


@dataclass(frozen=True)
class Answer:
    """What a model says to one query.

    Attributes:
        span: Span of words, or None for no argument.
        probability: of this answer among all, no argument included; see best_span.
    """

    span: Span | None
    probability: float


def best_span(query: Query, logits: np.ndarray) -> Answer:
    """Returns the best answer to a query.

    A span of words has the sum of the start logit at its first piece and the end logit at its last, no argument that of
    both at the first [SEP] (Devlin et al. 2019, section 4.3); start <= end, and both inside the sentence. The highest
    one wins, and no argument on a tie. The probability is a softmax over all these sums.

    Args:
        query: Query.
        logits: ``(len(query.input_ids), 2)``, start and end.
    """
    logits = np.asarray(logits, np.float64)
    starts, ends = logits[query.word_starts, 0], logits[query.word_ends, 1]
    sums = np.where(np.triu(np.ones((len(starts), len(ends)), bool)), starts[:, None] + ends[None, :], -np.inf)
    none = logits[query.separator].sum()
    place = int(np.argmax(sums))
    best = sums.flat[place]
    highest = max(best, none)
    all_of_it = np.exp(sums - highest).sum() + np.exp(none - highest)
    if best <= none:
        return Answer(None, float(1.0 / all_of_it))
    start, end = divmod(place, len(ends))
    return Answer(Span(query.first_word + start, query.first_word + end), float(1.0 / all_of_it))


def argmax_span(query: Query, logits: np.ndarray) -> Answer:
    """Returns the answer of the first program of this kind: start and end by themselves, over all positions.

    Where one of them is outside the sentence, or the end before the start, there is no argument. Of a word that only a
    later piece of was chosen, the whole counts. The probability is the product of both softmaxes.
    """
    logits = np.asarray(logits, np.float64)
    start, end = np.argmax(logits, axis=0)
    shares = np.exp(logits - logits.max(axis=0))
    probability = float(np.prod(shares.max(axis=0) / shares.sum(axis=0)))
    inside = range(query.word_starts[0], query.word_ends[-1] + 1)
    if start not in inside or end not in inside or end < start:
        return Answer(None, probability)
    first, last = (int(np.searchsorted(query.word_starts, place, side="right")) - 1 for place in (start, end))
    return Answer(Span(query.first_word + first, query.first_word + last), probability)


def span_losses(query: Query, logits: np.ndarray, span: Span | None) -> float:
    """Returns cross-entropy of the start + that of the end of a Span, or of none, over all positions of a query."""
    logits = np.asarray(logits, np.float64)
    places = query.positions(span) if span else (query.separator, query.separator)
    peaks = logits.max(axis=0)
    normalizers = peaks + np.log(np.exp(logits - peaks).sum(axis=0))
    return float(normalizers.sum() - logits[places[0], 0] - logits[places[1], 1])
