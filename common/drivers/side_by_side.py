"""Runs commands side by side, several at once on each GPU, each with its output in a file."""

import os
import shlex
import subprocess
import time

from tqdm import tqdm

from common.paths import ROOT


def add_options(parser):
    """Adds the flags of a script that runs commands side by side."""
    parser.add_argument("--devices", default="", help="numbers of the GPUs, comma-separated; by default what is seen")
    parser.add_argument("--at_once", type=int, default=1, help="runs at the same time on each GPU")
    parser.add_argument("--minutes", type=float, default=600.0, help="what has not ended by then is stopped")


def start(words, log, device):
    """Starts a command with its output in a file, on one GPU where ``device`` names one."""
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, **({"CUDA_VISIBLE_DEVICES": device} if device else {})}
    with open(log, "a", encoding="utf-8") as file:
        file.write(f"$ {shlex.join(words)}\n")
        file.flush()
        return subprocess.Popen(words, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environment)


def run_all(jobs, devices, at_once, deadline):
    """Runs ``(label, words, log)`` jobs, ``at_once`` on each device; returns the labels that failed or were cut off."""
    waiting, running, failed = list(jobs), {}, []
    with tqdm(total=len(waiting), unit="job", dynamic_ncols=True, disable=None) as bar:
        while waiting or running:
            for process in [process for process in running if process.poll() is not None]:
                label, _ = running.pop(process)
                if process.returncode:
                    failed.append(label)
                bar.write(f"{label}: " + (f"failed with status {process.returncode}" if process.returncode else "done"))
                bar.update()
            load = {device: sum(used == device for _, used in running.values()) for device in devices}
            device = min(load, key=load.get)
            if time.monotonic() > deadline:
                for process, (label, _) in running.items():
                    process.terminate()
                    failed.append(label)
                return failed + [label for label, *_ in waiting]
            if waiting and load[device] < at_once:
                label, words, log = waiting.pop(0)
                running[start(words, log, device)] = label, device
            else:
                time.sleep(0.2)
    return failed
