"""Scores answers to SQuAD v1.1's questions: exact match and F1.

Usage: python eval/squad/evaluate.py DATASET PREDICTIONS [--pred2 PRED2] [--bootstrap N] [--segments FILE] [--json FILE]

    DATASET      questions and gold answers, in the layout of dev-v1.1.json
    PREDICTIONS  one JSON object: {"question's id": "answer", ...}
    PRED2        answers of a second system, to compare with the first

All are UTF-8, gzipped or not. The scores equal those of the official program, from 0 to 100. A question without a
prediction scores 0; intervals come from resamples of the questions.
"""

import argparse
import os
import sys
from collections.abc import Collection, Mapping, Sequence

from common.errors import run_main
from common.metrics.bootstrap import describe
from common.metrics.results import (
    add_options,
    check_options,
    format_interval,
    input_record,
    scorer_parser,
    versions,
    write_results,
)
from common.metrics.squad import read_answer_predictions, read_answers, tally_squad

PACKAGES = ("numpy",)


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    """Parses and checks the command line.

    Raises:
        UserError: an option has an impossible value.
    """
    parser = scorer_parser(__doc__)
    parser.add_argument("dataset", metavar="DATASET", help="questions and gold answers")
    parser.add_argument("predictions", metavar="PREDICTIONS", help="answers by the question's id")
    parser.add_argument("--pred2", metavar="PRED2", help="answers of a second system, to compare with the first")
    add_options(parser)
    options = parser.parse_args(argv)
    check_options(options, (options.dataset, options.predictions, options.pred2))
    return options


def warnings_of(path: str, predictions: Collection[str], answers: Collection[str]) -> list[str]:
    """Returns sentences on questions without a prediction and on predictions without a question.

    Args:
        path: the file of predictions.
        predictions, answers: the ids of the questions that have one; dicts from id to text will do.
    """
    missing = [identity for identity in answers if identity not in predictions]
    unknown = [identity for identity in predictions if identity not in answers]
    sentences = []
    if missing:
        sentences.append(f"{path}: no prediction for {len(missing)} of {len(answers)} questions (the first: "
                         f"{missing[0]}); each scores 0")
    if unknown:
        sentences.append(f"{path}: {len(unknown)} predictions are for no question of the data set (the first: "
                         f"{unknown[0]}) and do not count")
    return sentences


def print_scores(title: str, scores: Mapping[str, float], intervals: Mapping[str, Sequence[float]] | None,
                 sign: str = "") -> None:
    """Prints a block of scores, with 95 % intervals if they are given."""
    print(f"{title}:\n==============")
    for metric, score in scores.items():
        print(f"{metric}: {score:{sign}.2f}"
              + (f" (95 %: {format_interval(intervals[metric], 2, sign)})" if intervals else ""))


def main(argv: list[str]) -> None:
    """Prints the scores and writes the files that the options ask for."""
    options = parse_arguments(argv)
    answers = read_answers(options.dataset)
    paths = [path for path in (options.predictions, options.pred2) if path]
    outputs = [read_answer_predictions(path) for path in paths]
    notes = [note for path, found in zip(paths, outputs) for note in warnings_of(path, found, answers)]
    for note in notes:
        print(f"{os.path.basename(sys.argv[0])}: warning: {note}", file=sys.stderr)
    systems = [tally_squad(answers.values(), [found.get(identity) for identity in answers]) for found in outputs]
    results = describe(systems, options.bootstrap)
    print_scores("SCORES", results["scores"], results.get("intervals"))
    if options.pred2:
        found = results["comparison"]
        print_scores(f"SCORES of {options.pred2}", results["scores2"], results["intervals2"])
        print_scores("DIFFERENCE, second - first", {metric: found[metric]["difference"] for metric in found},
                     {metric: found[metric]["interval"] for metric in found}, "+")
        print("p: " + ", ".join(f"{metric} {found[metric]['p']:.3f}" for metric in found))
    write_results(options, systems, lambda: {
        **results,
        "inputs": {name: input_record(path) for name, path in (
            ("dataset", options.dataset), ("predictions", options.predictions), ("predictions2", options.pred2))
            if path},
        "counts": {"questions": len(answers), "gold_answers": sum(map(len, answers.values())),
                   "predictions": sum(identity in outputs[0] for identity in answers)},
        "warnings": notes,
        "versions": versions(PACKAGES),
    })


if __name__ == "__main__":
    run_main(main)
