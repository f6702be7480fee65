"""Confidence intervals and paired significance by resampling segments with replacement.

Koehn (2004), "Statistical significance tests for machine translation evaluation". The resamples (for an equal seed),
the ends of the interval and the p value are those of sacrebleu, which has them for its own metrics alone.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

SEED = 12345  # sacrebleu's
FEWEST_SAMPLES = 40  # under 40 resamples none lies outside the 95 % interval
USUAL_SAMPLES = 1000


@dataclass(frozen=True)
class Tally:
    """What one metric counts in each segment, and the score of any corpus made of such segments.

    statistics: array (segments, numbers) of float64, to be summed over segments.
    score: function from sums, an array (corpora, numbers), to scores, a sequence of as many floats.
    segment_scores: list of floats, for each segment a score of its own.
    """

    statistics: np.ndarray
    score: Callable
    segment_scores: list

    @property
    def corpus_score(self):
        """The score of the whole corpus, a float."""
        return float(self.score(self.statistics.sum(axis=0, keepdims=True))[0])


def mean_tally(values):
    """Returns the tally of a metric whose corpus score is the mean of its segments' scores.

    Args:
        values: sequence of floats, one for each segment.
    """
    values = np.asarray(values, dtype=np.float64)
    return Tally(np.column_stack([values, np.ones_like(values)]), lambda sums: sums[:, 0] / sums[:, 1], values.tolist())


def split_tally(tally, parts):
    """Parts the tally of equally long corpora that were scored as one; returns a list of ``parts`` tallies."""
    length = len(tally.segment_scores) // parts
    return [Tally(tally.statistics[start:start + length], tally.score, tally.segment_scores[start:start + length])
            for start in range(0, parts * length, length)]


def resample(tallies, samples, seed=SEED):
    """Scores resampled corpora; each resample takes the same segments for every tally.

    Args:
        tallies: dict of ``Tally``, all of the same segments.
        samples: how many corpora, each of as many segments as there are, drawn with replacement.

    Returns:
        dict with the keys of ``tallies``: arrays (samples,) of scores.
    """
    segments = len(next(iter(tallies.values())).statistics)
    random = np.random.default_rng(seed)
    sums = {key: np.empty((samples, tally.statistics.shape[1])) for key, tally in tallies.items()}
    for index in range(samples):
        times = np.bincount(random.choice(segments, size=segments, replace=True), minlength=segments).astype(np.float64)
        for key, tally in tallies.items():
            sums[key][index] = times @ tally.statistics
    return {key: np.asarray(tally.score(sums[key]), dtype=np.float64) for key, tally in tallies.items()}


def interval(values):
    """Returns the ends of the 95 % interval of resampled values, two floats: 1/40 of the values lie beyond each."""
    ordered = np.sort(values)
    beyond = len(ordered) // 40
    return [float(ordered[beyond]), float(ordered[-1 - beyond])]


def p_value(first, second, difference):
    """Returns how probable a difference as great is where the two systems are equally good, from 0 to 1.

    Unlike sacrebleu's, it is 1 for systems whose scores are the same in each resample.

    Args:
        first, second: arrays (samples,), the scores of the two systems on the same resamples.
        difference: between their scores on the whole corpus.
    """
    spread = np.abs(second - first)
    return float((np.sum(spread - spread.mean() >= abs(difference)) + 1) / (len(spread) + 1))


def describe(systems, samples=None, seed=SEED):
    """Scores one system, or two on the same segments.

    Args:
        systems: list of one or two dicts from metric to ``Tally``.
        samples: number of resamples; None for no intervals of one system, and for USUAL_SAMPLES of two.

    Returns:
        dict: ``scores`` (metric to float); with resamples ``intervals`` (metric to two floats) and ``bootstrap`` (their
        number and the seed); of a second system ``scores2``, ``intervals2`` and ``comparison`` (metric to a dict:
        ``difference`` of the second from the first, its ``interval`` and the ``p`` value).
    """
    systems = dict(zip(("", "2"), systems))
    samples = samples or (USUAL_SAMPLES if "2" in systems else None)
    result = {f"scores{name}": {metric: tally.corpus_score for metric, tally in system.items()}
              for name, system in systems.items()}
    if not samples:
        return result
    drawn = resample({(name, metric): tally for name, system in systems.items() for metric, tally in system.items()},
                     samples, seed)
    for name, system in systems.items():
        result[f"intervals{name}"] = {metric: interval(drawn[name, metric]) for metric in system}
    if "2" in systems:
        differences = {metric: result["scores2"][metric] - score for metric, score in result["scores"].items()}
        result["comparison"] = {
            metric: {"difference": difference, "interval": interval(drawn["2", metric] - drawn["", metric]),
                     "p": p_value(drawn["", metric], drawn["2", metric], difference)}
            for metric, difference in differences.items()}
    return {**result, "bootstrap": {"samples": samples, "seed": seed}}


def segment_records(systems):
    """Yields for each segment a dict of its number from 1 on, ``scores`` and, of a second system, ``scores2``."""
    columns = [[tally.segment_scores for tally in system.values()] for system in systems]
    for index in range(len(columns[0][0])):
        yield {"segment": index + 1, **{f"scores{name}": dict(zip(system, (column[index] for column in system_columns)))
                                        for name, system, system_columns in zip(("", "2"), systems, columns)}}
