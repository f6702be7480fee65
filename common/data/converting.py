"""Converts E2E, WebNLG and DART as published to lines of ``{"context", "completion"}`` (SQuAD: see common.data.squad).

    python src/format_converting_e2e.py    data/e2e/train.txt data/e2e/train_formatted.jsonl
    python src/format_converting_webnlg.py data/webnlg_challenge_2017/dev.json \\
        data/webnlg_challenge_2017/valid_formatted.jsonl
    python src/format_converting_dart.py   data/dart/dart-v1.1.1-full-dev.json data/dart/valid_formatted.jsonl
"""

import argparse
import functools
import os
from collections.abc import Callable, Iterator
from typing import Any

from tqdm import tqdm

from common.checks import at_least_one, member, require, shortened
from common.errors import UserError
from common.files import read_json, read_lines, write_json_lines

SEEN_CATEGORIES = frozenset((
    "Airport", "Astronaut", "Building", "City", "ComicsCharacter",
    "Food", "Monument", "SportsTeam", "University", "WrittenWork",
))


def convert_e2e(path: str | os.PathLike) -> Iterator[dict[str, Any]]:
    """Yields ``{"context": MR, "completion": text}`` for each line ``MR||text`` of an E2E file.

    Raises:
        UserError: a line is not ``MR||text``; the message names file and line.
    """
    for line_number, line in read_lines(path):
        parts = line.strip().split("||")
        if len(parts) != 2 or not parts[0]:
            found = "a blank line" if not line.strip() else shortened(line)
            raise UserError(f"{path}:{line_number}: found {found}, expected `MR||text` with one `||`")
        yield {"context": parts[0], "completion": parts[1]}


def convert_webnlg(path: str | os.PathLike) -> Iterator[dict[str, Any]]:
    """Yields one record for each lexicalisation with the comment ``good`` of a WebNLG 2017 JSON file.

    A record is ``{"context": "s : p : o | s : p : o", "completion": text, "cate": bool, "category": name}``, where
    ``cate`` tells whether the category is one of the ten in the training set.

    Raises:
        UserError: the file has another layout; the message names file and entry.
    """
    entries = member(read_json(path), "entries", list, path)
    for number, wrapped in enumerate(entries, 1):
        entry = member(wrapped, str(number), dict, f"{path}: entry {number}")
        where = f"{path}: entry {number}"
        category = member(entry, "category", str, where)
        triples = [[member(triple, key, str, f"{where}, triple {i}") for key in ("subject", "property", "object")]
                   for i, triple in enumerate(member(entry, "modifiedtripleset", list, where), 1)]
        context = _linearised(triples, where)
        for i, text in enumerate(member(entry, "lexicalisations", list, where), 1):
            at = f"{where}, lexicalisation {i}"
            completion = member(text, "lex", str, at)
            if member(text, "comment", str, at) == "good":
                yield {"context": context, "completion": completion,
                       "cate": category in SEEN_CATEGORIES, "category": category}


def convert_dart(path: str | os.PathLike) -> Iterator[dict[str, Any]]:
    """Yields ``{"context": "s : predicate : o | …", "completion": text}`` for each annotation of a DART v1.1.1 file.

    Predicates are lower-cased, subjects and objects are not.

    Raises:
        UserError: the file has another layout; the message names file and entry.
    """
    entries = require(read_json(path), list, path, "the document")
    for number, entry in enumerate(entries, 1):
        where = f"{path}: entry {number}"
        triples = []
        for i, triple in enumerate(member(entry, "tripleset", list, where), 1):
            at = f"{where}, triple {i}"
            if len(require(triple, list, at, "this")) != 3:
                raise UserError(f"{at}: found {shortened(triple)}, expected [subject, predicate, object]")
            subject, predicate, thing = (require(part, str, at, "a part") for part in triple)
            triples.append((subject, predicate.lower(), thing))
        context = _linearised(triples, where)
        for i, annotation in enumerate(member(entry, "annotations", list, where), 1):
            yield {"context": context, "completion": member(annotation, "text", str, f"{where}, annotation {i}")}


def _linearised(triples, where):
    if not triples:
        raise UserError(f"{where}: the triple set is empty")
    return " | ".join(" : ".join(triple) for triple in triples)


def main(argv: list[str], convert: Callable[[str], Iterator[dict[str, Any]]]) -> None:
    """Converts one file.

    Args:
        argv: ``[IN, OUT]``.
        convert: ``convert_e2e``, ``convert_webnlg`` or ``convert_dart``.
    """
    name = convert.__name__.removeprefix("convert_")
    parser = argparse.ArgumentParser(prog=f"format_converting_{name}.py",
                                     description="Converts a published file to lines of {context, completion}.")
    parser.add_argument("input", help="the published file, gzipped (`.gz`) or not")
    parser.add_argument("output", help="the JSON-lines file to write")
    args = parser.parse_args(argv)
    total = sum(1 for _ in read_lines(args.input)) if convert is convert_e2e else None
    records = tqdm(convert(args.input), name, total, unit=" rows", mininterval=0.5)
    rows = write_json_lines(args.output, at_least_one(records, args.input))
    print(f"{args.output}: {rows} rows")


main_e2e = functools.partial(main, convert=convert_e2e)
main_webnlg = functools.partial(main, convert=convert_webnlg)
main_dart = functools.partial(main, convert=convert_dart)
