"""How many rows each category of E2E, WebNLG, DART and SQuAD has: as text, as JSON and as a bar chart.

    python scripts/count_datasets.py [--datasets e2e webnlg dart squad] [--data data] [--counts log] [--output figure]

Reads ``data/SET/{train,valid,test}_formatted.jsonl``; writes ``dataset_counts.txt``, ``.json`` and ``.png``. E2E is
counted by ``Type``, WebNLG by category, DART by its twenty most frequent predicates (a row counts for each of its
predicates), SQuAD by the question word.
"""

import argparse
import collections
import os
from typing import Any

from matplotlib.figure import Figure

from common.data.rows import read_formatted
from common.data.strata import FOLDERS, SPLITS, STRATA, chosen_sets, formatted_path, label, predicate_frequencies
from common.files import atomic_write, write_json
from common.paths import ROOT

PREDICATES_SHOWN = 20
TITLES = {"e2e": "E2E: Type", "webnlg": "WebNLG: category", "dart": "DART: most frequent predicates",
          "squad": "SQuAD: question word"}


def count_dataset(name: str, data: str | os.PathLike) -> dict[str, dict[str, Any]]:
    """Counts one data set.

    Args:
        name: ``e2e``, ``webnlg``, ``dart`` or ``squad``.
        data: folder of the data sets.

    Returns:
        ``{"rows": {split: rows}, "categories": {category: {split: rows}}}``, the largest category first.
    """
    rows: dict[str, int] = {}
    counts: dict[str, collections.Counter[str]] = {}
    for split in SPLITS:
        path = formatted_path(os.path.join(data, FOLDERS[name]), split)
        records = [record for _, record in read_formatted(path)]
        rows[split] = len(records)
        counts[split] = (predicate_frequencies(records) if name == "dart" else
                         collections.Counter(map(label, STRATA[name](records, path))))
    totals = sum(counts.values(), collections.Counter())
    categories = sorted(totals, key=lambda category: (-totals[category], category))
    if name == "dart":
        categories = categories[:PREDICATES_SHOWN]
    return {"rows": rows, "categories": {category: {split: counts[split][category] for split in SPLITS}
                                         for category in categories}}


def table(name: str, counted: dict[str, dict[str, Any]]) -> str:
    """Returns the counts of a data set as lines of text."""
    width = max(map(len, [TITLES[name], *counted["categories"]]))
    lines = [f"{TITLES[name]:<{width}}" + "".join(f"{split:>9}" for split in SPLITS)]
    for category, counts in [*counted["categories"].items(), ("all rows", counted["rows"])]:
        lines.append(f"{category:<{width}}" + "".join(f"{counts[split]:>9}" for split in SPLITS))
    return "\n".join(lines)


def draw(report: dict[str, dict[str, dict[str, Any]]], path: str | os.PathLike) -> None:
    """Draws a panel for each data set: each category's share of the rows of train, valid and test, in per cent."""
    heights = [len(counted["categories"]) for counted in report.values()]
    figure = Figure(figsize=(8, 2 + 0.3 * sum(heights)), layout="constrained")
    panels = figure.subplots(len(report), 1, squeeze=False, height_ratios=[height + 2 for height in heights])
    for panel, (name, counted) in zip(panels[:, 0], report.items()):
        categories = list(counted["categories"])
        for i, split in enumerate(SPLITS):
            shares = [100 * counted["categories"][category][split] / counted["rows"][split] for category in categories]
            panel.barh([row + (i - 1) * 0.27 for row in range(len(categories))], shares, 0.27,
                       label=f"{split} ({counted['rows'][split]} rows)")
        panel.set_yticks(range(len(categories)), categories)
        panel.invert_yaxis()
        panel.set_xlabel("share of the split's rows, %")
        panel.set_title(TITLES[name], loc="left")
        panel.legend(frameon=False)
    with atomic_write(path, "wb") as file:
        figure.savefig(file, format="png", dpi=120)


def main(argv: list[str]) -> None:
    """Counts the data sets that the command line names."""
    parser = argparse.ArgumentParser(prog="count_datasets.py", description=__doc__.split("\n")[0])
    parser.add_argument("--datasets", nargs="+", choices=tuple(FOLDERS), help="default: all that are there")
    parser.add_argument("--data", default=os.path.join(ROOT, "data"), help="folder of the data sets (default: data/)")
    parser.add_argument("--counts", default=os.path.join(ROOT, "log"), help="folder of text and JSON (default: log/)")
    parser.add_argument("--output", default=os.path.join(ROOT, "figure"), help="folder of the chart (default: figure/)")
    args = parser.parse_args(argv)
    report = {name: count_dataset(name, args.data) for name in chosen_sets(args.datasets, args.data)}
    text = "\n\n".join(table(name, counted) for name, counted in report.items())
    print(text)
    counts = os.path.join(args.counts, "dataset_counts")
    with atomic_write(counts + ".txt") as file:
        file.write(text + "\n")
    write_json(counts + ".json", report)
    draw(report, os.path.join(args.output, "dataset_counts.png"))
    print(f"\n{counts}.txt, {counts}.json and {os.path.join(args.output, 'dataset_counts')}.png written")
