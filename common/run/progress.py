"""Where a training stands, and the lines that it prints and keeps on its way."""

import json
import math
import os
import sys
import time
from dataclasses import dataclass, field

from common.model.lora_file import DIVERGED
from common.run import processes

LOG_FILE = "train_log.jsonl"


@dataclass
class Progress:
    """Where a run stands; a state file keeps all of it.

    Attributes:
        step: training steps done.
        epoch: the epoch of the last one, from 1 on.
        index: its place in the epoch, from 1 on.
        evaluations: validation passes done.
        valid_loss, best_valid_loss: of the last pass, and the lowest; None and infinite before the first.
        evaluation_seconds: time spent in them.
        interval_ms: milliseconds a step, of each interval between two log lines.
        best_score: the highest score of a validation pass, where one is computed; None before the first.
        is_best: whether that is the last pass's.
        best_checkpoint: the file of the weights with that score, where it alone is kept.
        losses: those since the last log line that were fetched from the device.
        interval_seconds, seconds: time spent since the last log line, and in all; see Clock.
        checkpoints: ``[step, path]`` of each checkpoint that was saved.
        resumed_at: the steps behind which the run was cut off and resumed.
        states, state_seconds: how many state files were written, and the time that they took.
    """

    step: int = 0
    epoch: int = 0
    index: int = 0
    evaluations: int = 0
    valid_loss: float | None = None
    best_valid_loss: float = math.inf
    evaluation_seconds: float = 0.0
    interval_ms: list[float] = field(default_factory=list)
    best_score: float | None = None
    is_best: bool = False
    best_checkpoint: str | None = None
    losses: list[float] = field(default_factory=list)
    interval_seconds: float = 0.0
    seconds: float = 0.0
    checkpoints: list[list] = field(default_factory=list)
    resumed_at: list[int] = field(default_factory=list)
    states: int = 0
    state_seconds: float = 0.0

    def take_validation(self, loss, seconds, score=None):
        """Takes in a validation pass that took so long."""
        self.valid_loss, self.best_valid_loss = loss, min(self.best_valid_loss, loss)
        self.evaluations += 1
        self.evaluation_seconds += seconds
        self.is_best = score is not None and (self.best_score is None or score > self.best_score)
        self.best_score = score if self.is_best else self.best_score

    def divergence(self, what, loss, step):
        """Returns the sentence on a loss that is not finite: what it is the loss of, and what is left to go on from."""
        good = [path for saved, path in self.checkpoints if saved < step and os.path.exists(path)]
        return f"{what} is {loss}: {DIVERGED}; " + (f"the last good checkpoint is {good[-1]}" if good else
                                                    "no checkpoint was saved before it")


class Clock:
    """Measures a run's time, which goes on from what a Progress says."""

    def __init__(self, progress):
        self.progress = progress
        now = time.perf_counter()
        self.begun, self.interval_begun = now - progress.seconds, now - progress.interval_seconds

    def read(self):
        """Writes the time down in the Progress."""
        now = time.perf_counter()
        self.progress.seconds, self.progress.interval_seconds = now - self.begun, now - self.interval_begun

    def begin_interval(self):
        """Begins the time since the last log line anew."""
        self.interval_begun = time.perf_counter()

    def leave_out(self, seconds):
        """Takes time that is no training step's out of the interval."""
        self.interval_begun += seconds


class Log:
    """Prints log lines in the original's format and writes the same records as JSON lines beside them.

    Args:
        folder: work directory.
        bar: tqdm bar that the lines must not disturb.
        events: Events of TensorBoard, which get the same records, or None.
        lines: printed before the run was cut off, and now once more.
        kept_bytes: how much of ``train_log.jsonl`` in the folder belongs to them; the rest is cut off.
    """

    def __init__(self, folder, bar, events=None, lines=(), kept_bytes=0):
        path = os.path.join(folder, LOG_FILE) if processes.is_first() else os.devnull
        self.file, self.bar, self.lines = open(path, "r+b" if kept_bytes else "wb"), bar, []
        self.events = events
        if processes.is_first():
            self.file.truncate(kept_bytes)
            self.file.seek(kept_bytes)
        for line in lines:
            self.say(line)

    def say(self, line):
        """Prints a line."""
        self.lines.append(line)
        self.bar.write(line, file=sys.stdout)
        sys.stdout.flush()

    def write(self, line, record):
        self.file.write(json.dumps(record, allow_nan=False).encode() + b"\n")
        self.file.flush()
        if self.events:
            self.events.add(record)
        self.say(line)

    def kept_bytes(self):
        """Returns the file's length, once all of it is on the disk."""
        os.fsync(self.file.fileno())
        return self.file.tell()

    def train(self, progress, learning_rate):
        """Writes down an interval: its last loss, and the mean over it."""
        losses = progress.losses
        average = sum(losses) / len(losses)
        perplexity, step_ms = math.exp(min(average, 700)), progress.interval_ms[-1]
        self.write(f"| epoch {progress.epoch:3d} step {progress.step:>8d} | {progress.index:>6d} batches | "
                   f"lr {learning_rate:.3g} | ms/batch {step_ms:5.2f} | loss {losses[-1]:5.2f} | "
                   f"avg loss {average:5.2f} | ppl {perplexity:5.2f}",
                   {"kind": "train", "epoch": progress.epoch, "step": progress.step, "batches": progress.index,
                    "lr": learning_rate, "step_ms": step_ms, "loss": losses[-1], "avg_loss": average,
                    "ppl": perplexity})

    def validation(self, progress, seconds):
        """Writes down a validation pass that took so long."""
        perplexity, best = (math.exp(min(loss, 700)) for loss in (progress.valid_loss, progress.best_valid_loss))
        self.write(f"| Eval {progress.evaluations:3d} at step {progress.step:>8d} | time: {seconds:5.2f}s | "
                   f"valid loss {progress.valid_loss:5.2f} | valid ppl {perplexity:5.2f} | best ppl {best:5.2f}",
                   {"kind": "validation", "count": progress.evaluations, "step": progress.step, "seconds": seconds,
                    "loss": progress.valid_loss, "ppl": perplexity, "best_ppl": best})
