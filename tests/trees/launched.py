"""Several processes of the tree under test, started as a user would start them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from common.paths import ROOT
from tests import FRAMEWORK

TREE = ROOT / f"NLG_{FRAMEWORK}"


def launcher(count):
    """Returns the words that start ``count`` processes of this Python, or skips the test where there is no launcher."""
    if FRAMEWORK == "pytorch":
        return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local_addr=127.0.0.1",
                f"--nproc_per_node={count}"]
    own = Path(sys.prefix, "bin", "mpirun")
    found = str(own) if own.exists() else shutil.which("mpirun")
    if not found:
        pytest.skip("this environment has no mpirun: pip install mpich mpi4py")
    return [found, "-np", str(count), sys.executable]


# Each process gets one thread, so that sums are added up in one order however many processes there are.
VARIABLES = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}


def started(words):
    """Returns a program that runs in the tree on the processor, with its output in a pipe."""
    return subprocess.Popen([*map(str, words)], cwd=TREE, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                            env={**os.environ, **VARIABLES, "PYTHONUNBUFFERED": "1"})


def run(words, status=0):
    """Runs a program in the tree on the processor; returns what it printed, once it ended as expected.

    Args:
        words: list of what can be a string; the first ones from launcher() or this Python's name.
        status: the exit status, None for any but 0.
    """
    ended = subprocess.run([*map(str, words)], cwd=TREE, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                           timeout=120, env={**os.environ, **VARIABLES})
    as_expected = ended.returncode != 0 if status is None else ended.returncode == status
    assert as_expected, f"{ended.returncode}\n{ended.stdout[-3000:]}\n{ended.stderr[-3000:]}"
    return ended
