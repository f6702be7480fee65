"""What one of several processes does by itself, in a group whose other members are made up."""

import os
import subprocess
import sys

import numpy as np
import pytest

from common.errors import UserError
from common.paths import ROOT
from common.run import processes
from common.run.processes import Processes, check_devices, same_everywhere


class MadeUp(Processes):
    """Two processes, of which the other one gives what ``other`` makes of this one's value."""

    def __init__(self, rank, other):
        self.rank, self.count, self.other = rank, 2, other

    def gather(self, value):
        values = [value, self.other(value)]
        return values if self.rank == 0 else values[::-1]


@pytest.fixture
def join(monkeypatch):
    """Joins a made-up group for the test's time."""
    return lambda rank, other: monkeypatch.setattr(processes, "_group", MadeUp(rank, other))


def test_one_alone_is_the_first():
    assert (processes.rank(), processes.count(), processes.is_first()) == (0, 1, True)
    assert processes.gather("x") == ["x"]


@pytest.mark.parametrize("rank", [0, 1])
def test_devices_of_one_kind_are_wanted(join, rank):
    join(rank, lambda has_gpu: has_gpu)
    check_devices(True)
    check_devices(False)
    join(rank, lambda has_gpu: not has_gpu)
    with pytest.raises(UserError, match=f"^process {1 - rank} of 2 has no GPU of its own, process {rank} has one"):
        check_devices(True)


def test_weights_that_differ_are_found(join):
    """The smallest difference there is, in one element, and a name."""
    arrays = {"b": np.ones(3, np.float32), "a": np.zeros((2, 2), np.float32)}
    given = []
    join(0, lambda digest: given.append(digest) or digest)
    assert same_everywhere(arrays) is arrays
    moved = {**arrays, "b": np.array([1, 1, np.nextafter(np.float32(1), np.float32(2))], np.float32)}
    join(1, lambda digest: given[0])
    same_everywhere(dict(reversed(arrays.items())))
    with pytest.raises(RuntimeError, match="the weights differ from process to process"):
        same_everywhere(moved)


ENDING = """
import sys
from common.run import processes

processes.LAUNCHER_SECONDS = 0.1

class Group(processes.Processes):
    rank, count = int(sys.argv[1]), 2
    def leave(self):
        print("left")
    def abort(self, status):
        print("aborts with", status, flush=True)

def main(argv):
    processes.join(Group())
    print("a line")
    print("a note", file=sys.stderr)
    {ending}

processes.run_main(main)
"""


@pytest.mark.parametrize("ending, status, said", [
    ("pass", 0, "left"), ("raise processes.UserError('x')", 2, "aborts with 2"), ("return 3", 3, "aborts with 3"),
    ("raise KeyError('x')", 1, "aborts with 1"), ("sys.exit(2)", 2, "aborts with 2")])
@pytest.mark.parametrize("rank", [0, 1])
def test_an_end_with_an_error_ends_all(ending, status, said, rank):
    variables = {"PMI_RANK": str(rank), "PMI_SIZE": "2", "MPI_LOCALRANKID": str(rank), "MPI_LOCALNRANKS": "2"}
    ended = subprocess.run([sys.executable, "-c", ENDING.format(ending=ending), str(rank)], cwd=ROOT, text=True,
                           capture_output=True, env={**os.environ, **variables}, timeout=60)
    assert ended.returncode == status, ended.stderr
    lines = ended.stdout.splitlines()
    # The second process is silent, but for why it ends.
    assert ("a line" in lines) == ("a note" in ended.stderr) == (rank == 0)
    assert said in lines or (said, rank) == ("left", 1)
    assert ("x" in ended.stderr) == ("'x'" in ending)
