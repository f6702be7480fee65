"""Stratified samples of the data sets: the same rows on every machine.

    python scripts/sample_datasets.py [--ratio .18] [--seed 42] [--unit line|mr] [--datasets e2e webnlg dart squad]

Reads ``data/SET/{train,valid,test}_formatted.jsonl`` and the encoded ``.jsonl`` beside it. Writes the sampled lines of
both, in the order of the file, under ``data/SET/sampled/``, and each stratum's rows before and after into
``strata.json`` there.

From each part of a split (WebNLG's test set has two, seen and unseen categories) ``ratio`` of the units is taken,
rounded down. They are allocated to its strata by largest remainder, so each stratum differs from its exact share by
less than one unit. A unit is a line or, with ``--unit mr``, a context with all of its references, so that test sets
keep several references per context. Within a stratum the units with the smallest SHA-256 of seed, set, split, stratum
and index are taken. ``--rows`` is the number of rows instead of their share; for SQuAD it is 10000, 1000 and 1000 by
default.
"""

import argparse
import collections
import fractions
import hashlib
import math
import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeVar

from tqdm import tqdm

from common.data.rows import read_encoded, read_formatted
from common.data.strata import FOLDERS, SPLITS, STRATA, chosen_sets, formatted_path, label
from common.errors import UserError
from common.files import atomic_write, check_outputs, read_lines, write_json
from common.paths import ROOT

Stratum = TypeVar("Stratum", bound=Hashable)

RATIO = fractions.Fraction(18, 100)
RATIO_TEXT = f"{100 * RATIO} %"
ROWS = {"squad": (10000, 1000, 1000)}  # of train, valid and test: enough to learn from in minutes


def allocate(sizes: Mapping[Stratum, int], ratio: fractions.Fraction) -> dict[Stratum, int]:
    """Allocates ``floor(ratio * total)`` units to strata by largest remainder.

    Args:
        sizes: ``{stratum: number of units}``.
        ratio: from 0 to 1.

    Returns:
        ``{stratum: number of units}``, each less than one from ``ratio * size``. Of equal remainders the larger
        stratum's is the first, then the first in alphabetical order.
    """
    taken = {stratum: math.floor(ratio * size) for stratum, size in sizes.items()}
    left = math.floor(ratio * sum(sizes.values())) - sum(taken.values())
    by_remainder = sorted(sizes, key=lambda name: (taken[name] - ratio * sizes[name], -sizes[name], name))
    for stratum in by_remainder[:left]:
        taken[stratum] += 1
    return taken


def choose(strata: Sequence[tuple[str, str]], ratio: fractions.Fraction, key: str) -> list[int]:
    """Chooses units.

    Args:
        strata: ``(part, name)`` of each unit.
        ratio: from 0 to 1.
        key: text that makes the choice differ between seeds, sets and splits.

    Returns:
        The indices of the units chosen, sorted.
    """
    members: dict[tuple[str, str], list[int]] = {}
    for index, stratum in enumerate(strata):
        members.setdefault(stratum, []).append(index)
    parts: dict[str, dict[tuple[str, str], int]] = {}
    for stratum, indices in members.items():
        parts.setdefault(stratum[0], {})[stratum] = len(indices)

    def rank(stratum: tuple[str, str]) -> Callable[[int], bytes]:
        return lambda index: hashlib.sha256(f"{key}/{label(stratum)}/{index}".encode()).digest()

    chosen: list[int] = []
    for sizes in parts.values():
        for stratum, count in allocate(sizes, ratio).items():
            chosen += sorted(members[stratum], key=rank(stratum))[:count]
    return sorted(chosen)


def sample_rows(records: Sequence[dict[str, Any]], strata: Sequence[tuple[str, str]], ratio: fractions.Fraction,
                unit: str, key: str) -> list[int]:
    """Returns the indices of the sampled rows, sorted.

    Args:
        records: formatted rows.
        strata: ``(part, name)`` of each.
        ratio, key: as in ``choose``.
        unit: ``line``, or ``mr`` for all the rows of a context or none.
    """
    if unit == "line":
        return choose(strata, ratio, key)
    rows_of: dict[str, list[int]] = {}
    for row, record in enumerate(records):
        rows_of.setdefault(record["context"], []).append(row)
    groups = list(rows_of.values())
    return sorted(row for i in choose([strata[rows[0]] for rows in groups], ratio, key) for row in groups[i])


def share_of(rows: int, total: int, where: str) -> fractions.Fraction:
    """Returns ``rows / total``.

    Raises:
        UserError: it is more than 1.
    """
    if rows > total:
        raise UserError(f"{where}: has {total} rows, fewer than the {rows} asked for; give smaller --rows or a --ratio")
    return fractions.Fraction(rows, total)


def sample_split(name: str, split: str, folder: str, size: fractions.Fraction | int, seed: int,
                 unit: str) -> dict[str, list[int]]:
    """Samples one split and writes its two files.

    Args:
        size: share of the rows to keep (a fraction) or their number (an int).

    Returns:
        ``{label of the stratum: [rows before, rows after]}``.
    """
    formatted = formatted_path(folder, split)
    encoded = formatted.removesuffix("_formatted.jsonl") + ".jsonl"
    targets = [os.path.join(folder, "sampled", split + suffix) for suffix in ("_formatted.jsonl", ".jsonl")]
    check_outputs(targets, [formatted, encoded])
    records = [record for _, record in tqdm(read_formatted(formatted), f"{name} {split}", unit=" rows",
                                            mininterval=0.5)]
    encoded_rows = sum(1 for _ in read_encoded(encoded))
    if encoded_rows != len(records):
        raise UserError(f"{encoded}: {encoded_rows} rows, but {formatted} has {len(records)}; "
                        f"`bash scripts/create_datasets.sh` writes both again")
    strata = STRATA[name](records, formatted)
    ratio = share_of(size, len(records), formatted) if isinstance(size, int) else size
    rows = sample_rows(records, strata, ratio, unit, f"{seed}/{name}/{split}")
    if not rows:
        raise UserError(f"{formatted}: {float(ratio)} of its {len(records)} rows is no row: give a larger --ratio")
    for path, target in zip((formatted, encoded), targets):
        lines = [line for _, line in read_lines(path)]
        with atomic_write(target) as file:
            file.writelines(lines[row] + "\n" for row in rows)
    before, after = collections.Counter(strata), collections.Counter(strata[row] for row in rows)
    return {label(stratum): [before[stratum], after[stratum]]
            for stratum in sorted(before, key=lambda stratum: (-before[stratum], stratum))}


def sample_dataset(name: str, data: str, sizes: Sequence[fractions.Fraction | int], seed: int, unit: str) -> None:
    """Samples the three splits of a data set under ``data``; prints the strata and writes them to strata.json.

    Args:
        sizes: the ``size`` of each split, as for ``sample_split``.
    """
    folder = os.path.join(data, FOLDERS[name])
    options = {"rows": list(sizes)} if isinstance(sizes[0], int) else {"ratio": float(sizes[0])}
    report: dict[str, Any] = {**options, "seed": seed, "unit": unit, "columns": ["rows before", "rows after"],
                              "splits": {}}
    for split, size in zip(SPLITS, sizes):
        strata = sample_split(name, split, folder, size, seed, unit)
        before, after = (sum(counts[i] for counts in strata.values()) for i in (0, 1))
        report["splits"][split] = {"rows": [before, after], "strata": strata}
        print(f"{name} {split}: {after} of {before} rows")
        shown = list(strata.items())[:20]
        for stratum, counts in shown:
            print(f"    {stratum:<40} {counts[0]:>7} -> {counts[1]:>6}")
        if len(strata) > len(shown):
            print(f"    ... and {len(strata) - len(shown)} smaller strata, in {folder}/sampled/strata.json")
    write_json(os.path.join(folder, "sampled", "strata.json"), report)


def ratio_of(text: str) -> fractions.Fraction:
    """Returns the exact fraction of a text like ``.18`` or ``9/50``.

    Raises:
        argparse.ArgumentTypeError: it is no number, or not above 0 and at most 1.
    """
    try:
        ratio = fractions.Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0 < ratio <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and at most 1")
    return ratio


def main(argv: list[str]) -> None:
    """Samples the data sets that the command line names."""
    parser = argparse.ArgumentParser(prog="sample_datasets.py", description=__doc__.split("\n")[0])
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--ratio", type=ratio_of, help=f"share to keep (default: {float(RATIO)}, and rows for SQuAD)")
    size.add_argument("--rows", type=int, nargs=3, metavar=("TRAIN", "VALID", "TEST"),
                      help=f"rows to keep (default for SQuAD: {' '.join(map(str, ROWS['squad']))})")
    parser.add_argument("--seed", type=int, default=42, help="default: 42")
    parser.add_argument("--unit", choices=("line", "mr"), default="line",
                        help="sample lines, or contexts with all of their references (default: line)")
    parser.add_argument("--datasets", nargs="+", choices=tuple(FOLDERS), help="default: all that are there")
    parser.add_argument("--data", default=os.path.join(ROOT, "data"), help="folder of the data sets (default: data/)")
    args = parser.parse_args(argv)
    if args.rows and min(args.rows) < 1:
        parser.error(f"--rows {args.rows}: expected numbers from 1 up")
    for name in chosen_sets(args.datasets, args.data):
        sizes = args.rows or ([args.ratio] * len(SPLITS) if args.ratio else ROWS.get(name, [RATIO] * len(SPLITS)))
        sample_dataset(name, args.data, sizes, args.seed, args.unit)
