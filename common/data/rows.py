"""The rows of a data set, one JSON object a line: formatted, with texts, and encoded, with GPT-2's ids."""

import os
from collections.abc import Iterator
from typing import Any

from common.checks import token_ids
from common.errors import UserError
from common.files import read_json_lines

FORMATTED_SHAPE = {"context": str, "completion": str}
ENCODED_SHAPE = {"context": (list, str), "completion": (list, str)}


def read_formatted(path: str | os.PathLike) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields ``(line_number, record)`` for each line of a formatted file; context and completion are strings.

    Raises:
        UserError: a line is something else; the message names file and line.
    """
    return read_json_lines(path, FORMATTED_SHAPE)


def read_encoded(path: str | os.PathLike) -> Iterator[tuple[int, dict[str, list[int]]]]:
    """Yields ``(line_number, record)`` for each line of an encoded file; context and completion are lists of ids.

    Raises:
        UserError: a line is something else, or its context is empty; the message names file and line.
    """
    for line_number, record in read_json_lines(path, ENCODED_SHAPE):
        where = f"{path}:{line_number}"
        for name in ENCODED_SHAPE:
            if isinstance(record[name], str):
                raise UserError(f"{where}: .{name} is text, expected ids; encode it with src/gpt2_encode.py first")
            token_ids(record[name], where, f".{name}")
        if not record["context"]:
            raise UserError(f"{where}: the context is empty; encode with --add_bos")
        yield line_number, record
