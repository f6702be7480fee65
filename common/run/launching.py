"""What a launcher, such as torchrun or mpirun, tells each process that it starts: its place among those of the run."""

import argparse
import contextlib
import errno
import os
import socket
import sys
import time
from dataclasses import dataclass

from common.errors import UserError

# The variables of rank, number of processes, and both of them on this machine; by the launcher's name.
VARIABLES = {
    "torchrun": ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"),
    "mpirun": ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),  # MPICH's
    "Open MPI's mpirun": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
                          "OMPI_COMM_WORLD_LOCAL_SIZE"),
}
# The largest values of the original program's flags that stand for a process alone.
LARGEST = {"local_rank": 0, "rank": 0, "world_size": 1}
LAUNCHER_SECONDS = 10  # within which processes find the same thing wrong, and a launcher sees that one has ended
HOW = ("start several processes with torchrun --nproc_per_node=N in the PyTorch tree, with mpirun -np N in the Jittor "
       "tree")


@dataclass(frozen=True)
class Place:
    """Where a process stands among those that were started together.

    Attributes:
        rank, count: its number, from 0 on, and how many there are.
        local_rank, local_count: the same among those on this machine.
        launcher: what started it, a key of VARIABLES; None for a process alone.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    local_count: int = 1
    launcher: str | None = None


def whole_number(variable: str) -> int | None:
    """Returns an environment variable's number, None where it is absent or empty.

    Raises:
        UserError: it is no whole number.
    """
    text = os.environ.get(variable)
    try:
        return int(text) if text else None
    except ValueError:
        raise UserError(f"{variable} is {text!r}: expected a whole number; unset it, or let a launcher set "
                        "it") from None


def place() -> Place:
    """Returns what the launcher's variables say.

    Raises:
        UserError: they do not fit together, or one of them is no whole number.
    """
    for launcher, variables in VARIABLES.items():
        rank, count, local_rank, local_count = map(whole_number, variables)
        if (count or 1) <= 1 and (rank or 0) <= 0 and (local_rank or 0) <= 0:
            continue  # not this one, or it has started one process
        said = ", ".join(f"{name} is {os.environ.get(name) or 'not set'}" for name in variables)
        if None in (rank, count, local_rank, local_count):
            raise UserError(f"{said}: expected all of them; {HOW}")
        if not (0 <= rank < count and 0 <= local_rank < local_count <= count):
            raise UserError(f"{said}: expected ranks from 0 on, below the numbers of processes; {HOW}")
        return Place(rank, count, local_rank, local_count, launcher)
    return Place()


def say_once(line: str | None, seconds: float = LAUNCHER_SECONDS) -> None:
    """Prints a line on standard error, unless another process of this run, on this machine, has said why the run ends.

    A name in Linux's abstract namespace stands for the right to speak; the system takes it back when its owner ends. So
    the owner stays until the others have asked for it. They ask until the line is out, for once a process has ended
    the launcher ends all of them.

    Args:
        line: without the newline; None where the first process says by itself, or has said, what all find wrong, so
            that they only wait for each other.
        seconds: for which the process waits for the next of the others, which may not find anything wrong.
    """
    try:
        others = place().local_count - 1
    except UserError:  # it is the line
        others = 0
    name = f"\0{os.path.basename(sys.argv[0])} started by {os.getppid()}"
    with socket.socket(socket.AF_UNIX) if others else contextlib.nullcontext() as right:
        while others:
            try:
                right.bind(name)
                break
            except OSError as error:
                if error.errno != errno.EADDRINUSE:  # a system without such names
                    others = 0
                    break
            with socket.socket(socket.AF_UNIX) as question, contextlib.suppress(ConnectionRefusedError):
                question.connect(name)
                return
            time.sleep(.01)
        if line is not None:
            print(line, file=sys.stderr, flush=True)
        if others:
            right.listen(others)
            right.settimeout(seconds)
            with contextlib.suppress(TimeoutError, BlockingIOError, KeyboardInterrupt):
                for _ in range(others):
                    right.accept()[0].close()


def add_launcher_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the original program's flags for launchers; ``torch.distributed.launch`` spells one with a hyphen."""
    for name, largest in LARGEST.items():
        spellings = [f"--{name}"] + ["--local-rank"] * (name == "local_rank")
        parser.add_argument(*spellings, type=int, default=largest, help="of a launcher, which sets a variable too")


def check_alone(what: str) -> None:
    """Checks that no launcher has started several of these processes.

    Args:
        what: they are, for the message.

    Raises:
        UserError: one has.
    """
    here = place()
    if here.count > 1:
        raise UserError(f"{here.launcher} has started {here.count} processes: {what} runs as one")


def take_launcher_flags(arguments: argparse.Namespace, may_share: bool = True) -> None:
    """Takes the launchers' flags out of the namespace, once they say what the variables say.

    Args:
        arguments: the namespace.
        may_share: whether several processes may do together what the program does.

    Raises:
        UserError: they differ, or one of several processes was started of a program that runs alone.
    """
    if not may_share:
        check_alone("this program")
    here = place()
    for name, told in (("local_rank", here.local_rank), ("rank", here.rank), ("world_size", here.count)):
        value = getattr(arguments, name)
        if value > LARGEST[name] and value != told:
            raise UserError(f"--{name} is {value}: its launcher's variables say {told}; leave the flag out, and {HOW}")
        delattr(arguments, name)
