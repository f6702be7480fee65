"""Reading and writing files: plain or gzipped, atomic writes, errors with file and line."""

import contextlib
import gzip
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

from common.errors import UserError


def find_input(path: str | os.PathLike) -> str:
    """Returns ``path``, or ``path + '.gz'`` where only that exists.

    Raises:
        UserError: neither exists.
    """
    path = os.fspath(path)
    for candidate in (path, path + ".gz"):
        if os.path.isfile(candidate):
            return candidate
    raise UserError(f"{path}: no such file (nor {path}.gz)")


def open_bytes(path: str | os.PathLike) -> io.BufferedReader | gzip.GzipFile:
    """Opens a file for reading bytes, which are unpacked where its name ends in ``.gz``."""
    return gzip.open(path, "rb") if os.fspath(path).endswith(".gz") else open(path, "rb")


def read_lines(path: str | os.PathLike) -> Iterator[tuple[int, str]]:
    """Yields ``(line_number, line)`` from 1 on, without the newline.

    Raises:
        UserError: the file is missing or is not UTF-8 (or not gzip, for ``.gz``).
    """
    path = find_input(path)
    line_number = 0
    # Bytes, decoded line by line: a text file is decoded in blocks, so the error would name an earlier line.
    with open_bytes(path) as file:
        try:
            for line_number, line in enumerate(file, 1):
                yield line_number, line.decode("utf-8").rstrip("\n")
        except UnicodeDecodeError as error:
            raise UserError(f"{path}:{line_number}: not UTF-8 text: {error}") from error
        except (gzip.BadGzipFile, EOFError) as error:
            raise UserError(f"{path}:{line_number + 1}: cannot be unpacked: {error}") from error


def read_json_lines(path: str | os.PathLike, keys: Sequence[str] = ()) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields ``(line_number, object)`` for each line of a JSON-lines file.

    Args:
        path: the file, gzipped or not.
        keys: names that each object must have.

    Raises:
        UserError: a line is not a JSON object or lacks a key; the message names file and line.
    """
    for line_number, line in read_lines(path):
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{path}:{line_number}: not JSON: {error}; expected one JSON object per line") from error
        if not isinstance(record, dict):
            raise UserError(f"{path}:{line_number}: found a JSON {type(record).__name__}, expected an object")
        missing = [key for key in keys if key not in record]
        if missing:
            raise UserError(f"{path}:{line_number}: no {', '.join(map(repr, missing))} in the object; "
                            f"it has {', '.join(map(repr, record)) or 'nothing'}")
        yield line_number, record


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike, mode: str = "w") -> Iterator[IO[Any]]:
    """Opens a new file that gets the name ``path`` only when the block ends without an error.

    Args:
        path: the file to write or replace; its folder is made where it is missing.
        mode: ``"w"`` for text in UTF-8, ``"wb"`` for bytes.

    Raises:
        UserError: ``path`` is a folder, or its folder cannot be written.
    """
    path = os.fspath(path)
    folder = os.path.dirname(path) or "."
    encoding, newline = (None, None) if "b" in mode else ("utf-8", "\n")
    if os.path.isdir(path):
        raise UserError(f"{path}: is a folder, expected the name of a file to write")
    try:
        os.makedirs(folder, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=f".{os.path.basename(path)}.")
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, mode, encoding=encoding, newline=newline) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def write_json_lines(path: str | os.PathLike, records: Iterable[Any]) -> int:
    """Writes each record as one line of JSON, atomically, and returns how many there were."""
    count = 0
    with atomic_write(path) as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
            count += 1
    return count


def write_json(path: str | os.PathLike, record: Any) -> None:
    """Writes one JSON document, atomically and indented."""
    with atomic_write(path) as file:
        json.dump(record, file, indent=2, ensure_ascii=False)
        file.write("\n")


def read_json(path: str | os.PathLike) -> Any:
    """Reads one JSON document, gzipped or not.

    Raises:
        UserError: the file is missing or is not JSON.
    """
    with io.TextIOWrapper(open_bytes(find_input(path)), encoding="utf-8", newline="\n") as file:
        try:
            return json.load(file)
        except (json.JSONDecodeError, UnicodeDecodeError, gzip.BadGzipFile, EOFError) as error:
            raise UserError(f"{path}: not a JSON document: {error}") from error


def sha256_of(path: str | os.PathLike) -> str:
    """Returns the SHA-256 of a file's bytes (unpacked, if it ends in ``.gz``) in hexadecimal."""
    digest = hashlib.sha256()
    with open_bytes(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
