"""Converts E2E, WebNLG and DART as published to lines of ``{"context", "completion"}`` (SQuAD: see common.data.squad).

    python src/format_converting_e2e.py    data/e2e/train.txt data/e2e/train_formatted.jsonl
    python src/format_converting_webnlg.py data/webnlg_challenge_2017/dev.json \\
        data/webnlg_challenge_2017/valid_formatted.jsonl
    python src/format_converting_dart.py   data/dart/dart-v1.1.1-full-dev.json data/dart/valid_formatted.jsonl
"""

import argparse
import collections
import functools
import os
from collections.abc import Callable, Iterator
from typing import Any

from tqdm import tqdm

from common.checks import at_least_one, shortened
from common.errors import UserError, note
from common.files import before_trailing_blanks, check_outputs, read_json, read_lines, say_written, write_json_lines

SEEN_CATEGORIES = frozenset((
    "Airport", "Astronaut", "Building", "City", "ComicsCharacter",
    "Food", "Monument", "SportsTeam", "University", "WrittenWork",
))


WEBNLG_SHAPE = {"entries": [{str: {
    "category": str, "modifiedtripleset": [{"subject": str, "property": str, "object": str}],
    "lexicalisations": [{"lex": str, "comment": str}]}}]}
DART_SHAPE = [{"tripleset": [[str]], "annotations": [{"text": str}]}]


def convert_e2e(path: str | os.PathLike) -> Iterator[dict[str, Any]]:
    """Yields ``{"context": MR, "completion": text}`` for each line ``MR||text`` of an E2E file.

    Raises:
        UserError: a line is not ``MR||text``; the message names file and line.
    """
    for line_number, line in before_trailing_blanks(read_lines(path), path):
        parts = line.strip().split("||")
        if len(parts) != 2 or not parts[0]:
            found = "a blank line" if not line.strip() else shortened(line)
            raise UserError(f"{path}:{line_number}: found {found}, expected `MR||text` with one `||`")
        yield {"context": parts[0], "completion": parts[1]}


def convert_webnlg(path: str | os.PathLike) -> Iterator[dict[str, Any]]:
    """Yields one record for each lexicalisation with the comment ``good`` of a WebNLG 2017 JSON file.

    A record is ``{"context": "s : p : o | s : p : o", "completion": text, "cate": bool, "category": name}``, where
    ``cate`` tells whether the category is one of the ten in the training set. How many lexicalisations have another
    comment is said at the end.

    Raises:
        UserError: the file has another layout; the message names file and entry.
    """
    left_out: collections.Counter[str] = collections.Counter()
    for number, wrapped in enumerate(read_json(path, WEBNLG_SHAPE)["entries"], 1):
        where = f"{path}: .entries[{number - 1}]"
        if list(wrapped) != [str(number)]:
            raise UserError(f"{where}: has {shortened(', '.join(wrapped))}, expected one member, '{number}'")
        entry = wrapped[str(number)]
        context = _linearised([(triple["subject"], triple["property"], triple["object"])
                               for triple in entry["modifiedtripleset"]], where)
        for text in entry["lexicalisations"]:
            if text["comment"] == "good":
                yield {"context": context, "completion": text["lex"],
                       "cate": entry["category"] in SEEN_CATEGORIES, "category": entry["category"]}
            else:
                left_out[text["comment"]] += 1
    if left_out:
        counts = ", ".join(f"{shortened(comment)} {count}" for comment, count in left_out.most_common(5))
        note(f"{path}: {left_out.total()} lexicalisations are left out, for their comment is not 'good': {counts}")


def convert_dart(path: str | os.PathLike) -> Iterator[dict[str, Any]]:
    """Yields ``{"context": "s : predicate : o | …", "completion": text}`` for each annotation of a DART v1.1.1 file.

    Predicates are lower-cased, subjects and objects are not.

    Raises:
        UserError: the file has another layout; the message names file and entry.
    """
    for number, entry in enumerate(read_json(path, DART_SHAPE)):
        where = f"{path}: [{number}]"
        for triple in entry["tripleset"]:
            if len(triple) != 3:
                raise UserError(f"{where}: found the triple {shortened(triple)}, expected [subject, predicate, object]")
        context = _linearised([(subject, predicate.lower(), thing)
                               for subject, predicate, thing in entry["tripleset"]], where)
        for annotation in entry["annotations"]:
            yield {"context": context, "completion": annotation["text"]}


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
    check_outputs([args.output], [args.input])
    total = sum(1 for _ in read_lines(args.input)) if convert is convert_e2e else None
    records = tqdm(convert(args.input), name, total, unit=" rows", mininterval=0.5)
    rows = write_json_lines(args.output, at_least_one(records, args.input))
    say_written(args.output, f"{args.output}: {rows} rows")


main_e2e = functools.partial(main, convert=convert_e2e)
main_webnlg = functools.partial(main, convert=convert_webnlg)
main_dart = functools.partial(main, convert=convert_dart)
