"""Checks of what was read from a file: JSON and its shape, GPT-2's ids, and that there are rows at all."""

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from common.errors import UserError
from common.vocabulary import VOCABULARY_SIZE

T = TypeVar("T")

_KINDS: dict[type, str] = {str: "a string", int: "an integer", float: "a number", bool: "true or false",
                           type(None): "null", list: "a list", dict: "an object"}
_MESSAGE_LENGTH = 60
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class _Misfit(Exception):
    """A value of another shape: what is wrong, and where in the document."""

    def __init__(self, reason: str) -> None:
        self.reason, self.at = reason, ""


def check_shape(value: Any, shape: Any, where: str | os.PathLike) -> Any:
    """Returns a value of JSON if it has a shape.

    A shape is ``str``, ``int``, ``float`` (any finite number), ``bool``, ``None`` (null), ``list``, ``dict`` or
    ``object`` (anything); ``[shape]`` is a list of such values, ``{"name": shape}`` an object with at least these
    members, ``{str: shape}`` an object of any members of a shape, and a tuple of shapes any one of them.

    Args:
        where: file and line, for the message; the position in the document follows, as jq writes it.

    Raises:
        UserError: it has another shape.
    """
    try:
        _check(value, shape)
    except _Misfit as misfit:
        raise UserError(f"{where}: {misfit.at or 'the JSON'} {misfit.reason}") from None
    return value


def _check(value, shape):
    if isinstance(shape, tuple):
        shape = next((one for one in shape if _is(value, one)), shape)
    if not _is(value, shape):
        raise _Misfit(f"is {_shown(value)}, expected {_described(shape)}")
    for name in shape if isinstance(shape, dict) else ():
        if name is not str and name not in value:
            raise _Misfit(f"has no {name!r}; it has {_cut(', '.join(map(ascii, value))) or 'nothing'}")
    for position, item, inner in _inside(value, shape):
        try:
            _check(item, inner)
        except _Misfit as misfit:
            misfit.at = _step(position) + misfit.at
            raise


def _inside(value, shape):
    """Yields ``(position, value, shape)`` of each value inside a list or an object that has a shape of its own."""
    if isinstance(shape, list):
        for index, item in enumerate(value):
            yield index, item, shape[0]
    elif isinstance(shape, dict):
        for name, inner in shape.items():
            for member in value if name is str else (name,):
                yield member, value[member], inner


def _step(position):
    """Returns a position in a list or an object as jq writes it."""
    if isinstance(position, str) and re.fullmatch(r"[A-Za-z_]\w*", position, re.ASCII):
        return f".{position}"
    return f"[{position if isinstance(position, int) else json.dumps(position)}]"


def _is(value, shape):
    """Returns whether a value is of a shape's kind, whatever is inside it."""
    if shape is float:
        return type(value) in (int, float) and abs(value) <= sys.float_info.max
    return shape is object or (not isinstance(shape, tuple) and type(value) is _kind(shape))


def _kind(shape):
    if shape is None:
        return type(None)
    return shape if isinstance(shape, type) else type(shape)


def _described(shape):
    return " or ".join(map(_described, shape)) if isinstance(shape, tuple) else _KINDS[_kind(shape)]


def _shown(value):
    """Returns a value of JSON for a message, a list or an object by its kind."""
    return _KINDS[type(value)] if isinstance(value, list | dict) else _cut(json.dumps(value))


def shortened(value: object) -> str:
    """Returns a value for a message: in ASCII, and not longer than a message can bear."""
    return _cut(ascii(value))


def _cut(text):
    return text if len(text) <= _MESSAGE_LENGTH else text[:_MESSAGE_LENGTH] + "..."


def printable(name: str) -> str:
    """Returns a name for a message: as it is, or as ``shortened`` where it would act on the terminal or is too long."""
    return name if name.isprintable() and len(name) <= 2 * _MESSAGE_LENGTH else shortened(name)


def parse_json(text: str, where: str | os.PathLike, shape: Any = object) -> Any:
    """Returns the value of a JSON text.

    Refused are, beyond what is no JSON: NaN and Infinity, a name that appears twice in an object, half of a surrogate
    pair, a number of thousands of digits, and nesting that is too deep for Python.

    Args:
        where: file and line, for messages.
        shape: what it must be, as ``check_shape`` says it.

    Raises:
        UserError: it is something else.
    """
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise UserError(f"{where}: its JSON is nested too deeply") from None
    except UnicodeEncodeError:
        at, string = next(_broken_strings(value))
        raise UserError(f"{where}: {at} holds half of a surrogate pair: {shortened(string)}") from None
    except ValueError as error:
        reason = str(error).partition(";")[0] if text.strip() else "it is blank"
        raise UserError(f"{where}: cannot be read as JSON: {reason}") from error
    return check_shape(value, shape, where)


def _object(members):
    names = dict(members)
    if len(names) < len(members):
        seen: set[str] = set()
        twice = next(name for name, _ in members if name in seen or seen.add(name))
        raise ValueError(f"the name {shortened(twice)} appears twice in one object")
    return names


def _refuse_constant(name):
    raise ValueError(f"{name} is no number of JSON")


def _broken_strings(value, at=""):
    """Yields ``(position, string)`` of each string that holds half of a surrogate pair."""
    if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
        yield at, value
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from _broken_strings(key, at + _step(key))
        yield from _broken_strings(item, at + _step(key))


def token_ids(value: Any, where: str | os.PathLike, name: str) -> list[int]:
    """Returns ``value`` if it is a list of GPT-2's ids.

    Args:
        where: file and line, for the message.
        name: what the value is, for the message.

    Raises:
        UserError: it is not.
    """
    if type(value) is not list:
        raise UserError(f"{where}: {name} is {_shown(value)}, expected a list of ids")
    for token in value:
        if type(token) is not int or not 0 <= token < VOCABULARY_SIZE:
            raise UserError(f"{where}: {name} holds {_shown(token)}, expected ids from 0 to {VOCABULARY_SIZE - 1}")
    return value


def at_least_one(records: Iterable[T], path: str | os.PathLike) -> Iterator[T]:
    """Yields the records, and raises UserError, which names ``path``, when there are none."""
    is_empty = True
    for record in records:
        is_empty = False
        yield record
    if is_empty:
        raise UserError(f"{path}: holds no rows")
