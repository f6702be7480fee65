"""METEOR 1.5 (Denkowski and Lavie, 2014, "Meteor Universal"), by its own Java program from pycocoevalcap."""

import os

from pycocoevalcap.meteor import meteor as pycocoevalcap_meteor
from tqdm import tqdm

from common.metrics.java import java_process

STATISTICS = 23  # numbers that METEOR 1.5 keeps of a segment


def meteor(references, predictions):
    """Scores a corpus in English with METEOR's own normalisation (``-l en -norm``), in one run of Java.

    Args:
        references: for each segment a list of at least one string, tokens joined by spaces.
        predictions: for each segment one such string.

    Returns:
        (score, segment_scores): the corpus' score, which is not the mean of the segments', and a list of floats.

    Raises:
        UserError: Java is missing, stops, or answers with anything but numbers.
    """
    if len(references) != len(predictions):
        raise ValueError(f"{len(references)} groups of references for {len(predictions)} predictions")
    folder = os.path.dirname(os.path.abspath(pycocoevalcap_meteor.__file__))
    arguments = ["-Xmx2G", "-jar", pycocoevalcap_meteor.METEOR_JAR, "-", "-", "-stdio", "-l", "en", "-norm"]
    segments = tqdm(zip(references, predictions), "METEOR", len(predictions), leave=False, disable=None)
    with java_process("METEOR", arguments, folder) as process:
        statistics = []
        for group, prediction in segments:
            _send(process, ["SCORE", *group, prediction.replace("|||", "").replace("  ", " ")])
            statistics.append(_receive(process, STATISTICS))
        _send(process, ["EVAL", *statistics])
        scores = [float(_receive(process, 1)) for _ in range(len(statistics) + 1)]
    return scores[-1], scores[:-1]


def _send(process, fields):
    process.stdin.write((" ||| ".join(fields) + "\n").encode("utf-8"))
    process.stdin.flush()


def _receive(process, count):
    """Reads one line of ``count`` numbers and returns it; ValueError if it is anything else."""
    line = process.stdout.readline().decode("utf-8").strip()
    try:
        numbers = [float(word) for word in line.split()]
    except ValueError:
        numbers = []
    if len(numbers) != count:
        raise ValueError(f"its answer was {line!r}, expected {count} numbers")
    return line
