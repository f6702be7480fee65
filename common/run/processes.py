"""The processes that share a run: each trains on its rows of every batch, and the first one alone writes and speaks.

Whatever is done with all of them, such as ``gather``, every process must call, and in the same order. What joins them
differs from framework to framework (``process_group.py`` in the trees); a process alone is the first of one.
"""

import contextlib
import hashlib
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from common import errors
from common.errors import UserError
from common.run.launching import LAUNCHER_SECONDS, place, say_once


class OthersEnded(Exception):
    """Another process of the run has ended; it or the launcher says why."""


class Processes:
    """A process alone; a group of several overrides everything.

    Attributes:
        rank: this process's number, from 0 on.
        count: how many there are.
    """

    rank, count = 0, 1

    def gather(self, value: Any) -> list:
        """Returns what each process gave, any object that pickles, in the order of their ranks."""
        return [value]

    def sum(self, array: Any) -> Any:
        """Returns the sum of all processes' arrays, which are the framework's and of one shape."""
        return array

    def leave(self) -> None:
        """Ends the connection, once the run is complete."""

    def abort(self, status: int) -> None:
        """Ends all processes, for this one cannot go on."""


_group = Processes()


def join(group: Processes) -> None:
    """Makes this process one of a group; it stays so."""
    global _group
    _group = group


def group() -> Processes:
    """Returns the group that this process belongs to."""
    return _group


def rank() -> int:
    """Returns this process's number, from 0 on."""
    return _group.rank


def count() -> int:
    """Returns how many processes share the run."""
    return _group.count


def is_first() -> bool:
    """Returns whether this is the process that writes and speaks."""
    return _group.rank == 0


def gather(value: Any) -> list:
    """Returns what each process gave, in the order of their ranks."""
    return _group.gather(value)


def check_devices(has_gpu: bool) -> None:
    """Checks that all processes compute on GPUs, or all of them on processors.

    Raises:
        UserError: some of them have no GPU of their own.
    """
    found = gather(has_gpu)
    if len(set(found)) > 1:
        raise UserError(f"process {found.index(False)} of {len(found)} has no GPU of its own, process "
                        f"{found.index(True)} has one: start at most one process for each GPU, or give --device cpu")


def same_everywhere(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the arrays, once all processes are known to hold the same bits.

    Raises:
        RuntimeError: they do not, so that the processes no longer train one model.
    """
    if count() == 1:
        return arrays
    digest = hashlib.sha256(b"".join(arrays[name].tobytes() for name in sorted(arrays))).hexdigest()
    found = gather(digest)
    if len(set(found)) > 1:
        raise RuntimeError(f"the weights differ from process to process; hashes: {found}")
    return arrays


def run_main(main: Callable[[list[str]], int | None]) -> NoReturn:
    """Runs a program that several processes may share, as common.errors.run_main runs one.

    What all would say the first one says; what is wrong is said once, and it ends all of them, with its exit status.
    """
    def main_of_one(argv):
        with contextlib.ExitStack() as stack:
            if place().rank > 0:
                nowhere = stack.enter_context(open(os.devnull, "w"))
                stack.enter_context(contextlib.redirect_stdout(nowhere))
                stack.enter_context(contextlib.redirect_stderr(nowhere))
            try:
                status = main(argv)
            except SystemExit as end:  # of argparse, whose message the first process alone shows
                if end.code:
                    say_once(None, LAUNCHER_SECONDS)
                raise
            _group.leave()
            return status

    def say(line, status):
        by_signal = status in (errors.INTERRUPTED, errors.TERMINATED)
        say_once(line, 0 if by_signal else LAUNCHER_SECONDS)

    try:
        errors.run_main(main_of_one, say)
    except SystemExit as end:
        if end.code:
            _group.abort(end.code)
        raise
    except BaseException as error:
        if _group.count > 1:
            if isinstance(error, OthersEnded):  # the launcher ends this one too; it should see the other's end first
                with contextlib.suppress(BaseException):
                    time.sleep(LAUNCHER_SECONDS)
            else:
                traceback.print_exc()
                sys.stderr.flush()
            _group.abort(1)
        raise
