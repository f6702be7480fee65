"""Reading and writing files: plain or gzipped, JSON of a given shape, atomic writes, errors with file and line."""

import codecs
import contextlib
import errno
import gzip
import hashlib
import io
import json
import os
import shutil
import stat
import sys
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from typing import IO, Any, BinaryIO

from common.checks import parse_json
from common.errors import UserError, note
from common.paths import why_refused
from common.unfinished import permissions, start_of_name, umask, written_whole

_read_before: dict[Any, bytes] = {}  # what came through each pipe, which can be read only once


def find_input(path: str | os.PathLike) -> str:
    """Returns ``path``, or ``path + '.gz'`` where only that exists; a pipe or a device will do too.

    Raises:
        UserError: neither exists, or what exists is a folder.
    """
    path = os.fspath(path)
    for candidate in (path, path + ".gz"):
        try:
            status = os.stat(candidate)
        except (FileNotFoundError, NotADirectoryError):
            continue
        if not stat.S_ISDIR(status.st_mode):
            return candidate
    if os.path.isdir(path):
        raise UserError(f"{path}: is a folder, expected a file")
    if os.path.islink(path):
        raise UserError(f"{path}: is a link to {os.readlink(path)}, which does not exist")
    raise UserError(f"{path}: no such file (nor {path}.gz)")


@contextlib.contextmanager
def open_bytes(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Opens a file for reading bytes, which are unpacked where its name ends in ``.gz``.

    What comes through a pipe is kept in memory, so that it can be opened again.

    Raises:
        UserError: the file cannot be unpacked.
    """
    path = os.fspath(path)
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            identity = _identity(path)
            if identity not in _read_before:
                with open(path, "rb") as stream:
                    _read_before[identity] = stream.read()
            yield io.BytesIO(_read_before[identity])
        else:
            with (gzip.open if path.endswith(".gz") else open)(path, "rb") as file:
                yield file
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be unpacked: {error}; the file is damaged or is not gzip") from error
    except OSError as error:
        if error.errno:
            error.filename = error.filename or path
        raise


def _text(content, where):
    """Returns bytes as text; raises UserError, which names ``where``, if they are not UTF-8."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        raise UserError(f"{where}: not UTF-8 text: {error}{'; it looks like UTF-16' if is_utf16 else ''}") from error


def read_lines(path: str | os.PathLike) -> Iterator[tuple[int, str]]:
    """Yields ``(line_number, line)`` from 1 on, without the newline and the file's byte order mark.

    Raises:
        UserError: the file is missing or is not UTF-8 (or not gzip, for ``.gz``).
    """
    path = find_input(path)
    # Bytes, decoded line by line: a text file is decoded in blocks, so the error would name an earlier line.
    with open_bytes(path) as file:
        for line_number, line in enumerate(file, 1):
            line = line.removeprefix(codecs.BOM_UTF8) if line_number == 1 else line
            yield line_number, _text(line, f"{path}:{line_number}").rstrip("\n")


def before_trailing_blanks(lines: Iterable[tuple[int, str]], path: str | os.PathLike) -> Iterator[tuple[int, str]]:
    """Yields the ``(line_number, line)`` of a file up to its last line that is not blank; says how many follow it."""
    held: list[tuple[int, str]] = []
    for numbered in lines:
        held.append(numbered)
        if numbered[1].strip():
            yield from held
            held.clear()
    if held:
        note(f"{path}: {len(held)} blank {'line' if len(held) == 1 else 'lines'} at its end ignored")


def read_json_lines(path: str | os.PathLike, shape: Any = dict) -> Iterator[tuple[int, Any]]:
    """Yields ``(line_number, value)`` for each line of a JSON-lines file; blank lines at its end are ignored.

    Args:
        path: the file, gzipped or not.
        shape: of each line's value, as ``common.checks.check_shape`` says it.

    Raises:
        UserError: a line is not JSON or has another shape; the message names file and line.
    """
    for line_number, line in before_trailing_blanks(read_lines(path), path):
        yield line_number, parse_json(line, f"{path}:{line_number}", shape)


def read_json(path: str | os.PathLike, shape: Any = object) -> Any:
    """Reads one JSON document, gzipped or not.

    Args:
        shape: as ``common.checks.check_shape`` says it.

    Raises:
        UserError: the file is missing, is not JSON or has another shape.
    """
    path = find_input(path)
    with open_bytes(path) as file:
        content = file.read()
    return parse_json(_text(content.removeprefix(codecs.BOM_UTF8), path), path, shape)


def _stream(path):
    """Returns the descriptor 1 or 2 if ``path`` is what it leads to, -1 for another pipe or device, else None."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):
            if os.path.samestat(status, os.fstat(descriptor)):
                return descriptor
    return None if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode) else -1


def is_stream(path: str | os.PathLike) -> bool:
    """Returns whether what is written to a path goes on to somewhere else: a pipe, a device, standard output."""
    return _stream(path) is not None


def check_output(path: str | os.PathLike) -> None:
    """Checks that a file can be written, without writing; folders that are missing can be made.

    Raises:
        UserError, OSError: it cannot.
    """
    path = os.fspath(path)
    if os.path.isdir(path):
        raise UserError(f"{path}: is a folder, expected the name of a file to write")
    if not os.path.basename(path):
        raise UserError(f"{path or 'an empty name'}: expected the name of a file to write")
    if path.endswith(".gz"):
        raise UserError(f"{path}: what is written is not gzipped; give a name without .gz")
    if is_stream(path):
        return
    target = os.path.realpath(path)
    folder = os.path.dirname(target)
    while not os.path.exists(folder):
        folder = os.path.dirname(folder)
    if not os.path.isdir(folder):
        raise UserError(f"{path}: cannot be written: {folder} is a file, expected a folder")
    for needed, mode in ((folder, os.W_OK | os.X_OK), (target, os.W_OK)):
        if os.path.exists(needed) and not os.access(needed, mode, effective_ids=True):
            raise UserError(f"{path}: cannot be written: {needed} does not let this user write")
    reason = None if os.path.exists(target) else why_refused(folder)
    if reason:
        raise UserError(f"{path}: cannot be written: {folder} takes no files: {reason}")
    for name in os.path.relpath(target, folder).split(os.sep):
        if len(os.fsencode(name)) > os.pathconf(folder, "PC_NAME_MAX"):
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), path)


def check_outputs(outputs: Iterable[str | os.PathLike], inputs: Iterable[str | os.PathLike | None] = ()) -> None:
    """Checks, before anything is opened for writing, what a program is about to write.

    Args:
        outputs: paths of files to write.
        inputs: paths of files that it reads; None and what does not exist are left out.

    Raises:
        UserError: an output cannot be written, or is the same file as an input or as another output, under whatever
            name: by a link, for one.
    """
    taken = {}
    for path in filter(None, inputs):
        for candidate in (os.fspath(path), f"{os.fspath(path)}.gz"):
            if os.path.isfile(candidate):
                taken[_identity(candidate)] = f"the input {candidate}"
    for path in outputs:
        check_output(path)
        if not is_stream(path):
            identity = _identity(path)
            if identity in taken:
                raise UserError(f"{os.fspath(path)}: is the same file as {taken[identity]}; give another name")
            taken[identity] = f"the output {os.fspath(path)}"


def _identity(path):
    """Returns what two names of one file have in common."""
    target = os.path.realpath(path)  # of folder/../x, where there is no folder yet: it is made before x is written
    try:
        status = os.stat(target)
    except OSError:
        return target
    return status.st_dev, status.st_ino


def check_inputs(*paths: str | os.PathLike) -> None:
    """Checks that files are there and can be read, without reading.

    Raises:
        UserError: one is not.
    """
    for path in paths:
        found = find_input(path)
        if not os.access(found, os.R_OK, effective_ids=True):
            raise UserError(f"{found}: this user may not read it")


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike, mode: str = "w") -> Iterator[IO[Any]]:
    """Opens a new file that gets the name ``path`` only when the block ends without an error.

    A link is followed, and a file that is replaced keeps its permissions. What is no plain file, such as a pipe or a
    device, is written to as it is.

    Args:
        path: the file to write or replace; its folder is made where it is missing.
        mode: ``"w"`` for text in UTF-8, ``"wb"`` for bytes.

    Raises:
        UserError: as ``check_output``.
        OSError: the system refuses, a full disk for one; it names ``path``.
    """
    check_output(path)
    encoding, newline = (None, None) if "b" in mode else ("utf-8", "\n")
    target, stream = os.path.realpath(path), _stream(path)
    try:
        if stream is not None:
            for printed in filter(None, (sys.stdout, sys.stderr)):
                printed.flush()
            with open(path if stream < 0 else os.dup(stream), mode, encoding=encoding, newline=newline) as file:
                yield file
            return
        with written_whole(target, mode, encoding=encoding, newline=newline) as file:
            yield file
    except OSError as error:
        # Errors of writing name no file, or the temporary one.
        if error.errno and (error.filename is None or str(error.filename).startswith(start_of_name(target))):
            error.filename = os.fspath(path)
        raise


def check_new_folder(path: str | os.PathLike) -> None:
    """Checks that a folder can be made, or is there and empty, without making it.

    Raises:
        UserError, OSError: it cannot.
    """
    path = os.fspath(path)
    final = os.path.realpath(path)
    if not path:
        raise UserError("an empty name: expected the name of a folder to make")
    if os.path.exists(final) and not (os.path.isdir(final) and not os.listdir(final)):
        raise UserError(f"{path}: exists and is not an empty folder; name another folder, or delete it")
    if not os.path.exists(final):
        check_output(final)


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike) -> Iterator[str]:
    """Yields the path of a new folder that gets the name ``path`` only when the block ends without an error.

    The block writes files into it, no folders.

    Raises:
        UserError: as ``check_new_folder``.
        OSError: the system refuses, a full disk for one; it names a file in ``path``.
    """
    check_new_folder(path)
    final = os.path.realpath(path)
    os.makedirs(os.path.dirname(final), exist_ok=True)
    temporary = tempfile.mkdtemp(dir=os.path.dirname(final), prefix=os.path.basename(start_of_name(final)))
    try:
        yield temporary
        for name in os.listdir(temporary):
            with open(os.path.join(temporary, name), "rb") as file:
                os.fsync(file.fileno())
                os.chmod(file.fileno(), permissions(os.path.join(final, name)))
        os.chmod(temporary, 0o777 & ~umask())
        os.rename(temporary, final)
    except BaseException as error:
        shutil.rmtree(temporary)
        if isinstance(error, OSError) and str(error.filename).startswith(temporary):
            error.filename = os.fspath(path) + str(error.filename)[len(temporary):]
        raise


def say_written(path: str | os.PathLike, sentence: str) -> None:
    """Prints what was written to ``path``; where that went on to standard output or elsewhere, on standard error."""
    print(sentence, file=sys.stderr if is_stream(path) else sys.stdout)


def write_json_lines(path: str | os.PathLike, records: Iterable[Any]) -> int:
    """Writes each record as one line of JSON, atomically, and returns how many there were."""
    count = 0
    with atomic_write(path) as file:
        for record in records:
            file.write(_dumped(record, path) + "\n")
            count += 1
    return count


def write_json(path: str | os.PathLike, record: Any) -> None:
    """Writes one JSON document, atomically and indented."""
    with atomic_write(path) as file:
        file.write(_dumped(record, path, indent=2) + "\n")


def _dumped(record, path, indent=None):
    try:
        return json.dumps(record, ensure_ascii=False, allow_nan=False, indent=indent)
    except ValueError as error:
        raise UserError(f"{path}: is not written, for a number in it is NaN or infinite: JSON has none such") from error


def sha256_of(path: str | os.PathLike) -> str:
    """Returns the SHA-256 of a file's bytes (unpacked, if it ends in ``.gz``) in hexadecimal."""
    digest = hashlib.sha256()
    with open_bytes(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
