"""Watches a GPU from outside the program that uses it: its memory, process by process, and how busy it is.

NVIDIA's own library is asked where nvidia-ml-py is installed, else the program nvidia-smi. Not every machine tells
which process holds what (containers hide process ids): then the growth of the device's used memory stands for it.
"""

import os
import shutil
import statistics
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Gpu:
    """One GPU and how to ask it.

    Attributes:
        facts: ``{name, driver, memory_bytes}``.
        read: ``() -> (used bytes of the device, utilisation in percent or None, {pid: bytes})``.
        asked: what is asked, for the record.
        seconds: time between two readings.
    """

    facts: dict
    read: Callable
    asked: str
    seconds: float


def chosen_index():
    """Returns the index of the first GPU that programs may use, or None where CUDA_VISIBLE_DEVICES hides all."""
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    if first.isdigit():
        return int(first)
    return 0 if first.startswith(("GPU-", "MIG-")) else None


def find_gpu() -> Gpu | None:
    """Returns the Gpu that programs will use, or None where there is none."""
    index = chosen_index()
    if index is None:
        return None
    return by_nvml(index) or by_nvidia_smi(index)


def by_nvml(index):
    """Returns the Gpu as NVIDIA's management library sees it, or None."""
    try:
        import pynvml

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        facts = {"name": as_text(pynvml.nvmlDeviceGetName(handle)),
                 "driver": as_text(pynvml.nvmlSystemGetDriverVersion()),
                 "memory_bytes": pynvml.nvmlDeviceGetMemoryInfo(handle).total}
    except Exception:  # no package, no driver, no such GPU: each raises an error of its own
        return None

    def ask(function, default):
        try:
            return function(handle)
        except pynvml.NVMLError:  # what a virtual machine does not offer
            return default

    def read():
        processes = ask(pynvml.nvmlDeviceGetComputeRunningProcesses, [])
        rates = ask(pynvml.nvmlDeviceGetUtilizationRates, None)
        return (pynvml.nvmlDeviceGetMemoryInfo(handle).used, rates.gpu if rates else None,
                {process.pid: process.usedGpuMemory for process in processes if process.usedGpuMemory})
    return Gpu(facts, read, "NVML", 0.05)


def as_text(value):
    """Some versions of the library return bytes."""
    return value.decode() if isinstance(value, bytes) else value


def by_nvidia_smi(index):
    """Returns the Gpu as the program nvidia-smi shows it, or None."""
    if not shutil.which("nvidia-smi"):
        return None

    def query(kind, fields):
        words = ["nvidia-smi", f"--id={index}", f"--query-{kind}={fields}", "--format=csv,noheader,nounits"]
        answer = subprocess.run(words, capture_output=True, text=True, timeout=20)
        return [[cell.strip() for cell in line.split(",")] for line in answer.stdout.splitlines()
                ] if answer.returncode == 0 else []

    def read():
        [[used, busy]] = query("gpu", "memory.used,utilization.gpu") or [["0", ""]]
        return (int(used) * 2**20, int(busy) if busy.isdigit() else None,
                {int(pid): int(memory) * 2**20 for pid, memory in query("compute-apps", "pid,used_memory")
                 if pid.isdigit() and memory.isdigit()})

    found = query("gpu", "name,driver_version,memory.total")
    if not found:
        return None
    name, driver, memory = found[0]
    return Gpu({"name": name, "driver": driver, "memory_bytes": int(memory) * 2**20}, read, "nvidia-smi", 0.1)


class Watch:
    """Reads a Gpu from a thread while its block runs; the first reading is made before the block begins.

    Args:
        gpu: Gpu, or None to watch nothing.
    """

    def __init__(self, gpu: Gpu | None):
        self.gpu, self.readings, self.stop = gpu, [], threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self):
        if self.gpu:
            self.readings.append((time.time(), *self.gpu.read()))
            self.thread.start()
        return self

    def __exit__(self, *exception):
        self.stop.set()
        if self.gpu:
            self.thread.join()

    def run(self):
        while not self.stop.wait(self.gpu.seconds):
            try:
                self.readings.append((time.time(), *self.gpu.read()))
            except Exception:  # one reading less; a benchmark must not fail for it
                continue

    def peak_memory(self, pid: int) -> tuple[int, str] | tuple[None, None]:
        """Returns ``(bytes, how it was measured)`` for a process, or ``(None, None)`` where nothing was watched."""
        if not self.readings:
            return None, None
        own = [processes[pid] for _, _, _, processes in self.readings if pid in processes]
        if own:
            return max(own), f"{self.gpu.asked}, the process's own"
        used = [used for _, used, _, _ in self.readings]
        return max(used) - used[0], f"{self.gpu.asked}, the device's used memory less what was used before"

    def utilisation(self, start: float, end: float) -> float | None:
        """Returns the mean utilisation in percent between two moments (seconds of time.time), or None."""
        busy = [percent for moment, _, percent, _ in self.readings if start <= moment <= end and percent is not None]
        return statistics.fmean(busy) if busy else None
