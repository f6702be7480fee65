"""Checks of what was read from a file: kinds of values, members of objects, and that there are rows at all."""

import os
from collections.abc import Iterable, Iterator
from typing import TypeVar

from common.errors import UserError

T = TypeVar("T")

_KINDS: dict[type, str] = {str: "a string", list: "a list", dict: "an object", int: "an integer"}
_MESSAGE_LENGTH = 60


def require(value: object, kind: type[T], where: str | os.PathLike, name: str) -> T:
    """Returns ``value`` if it is a ``kind`` (a key of ``_KINDS``) and, as a string, can be encoded in UTF-8.

    Args:
        where: file and position, for the message.
        name: what the value is, for the message.

    Raises:
        UserError: it is not; the message starts with ``where``.
    """
    if not isinstance(value, kind):
        raise UserError(f"{where}: {name} is {shortened(value)}, expected {_KINDS[kind]}")
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise UserError(f"{where}: {name} holds half of a surrogate pair: {shortened(value)}") from None
    return value


def shortened(value: object) -> str:
    """Returns a value for a message: in ASCII, cut to ``_MESSAGE_LENGTH`` characters."""
    text = ascii(value)
    return text if len(text) <= _MESSAGE_LENGTH else text[:_MESSAGE_LENGTH] + "..."


def member(record: object, key: str, kind: type[T], where: str | os.PathLike) -> T:
    """Returns ``record[key]`` after checking that it exists and is a ``kind``; otherwise as ``require``."""
    members = require(record, dict, where, "this")
    if key not in members:
        raise UserError(f"{where}: no {key!r}; found {', '.join(map(repr, members)) or 'an empty object'}")
    return require(members[key], kind, where, repr(key))


def at_least_one(records: Iterable[T], path: str | os.PathLike) -> Iterator[T]:
    """Yields the records, and raises UserError, which names ``path``, when there are none."""
    is_empty = True
    for record in records:
        is_empty = False
        yield record
    if is_empty:
        raise UserError(f"{path}: holds no rows")
