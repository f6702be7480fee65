"""Counting predicted arguments against gold ones; scores are made of the counts' sums."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from common.data.events import Event, Span

MEASURES = ("classification", "identification", "token")


@dataclass(frozen=True)
class Found:
    """One predicted argument of an event."""

    role: str
    span: Span


@dataclass
class Counts:
    """How many arguments were predicted, are gold, and are both; sums of them make precision, recall and F1."""

    predicted: int = 0
    gold: int = 0
    correct: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.predicted + other.predicted, self.gold + other.gold, self.correct + other.correct)

    @property
    def precision(self) -> float:
        """Share of the predicted ones that are gold; 0 where nothing was predicted."""
        return self.correct / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        """Share of the gold ones that were predicted; 0 where nothing is gold."""
        return self.correct / self.gold if self.gold else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall (van Rijsbergen 1979, chapter 7)."""
        total = self.predicted + self.gold
        return 2 * self.correct / total if total else 0.0


def count_sets(predicted: Iterable, gold: Iterable) -> Counts:
    """Counts two collections as sets."""
    predicted, gold = set(predicted), set(gold)
    return Counts(len(predicted), len(gold), len(predicted & gold))


def count_event(event: Event, found: Sequence[Found]) -> dict[str, Counts]:
    """Counts one event's predicted arguments.

    Returns:
        ``{measure: Counts}`` for each of MEASURES: ``classification`` counts role and exact span, ``identification``
        the exact span alone, ``token`` role and word, each once for an event.
    """
    predicted = {(each.role, each.span) for each in found}
    gold = {(role, span) for role, spans in event.arguments.items() for span in spans}
    return {
        "classification": count_sets(predicted, gold),
        "identification": count_sets((span for _, span in predicted), (span for _, span in gold)),
        "token": count_sets(_words(predicted), _words(gold)),
    }


def count_roles(event: Event, found: Sequence[Found]) -> dict[str, Counts]:
    """Counts as ``classification`` does, by role; returns ``{role: Counts}`` of the roles that occur."""
    roles = dict.fromkeys([*event.arguments, *(each.role for each in found)])
    return {role: count_sets((each.span for each in found if each.role == role), event.arguments.get(role, ()))
            for role in roles}


def _words(arguments):
    return {(role, word) for role, span in arguments for word in range(span.start, span.end + 1)}


def total(counts: Iterable[Counts]) -> Counts:
    """Returns the sum of counts."""
    return sum(counts, Counts())


def micro_scores(events: Sequence[Event], found: Sequence[Sequence[Found]]) -> dict[str, Counts]:
    """Returns ``{measure: Counts}`` of all events together, for each of MEASURES."""
    each = [count_event(event, arguments) for event, arguments in zip(events, found, strict=True)]
    return {measure: total(counts[measure] for counts in each) for measure in MEASURES}
