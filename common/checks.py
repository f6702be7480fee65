"""Checks of what was read from a file: kinds of values, members of objects, and that there are rows at all."""

from common.errors import UserError

_KINDS = {str: "a string", list: "a list", dict: "an object", int: "a whole number"}


def require(value, kind, where, name):
    """Returns ``value`` if it is a ``kind`` (a key of ``_KINDS``) that UTF-8 can hold.

    Raises:
        UserError: it is not; the message starts with ``where``.
    """
    if not isinstance(value, kind):
        raise UserError(f"{where}: {name} is {shortened(value)}, expected {_KINDS[kind]}")
    if kind is str:
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise UserError(f"{where}: {name} holds half of a surrogate pair: {shortened(value)}") from None
    return value


def shortened(value, length=60):
    """Returns a value for a message: in ASCII and not longer than ``length``."""
    text = ascii(value)
    return text if len(text) <= length else text[:length] + "..."


def member(record, key, kind, where):
    """Returns ``record[key]`` after checking that it is there and is a ``kind``."""
    require(record, dict, where, "this")
    if key not in record:
        raise UserError(f"{where}: no {key!r}; found {', '.join(map(repr, record)) or 'an empty object'}")
    return require(record[key], kind, where, repr(key))


def at_least_one(records, path):
    """Yields the records, and raises UserError, which names ``path``, when there are none."""
    record = None
    for record in records:
        yield record
    if record is None:
        raise UserError(f"{path}: holds no rows")
