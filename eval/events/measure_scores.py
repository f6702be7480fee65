"""Scores predicted arguments of events: precision, recall and F1, in all and by role.

Usage: python eval/events/measure_scores.py GOLD PREDICTIONS [--pred2 PRED2] [--format phee|rams] [--questions FILE ...]
       [--roles FILE] [--bootstrap N] [--segments FILE] [--json FILE]

    GOLD         events in PHEE's format or RAMS's
    PREDICTIONS  JSON lines of bert_eae_predict.py --data GOLD, one for each event
    PRED2        predictions of a second system, to compare with the first

All are UTF-8, gzipped or not. Scores are micro-averaged, from 0 to 1: classification counts role and exact span,
identification the exact span, token role and word. Intervals come from resamples of the sentences.
"""

import argparse

from common.data.event_sets import PHEE, RAMS, read_events, read_ontology
from common.errors import run_main
from common.metrics.bootstrap import describe
from common.metrics.events import MEASURES, PARTS, metric_name, read_predictions, role_table, tally_events
from common.metrics.results import (
    add_options,
    check_options,
    format_interval,
    input_record,
    scorer_parser,
    versions,
    write_results,
)

PACKAGES = ("numpy",)


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    """Parses and checks the command line.

    Raises:
        UserError: an option has an impossible value.
    """
    parser = scorer_parser(__doc__)
    parser.add_argument("gold", metavar="GOLD", help="gold events")
    parser.add_argument("predictions", metavar="PREDICTIONS", help="predicted arguments, one line for each event")
    parser.add_argument("--pred2", metavar="PRED2", help="predictions of a second system, to compare with the first")
    parser.add_argument("--format", default=PHEE, choices=[PHEE, RAMS], help="of GOLD")
    parser.add_argument("--questions", nargs="+", metavar="FILE",
                        help="phee: files of lines role,question; by default arg_queries_stage*.csv beside GOLD")
    parser.add_argument("--roles", metavar="FILE",
                        help="rams: event_role_multiplicities.txt; by default beside GOLD or a folder above")
    add_options(parser)
    options = parser.parse_args(argv)
    check_options(options, (options.gold, options.predictions, options.pred2))
    return options


def print_scores(title, scores, intervals=None, sign=""):
    """Prints precision, recall and F1 of each measure, with 95 % intervals of F1 where they are given."""
    print(f"{title}:\n==============")
    for measure in MEASURES:
        values = [f"{part} {scores[metric_name(measure, part)]:{sign}.4f}" for part in PARTS]
        ends = f" (95 %: {format_interval(intervals[metric_name(measure, 'f1')], 4, sign)})" if intervals else ""
        print(f"{measure:14}  {'  '.join(values)}{ends}")


def print_roles(table):
    """Prints the table by role."""
    width = max(map(len, table), default=4)
    print(f"\n{'role':{width}}  precision  recall      F1   gold  predicted")
    for role, row in table.items():
        print(f"{role:{width}}     {row['precision']:.4f}  {row['recall']:.4f}  {row['f1']:.4f}  {row['gold']:5d}  "
              f"{row['predicted']:9d}")


def main(argv: list[str]) -> None:
    """Prints the scores and writes the files that the options ask for."""
    options = parse_arguments(argv)
    ontology = read_ontology(options.gold, options.format, options.questions, options.roles)
    events = read_events(options.gold, options.format, ontology)
    paths = [path for path in (options.predictions, options.pred2) if path]
    found = [read_predictions(path, events, ontology) for path in paths]
    systems = [tally_events(events, each) for each in found]
    results = describe(systems, options.bootstrap)
    table = role_table(events, found[0], list(ontology.questions))
    print_scores("SCORES", results["scores"], results.get("intervals"))
    print_roles(table)
    if options.pred2:
        compared = results["comparison"]
        print_scores(f"SCORES of {options.pred2}", results["scores2"], results["intervals2"])
        print_scores("DIFFERENCE, second - first", {metric: compared[metric]["difference"] for metric in compared},
                     {metric: compared[metric]["interval"] for metric in compared}, "+")
        print("p: " + ", ".join(f"{measure} {compared[metric_name(measure, 'f1')]['p']:.3f}" for measure in MEASURES))
    write_results(options, systems, lambda: {
        **results,
        "roles": table,
        "inputs": {name: input_record(path) for name, path in (
            ("gold", options.gold), ("predictions", options.predictions), ("predictions2", options.pred2)) if path},
        "counts": {"events": len(events), "sentences": len({event.sentence for event in events}),
                   "gold_arguments": sum(len(spans) for event in events for spans in event.arguments.values()),
                   "predicted_arguments": sum(map(len, found[0]))},
        "versions": versions(PACKAGES),
    })


if __name__ == "__main__":
    run_main(main)
