"""Confidence intervals and paired significance by resampling segments with replacement.

Koehn (2004), "Statistical significance tests for machine translation evaluation". The resamples, the bounds of the
interval and the p value are those of sacrebleu, which computes them for its own metrics only.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Key = TypeVar("Key", bound=Hashable)

SEED = 12345  # sacrebleu's
MIN_SAMPLES = 40  # with fewer resamples none is outside the 95 % interval
DEFAULT_SAMPLES = 1000


@dataclass(frozen=True)
class Tally:
    """What one metric counts in each segment, and the score of any corpus made of such segments.

    Attributes:
        statistics: array ``(segments, numbers)``, float64, to be summed over segments.
        score: function from sums, an array ``(corpora, numbers)``, to one score per corpus.
        segment_scores: the score of each segment by itself.
    """

    statistics: np.ndarray
    score: Callable[[np.ndarray], Sequence[float] | np.ndarray]
    segment_scores: list[float]

    @property
    def corpus_score(self) -> float:
        """The score of the whole corpus."""
        return float(self.score(self.statistics.sum(axis=0, keepdims=True))[0])


def mean_tally(scores: npt.ArrayLike) -> Tally:
    """Returns the tally of a metric whose corpus score is the mean of its segments' scores.

    Args:
        scores: one float per segment.
    """
    values = np.asarray(scores, dtype=np.float64)
    return Tally(np.column_stack([values, np.ones_like(values)]), lambda sums: sums[:, 0] / sums[:, 1], values.tolist())


def split_tally(tally: Tally, count: int) -> list[Tally]:
    """Splits the tally of ``count`` equally long corpora that were scored as one into the tally of each."""
    length = len(tally.segment_scores) // count
    return [Tally(tally.statistics[start:start + length], tally.score, tally.segment_scores[start:start + length])
            for start in range(0, count * length, length)]


def resample(tallies: Mapping[Key, Tally], samples: int) -> dict[Key, np.ndarray]:
    """Scores resampled corpora; each resample has the same segments for every tally. The seed is SEED.

    Args:
        tallies: all of the same segments.
        samples: how many corpora, each of as many segments as there are, drawn with replacement.

    Returns:
        dict with the keys of ``tallies``: arrays ``(samples,)`` of scores.
    """
    segments = len(next(iter(tallies.values())).statistics)
    random = np.random.default_rng(SEED)
    sums = {key: np.empty((samples, tally.statistics.shape[1])) for key, tally in tallies.items()}
    for index in range(samples):
        times = np.bincount(random.choice(segments, size=segments, replace=True), minlength=segments).astype(np.float64)
        for key, tally in tallies.items():
            sums[key][index] = times @ tally.statistics
    return {key: np.asarray(tally.score(sums[key]), dtype=np.float64) for key, tally in tallies.items()}


def interval(values: np.ndarray) -> list[float]:
    """Returns the two bounds of the 95 % interval of resampled values: 1/40 of the values are beyond each."""
    ordered = np.sort(values)
    beyond = len(ordered) // 40
    return [float(ordered[beyond]), float(ordered[-1 - beyond])]


def p_value(first: np.ndarray, second: np.ndarray, difference: float) -> float:
    """Returns the probability of a difference at least as large if the two systems are equally good, from 0 to 1.

    Unlike sacrebleu's, it is 1 for systems whose scores are the same in each resample.

    Args:
        first, second: arrays ``(samples,)``, the scores of the two systems on the same resamples.
        difference: between their scores on the whole corpus.
    """
    spread = np.abs(second - first)
    return float((np.sum(spread - spread.mean() >= abs(difference)) + 1) / (len(spread) + 1))


def describe(systems: Sequence[Mapping[str, Tally]], samples: int | None = None) -> dict[str, Any]:
    """Scores one system, or two on the same segments.

    Args:
        systems: one or two dicts from metric to ``Tally``.
        samples: number of resamples; None means no intervals for one system and DEFAULT_SAMPLES for two.

    Returns:
        dict: ``scores`` (metric to float); with resamples ``intervals`` (metric to two floats) and ``bootstrap`` (their
        number and the seed); of a second system ``scores2``, ``intervals2`` and ``comparison`` (metric to a dict:
        ``difference``, the second's score minus the first's, its ``interval`` and the ``p`` value).
    """
    named = dict(zip(("", "2"), systems))
    samples = samples or (DEFAULT_SAMPLES if "2" in named else None)
    result: dict[str, Any] = {f"scores{name}": {metric: tally.corpus_score for metric, tally in system.items()}
                              for name, system in named.items()}
    if not samples:
        return result
    drawn = resample({(name, metric): tally for name, system in named.items() for metric, tally in system.items()},
                     samples)
    for name, system in named.items():
        result[f"intervals{name}"] = {metric: interval(drawn[name, metric]) for metric in system}
    if "2" in named:
        differences = {metric: result["scores2"][metric] - score for metric, score in result["scores"].items()}
        result["comparison"] = {
            metric: {"difference": difference, "interval": interval(drawn["2", metric] - drawn["", metric]),
                     "p": p_value(drawn["", metric], drawn["2", metric], difference)}
            for metric, difference in differences.items()}
    return {**result, "bootstrap": {"samples": samples, "seed": SEED}}


def segment_records(systems: Sequence[Mapping[str, Tally]]) -> Iterator[dict[str, Any]]:
    """Yields for each segment a dict of its number from 1 on, ``scores`` and, of a second system, ``scores2``."""
    columns = [[tally.segment_scores for tally in system.values()] for system in systems]
    for index in range(len(columns[0][0])):
        yield {"segment": index + 1, **{f"scores{name}": dict(zip(system, (column[index] for column in system_columns)))
                                        for name, system, system_columns in zip(("", "2"), systems, columns)}}
