"""Runs both trees' programs as a user would, on the CPU."""

import os
import subprocess

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
