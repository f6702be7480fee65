"""Ctrl-C and SIGTERM in a process that has something to bring to an end first."""

import contextlib
import ctypes
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from common.errors import Terminated

_HANDLED = signal.SIGINT, signal.SIGTERM
_PR_SET_PDEATHSIG = 1
SECOND_S = 1.0  # a signal that comes sooner is the same one again: sent to each process of a job, and handed on


@contextlib.contextmanager
def handled(receive: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Calls ``receive(number, frame)`` on Ctrl-C and SIGTERM during the block; those that are ignored stay so.

    In a thread, where Python does not let handlers be set, it changes nothing.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in _HANDLED}
        before = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    try:
        for number in before:
            signal.signal(number, receive)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def exception_of(number: int) -> BaseException:
    """Returns what ends a process upon a signal: see run_main."""
    return KeyboardInterrupt() if number == signal.SIGINT else Terminated()


class Stop:
    """Takes note of the first Ctrl-C or SIGTERM during a block, which then ends where it is good to; a second one ends
    it at once.

    Args:
        say: called with the signal's name when the first comes.

    Attributes:
        number: the signal that came, or None.
    """

    def __init__(self, say: Callable[[str], object]):
        self.say, self.number, self.came = say, None, 0.0
        self.stack = contextlib.ExitStack()

    def receive(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None:
            if time.monotonic() - self.came >= SECOND_S:
                raise exception_of(number)
            return
        self.number, self.came = number, time.monotonic()
        self.say(signal.Signals(number).name)

    def __enter__(self) -> "Stop":
        self.stack.enter_context(handled(self.receive))
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: object) -> None:
        self.stack.close()
        # Ctrl-C reaches a compiler that is at work for this process too, which then fails.
        if self.number is not None and isinstance(error, RuntimeError):
            raise exception_of(self.number) from error

    def check(self) -> None:
        """Ends the block if a signal has come.

        Raises:
            KeyboardInterrupt, Terminated: by the signal.
        """
        if self.number is not None:
            raise exception_of(self.number)


class Child:
    """A process that gets the Ctrl-C and SIGTERM of this one during a block, and is waited for whatever ends the block.

    It is in a process group of its own, so that Ctrl-C in a terminal comes to it once, through this process; and it
    gets SIGTERM where this process is killed.

    Args:
        words: program and arguments.
        opening: as for subprocess.Popen.

    Attributes:
        process: the Popen.
        number: the first signal that was handed on, or None.
    """

    def __init__(self, words: list[str], **opening: Any):
        self.words, self.opening, self.number = words, opening, None
        self.process: subprocess.Popen | None = None
        self.stack = contextlib.ExitStack()

    def receive(self, number: int, frame: FrameType | None) -> None:
        self.number = self.number or number
        if self.process is not None:
            self.process.send_signal(number)

    def __enter__(self) -> "Child":
        with contextlib.ExitStack() as stack:
            stack.enter_context(handled(self.receive))
            self.process = subprocess.Popen(self.words, preexec_fn=_follow(os.getpid()), **self.opening)
            self.stack = stack.pop_all()
        if self.number is not None:  # it came before there was a process
            self.process.send_signal(self.number)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: object) -> None:
        if error is not None:
            self.process.terminate()
        if self.process.stdout:
            for _ in self.process.stdout:  # else it could wait for ever to be read
                pass
            self.process.stdout.close()
        self.process.wait()
        self.stack.close()


def _follow(parent):
    """Returns what a child does before it becomes its program, so that it does not outlive its parent."""
    libc = ctypes.CDLL(None)

    def begin():
        os.setpgid(0, 0)
        if hasattr(libc, "prctl"):
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:  # it died before
                os._exit(128 + signal.SIGTERM)
    return begin
