"""Mistakes that the user can fix, and the one way in which every program ends."""

import errno
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

USER_ERROR = 2
FULL_DISK = 3
INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM
CLOSED_PIPE = 128 + signal.SIGPIPE

_FULL = (errno.ENOSPC, errno.EDQUOT)


class UserError(Exception):
    """A mistake of the user: the message says what was found, where, what was expected and what to do.

    Attributes:
        status: with which it ends the process.
    """

    def __init__(self, message: str, status: int = USER_ERROR):
        super().__init__(message)
        self.status = status


class Terminated(BaseException):
    """SIGTERM has come: like KeyboardInterrupt, it ends the process, and what is open is closed on the way."""


def note(sentence: str) -> None:
    """Says on standard error what the user should know, where the program can go on."""
    print(f"note: {sentence}", file=sys.stderr)


def status_after(status: int) -> int:
    """Returns the exit status of a program for which another one has failed: that one's where it tells the reason.

    Args:
        status: of the other program, as subprocess gives it: negative for a signal.
    """
    status = 128 - status if status < 0 else status
    return status if status in (FULL_DISK, INTERRUPTED, TERMINATED) else USER_ERROR


def sentence_of(error: OSError) -> str:
    """Returns ``path: what the system says`` of an error of the operating system."""
    reason = error.strerror or str(error) or type(error).__name__
    if error.errno in _FULL:
        reason += "; make room, then run it again"
    names = [os.fspath(name) for name in (error.filename, error.filename2) if isinstance(name, str | os.PathLike)]
    return f"{' and '.join(names) or 'standard output or an open file'}: {reason}"


def _drop_output():
    """Drops what standard output does not take, for which Python would complain once more when it ends."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _terminate(number, frame):
    raise Terminated


def _take_default_signals():
    """Gives a fork of this process, such as a worker of a pool, the system's own ending upon SIGTERM, and Python's upon
    Ctrl-C. A handler in Python runs between two instructions: a signal that comes just before the worker waits for its
    next task would never be handled, and who waits for the worker's end would wait for ever.
    """
    for number, default in ((signal.SIGTERM, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
        if callable(signal.getsignal(number)):
            signal.signal(number, default)


os.register_at_fork(after_in_child=_take_default_signals)


def say(line: str, status: int) -> None:
    """Says on standard error why the process ends; its exit status changes nothing."""
    print(line, file=sys.stderr)


def run_main(main: Callable[[list[str]], int | None], say: Callable[[str, int], None] = say) -> NoReturn:
    """Runs ``main(argv)`` as the process and ends it with one line on standard error where something is wrong.

    Exit statuses: that of a UserError, as a rule USER_ERROR; USER_ERROR for what the operating system refuses,
    FULL_DISK for a full disk, INTERRUPTED for Ctrl-C, TERMINATED for SIGTERM, CLOSED_PIPE, without a word, where the
    reader of standard output has gone (``| head``).

    Args:
        main: takes the command-line arguments without the program's name; returns None or an exit status.
        say: is called with the line and the exit status where something is wrong.
    """
    program = os.path.basename(sys.argv[0])
    message = None
    before = signal.getsignal(signal.SIGTERM)
    try:
        if before == signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _terminate)
        # Closed ones are None, which no progress bar can write to.
        sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))
        # Where standard output cannot show a character, such as é in ASCII, its code is shown.
        sys.stdout.reconfigure(errors="backslashreplace")
        if sys.flags.optimize > 1:
            raise UserError("PYTHONOPTIMIZE=2, or python -OO, takes away texts that the programs print: unset "
                            "PYTHONOPTIMIZE")
        status = main(sys.argv[1:])
        sys.stdout.flush()
    except UserError as error:
        message, status = f"error: {error}", error.status
    except BrokenPipeError:
        status = CLOSED_PIPE
    except OSError as error:
        message, status = f"error: {sentence_of(error)}", FULL_DISK if error.errno in _FULL else USER_ERROR
    except UnicodeEncodeError as error:
        message = (f"error: {ascii(error.object)[:100]} is not text in {error.encoding}: an argument or a file's name "
                   "holds invalid bytes")
        status = USER_ERROR
    except KeyboardInterrupt:
        message, status = "interrupted", INTERRUPTED
    except Terminated:
        message, status = "terminated", TERMINATED
    # Behind the handlers the error and its frames are gone, so that a progress bar in them has ended its line.
    if before == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, before)
    _drop_output()
    if message:
        say(f"{program}: {message}", status)
    sys.exit(status)
