"""Questions and answers for ChatGLM2: JSON lines, of which columns are named on the command line."""

import os
from dataclasses import dataclass

from common.checks import at_least_one, check_shape, shortened
from common.errors import UserError, note
from common.files import read_json_lines


@dataclass(frozen=True)
class Example:
    """One row of a data set.

    Attributes:
        question: what is asked.
        answer: what should be answered.
        history: earlier turns, ``(question, answer)`` each, oldest first.
    """

    question: str
    answer: str
    history: tuple[tuple[str, str], ...] = ()


def read_examples(path: str | os.PathLike, prompt_column: str, response_column: str | None,
                  history_column: str | None = None, most: int | None = None) -> list[Example]:
    """Reads a data set; rows whose question or answer is empty are left out, and it says how many.

    Args:
        path: JSON lines, gzipped or not.
        prompt_column, response_column, history_column: which member of a line is what; None is not read.
        most: so many rows are read from the beginning; by default all.

    Raises:
        UserError: a line is no object, lacks a column or holds something else in it, or no row is left.
    """
    examples, empty, first_empty = [], 0, None
    for line, record in at_least_one(read_json_lines(path), path):
        if most is not None and line > most:
            break
        where = f"{path}:{line}"
        question, answer = (_column(record, name, flag, where) for name, flag in
                            ((prompt_column, "prompt_column"), (response_column, "response_column")))
        if not question or response_column and not answer:
            empty, first_empty = empty + 1, first_empty or line
            continue
        examples.append(Example(question, answer, _history(record, history_column, where)))
    if not examples:
        raise UserError(f"{path}: none of its {empty} rows has both a {prompt_column} and a {response_column}")
    if empty:
        note(f"{path}: {empty} of {empty + len(examples)} rows are left out, the first in line {first_empty}: their "
             f"{' or '.join(filter(None, (prompt_column, response_column)))} is empty")
    return examples


def _check_column(record, name, flag, where):
    if name not in record:
        columns = ", ".join(map(shortened, record)) or "nothing"
        raise UserError(f"{where}: has no column {shortened(name)}; it has {columns}: name one of them with --{flag}")


def _column(record, name, flag, where):
    """Returns a column's text, empty where it is null; an empty text where no column is asked for."""
    if name is None:
        return ""
    _check_column(record, name, flag, where)
    return check_shape(record, {name: (str, None)}, where)[name] or ""


def _history(record, name, where):
    """Returns the earlier turns; null is none."""
    if name is None:
        return ()
    _check_column(record, name, "history_column", where)
    turns = check_shape(record, {name: ([[str]], None)}, where)[name] or []
    for index, turn in enumerate(turns):
        if len(turn) != 2:
            raise UserError(f"{where}: .{name}[{index}] has {len(turn)} texts, expected a question and its answer")
    return tuple((asked, answered) for asked, answered in turns)
