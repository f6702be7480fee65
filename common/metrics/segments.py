"""Files of texts to score, one segment per line."""

import os
import re
from collections.abc import Iterator

from common.errors import UserError
from common.files import read_lines

SEPARATORS = re.compile("[\r\v\f\x1c-\x1e\x85\u2028\u2029]")  # what str.splitlines splits at, besides \n


def read_segments(path: str | os.PathLike) -> Iterator[tuple[int, str]]:
    """Yields ``(line_number, text)``, stripped; a line may end in ``\\r\\n``.

    Raises:
        UserError: the file is missing, empty or not UTF-8, or a line has a character at which other tools would split
            it.
    """
    line_number = 0
    for line_number, line in read_lines(path):
        separator = SEPARATORS.search(line.removesuffix("\r"))
        if separator:
            raise UserError(f"{path}:{line_number}: found U+{ord(separator.group()):04X} at character "
                            f"{separator.start() + 1}, which some tools take for a line end and others do not; "
                            "replace it by a space (or by a line end, if it is one)")
        yield line_number, line.strip()
    if not line_number:
        raise UserError(f"{path}: the file is empty")


def read_texts(path: str | os.PathLike) -> list[str]:
    """Reads outputs or references, one per line; a blank line counts as an empty text.

    Returns:
        the texts, stripped of surrounding whitespace.

    Raises:
        UserError: as ``read_segments``.
    """
    return [text for _, text in read_segments(path)]


def find_references(stem: str, count: int | None = None) -> tuple[list[str], list[str]]:
    """Finds the files of references: ``stem0``, ``stem1``, ..., or the one file ``stem``; gzipped or not.

    Args:
        stem: their path without the number.
        count: how many to use; None for all from 0 up without a gap.

    Returns:
        ``(paths, unused)``: two lists of paths; ``unused`` are references that exist but are not used.

    Raises:
        UserError: a file is missing; the message says what was found instead.
    """
    folder, name = os.path.split(stem)
    names = sorted(os.listdir(folder or ".")) if os.path.isdir(folder or ".") else []
    pattern = re.compile(re.escape(name) + r"(0|[1-9]\d*|)(\.gz)?")
    found = {match[1] for match in map(pattern.fullmatch, names) if match}
    numbers = sorted(int(number) for number in found if number)
    if "" in found and (count == 1 or count is None and 0 not in numbers):
        wanted = [""]
    else:
        unbroken = sum(index == number for index, number in enumerate(numbers))
        wanted = [str(index) for index in range(count or max(unbroken, 1))]
    missing = [number for number in wanted if number not in found]
    if missing:
        others = ", ".join(name + number for number in _ordered(found)) or "none"
        raise UserError(f"{stem}{missing[0]}: no such file; expected {count or 'at least 1'} (-nr), found with this "
                        f"name: {others}")
    return [stem + number for number in wanted], [stem + number for number in _ordered(found.difference(wanted))]


def _ordered(numbers):
    return sorted(numbers, key=lambda number: int(number or -1))


def drop_trailing_blanks(files: dict[str, list[str]]) -> tuple[dict[str, list[str]], list[str]]:
    """Drops blank lines at the end of files that are longer than others.

    Args:
        files: ``{path: segments}``.

    Returns:
        ``(files, longer)``: the dict with lists of equal length, and the paths of the files that were longer.

    Raises:
        UserError: the surplus lines of a file are not all blank; the message has each file's number of lines.
    """
    lengths = {path: len(segments) for path, segments in files.items()}
    shortest = min(lengths.values())
    if any(any(segments[shortest:]) for segments in files.values()):
        raise UserError("the files differ in their number of lines, expected one line per segment in each: "
                        + ", ".join(f"{path} {length}" for path, length in lengths.items()))
    return ({path: segments[:shortest] for path, segments in files.items()},
            [path for path, length in lengths.items() if length > shortest])


def blank_references(columns: dict[str, list[str]]) -> tuple[dict[str, list[int]], list[int]]:
    """Finds blank references and segments that have only blank ones.

    Args:
        columns: ``{path of a reference file: segments}``.

    Returns:
        ``(blanks, without_reference)``: for each file with blank lines their line numbers, and the numbers of the lines
        that are blank in every file.
    """
    blanks = {path: [line for line, text in enumerate(segments, 1) if not text] for path, segments in columns.items()}
    without_reference = sorted(set.intersection(*map(set, blanks.values())))
    return {path: lines for path, lines in blanks.items() if lines}, without_reference
