"""Runs both trees' programs as a user would, on the CPU, and what they leave."""

import os
import subprocess

import numpy as np

from common.paths import ROOT


def run(*words, folder=ROOT, status=0, **variables):
    """Runs a program with more environment variables; returns what it printed, once it ended with ``status``."""
    ended = subprocess.run([*map(str, words)], cwd=folder, env={**os.environ, "CUDA_VISIBLE_DEVICES": "", **variables},
                           stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=1200)
    assert ended.returncode == status, ended.stdout[-3000:] + ended.stderr[-3000:]
    return ended


def run_driver(task, work, *words, status=0):
    """Runs a task's driver, short where ``words`` say so, in a work directory."""
    return run("bash", f"scripts/run_{task}.sh", "--work_dir", work, "--device", "cpu", *words, status=status)


def check_trained_in_fp64(first, second):
    """Checks ``{name: float32 array}`` of two trainings in fp64: rounding to float32 may part a handful of elements.

    Keys' biases, which a softmax does not see, have rounding for a gradient and stay near their start, which is 0.
    """
    assert first.keys() == second.keys()
    one, other = (np.concatenate([arrays[name].reshape(-1) for name in first]) for arrays in (first, second))
    assert one.dtype == other.dtype == np.float32
    differing = np.flatnonzero((one != other) & (np.maximum(np.abs(one), np.abs(other)) > 1e-12))
    assert len(differing) <= 5
    assert (np.abs(one - other)[differing] <= np.spacing(np.abs(one[differing]))).all()
