"""METEOR 1.5 (Denkowski and Lavie, 2014, "Meteor Universal"), computed by its own Java program from pycocoevalcap."""

import os
from collections.abc import Sequence

import numpy as np
from pycocoevalcap.meteor import meteor as pycocoevalcap_meteor
from tqdm import tqdm

from common.errors import UserError
from common.metrics.bootstrap import Tally
from common.metrics.java import java_process

STATISTICS = 23  # how many numbers METEOR 1.5 counts for a segment
CHUNKS = 20  # index of the number of chunks among them

# METEOR's parameters for English and the task "rank", its default.
ALPHA, BETA, GAMMA, DELTA = 0.85, 0.20, 0.60, 0.75
MODULE_WEIGHTS = np.array([1.0, 0.6, 0.8, 0.6])  # exact, stem, synonym, paraphrase


def meteor(references: Sequence[Sequence[str]], predictions: Sequence[str]) -> Tally:
    """Scores a corpus in English with METEOR's own normalization (``-l en -norm``), in one run of Java.

    Args:
        references: for each segment a list of at least one string, tokens joined by spaces.
        predictions: for each segment one such string.

    Returns:
        Tally; the corpus' score is not the mean of the segments'.

    Raises:
        UserError: Java is missing, stops, answers with anything but numbers, or scores with other parameters.
        ValueError: the two lists differ in length.
    """
    if len(references) != len(predictions):
        raise ValueError(f"{len(references)} groups of references for {len(predictions)} predictions")
    folder = os.path.dirname(os.path.abspath(pycocoevalcap_meteor.__file__))
    # Names are as seen from the folder: METEOR finds no paraphrases by itself where the path has a space or an é.
    arguments = ["-Xmx2G", "-jar", pycocoevalcap_meteor.METEOR_JAR, "-", "-", "-stdio", "-l", "en", "-norm",
                 "-a", os.path.join("data", "paraphrase-en.gz")]
    segments = tqdm(zip(references, predictions), "METEOR", len(predictions), leave=False, disable=None)
    with java_process("METEOR", arguments, folder) as process:
        lines = []
        for group, prediction in segments:
            _send(process, ["SCORE", *group, prediction.replace("|||", "").replace("  ", " ")])
            lines.append(_receive(process, STATISTICS))
        _send(process, ["EVAL", *lines])
        scores = [float(_receive(process, 1)) for _ in range(len(lines) + 1)]
    statistics = np.array([line.split() for line in lines], dtype=np.float64)
    statistics[_perfect(statistics), CHUNKS] = 0
    tally = Tally(statistics, score_sums, scores[:-1])
    if not abs(tally.corpus_score - scores[-1]) < 1e-9:
        raise UserError(f"METEOR's program returned {scores[-1]}, its formula gives {tally.corpus_score} for the same "
                        "counts: it is not METEOR 1.5 with its English parameters; install pycocoevalcap again")
    return tally


def _matches(statistics):
    """Returns the modules' matches, ``(segments, modules, content or function words, prediction or reference)``."""
    return statistics[:, 4:CHUNKS].reshape(-1, len(MODULE_WEIGHTS), 2, 2)


def _perfect(statistics):
    """Returns ``(segments,)``, bool: which segments match completely, in one chunk. METEOR counts 0 chunks for them."""
    return (_matches(statistics).sum(axis=(1, 2)) == statistics[:, :2]).all(axis=1) & (statistics[:, CHUNKS] == 1)


def score_sums(sums: np.ndarray) -> np.ndarray:
    """Returns METEOR of corpora from the sums of their segments' statistics (Denkowski and Lavie, 2014, section 2).

    Args:
        sums: array ``(corpora, 23)``, in METEOR's order: words and function words of prediction and reference, matches
            of each module, chunks (0 for segments that match completely), matched words.

    Returns:
        array ``(corpora,)`` of scores from 0 to 1.
    """
    matches = np.einsum("cmks,m->cks", _matches(sums), MODULE_WEIGHTS)  # (corpora, kind of word, side)
    words, function_words = sums[:, 0:2], sums[:, 2:4]
    weighted_matches = DELTA * matches[:, 0] + (1 - DELTA) * matches[:, 1]
    weighted_words = DELTA * (words - function_words) + (1 - DELTA) * function_words
    with np.errstate(divide="ignore", invalid="ignore"):
        precision, recall = (weighted_matches / weighted_words).T
        mean = 1 / ((1 - ALPHA) / precision + ALPHA / recall)
        penalty = GAMMA * (sums[:, CHUNKS] / sums[:, CHUNKS + 1:].mean(axis=1)) ** BETA
        return np.nan_to_num(mean * (1 - penalty))


def _send(process, fields):
    process.stdin.write((" ||| ".join(fields) + "\n").encode("utf-8"))
    process.stdin.flush()


def _receive(process, count):
    """Reads and returns one line of ``count`` numbers; raises ValueError if it is anything else."""
    line = process.stdout.readline().decode("utf-8").strip()
    try:
        numbers = [float(word) for word in line.split()]
    except ValueError:
        numbers = []
    if len(numbers) != count:
        raise ValueError(f"its answer was {line!r}, expected {count} numbers")
    return line
