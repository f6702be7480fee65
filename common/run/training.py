"""The training run: epochs, log lines, validation and checkpoints around the framework's own steps."""

import itertools
import json
import math
import os
import re
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from common.errors import UserError, note
from common.files import check_outputs, write_json
from common.model.checkpoint import load_weights, steps_before
from common.model.lora_arrays import initial_lora
from common.model.lora_file import DIVERGED
from common.model.weight_files import shorten
from common.run import processes
from common.run.batching import batches_per_epoch, read_usable_rows, training_batches, validation_batches
from common.run.schedule import make_schedule
from common.run.steps import Plan, TrainingTask

# What stands beside the flags in their namespace.
NOT_FLAGS = ("card", "lora", "ontology", "backbone_path", "vocab_path")
LOG_FILE, SUMMARY_FILE = "train_log.jsonl", "train_summary.json"


@dataclass
class Progress:
    """Where a run stands.

    Attributes:
        step: training steps done.
        epoch: the epoch of the last one, from 1 on.
        evaluations: validation passes done.
        valid_loss, best_valid_loss: of the last pass, and the lowest; None and infinite before the first.
        evaluation_seconds: time spent in them.
        interval_ms: milliseconds a step, of each interval between two log lines.
        best_score: the highest score of a validation pass, where one is computed; None before the first.
        is_best: whether that is the last pass's.
        best_checkpoint: the file of the weights with that score, where it alone is kept.
    """

    step: int = 0
    epoch: int = 0
    evaluations: int = 0
    valid_loss: float | None = None
    best_valid_loss: float = math.inf
    evaluation_seconds: float = 0.0
    interval_ms: list[float] = field(default_factory=list)
    best_score: float | None = None
    is_best: bool = False
    best_checkpoint: str | None = None

    def take_validation(self, loss, seconds, score=None):
        """Takes in a validation pass that took so long."""
        self.valid_loss, self.best_valid_loss = loss, min(self.best_valid_loss, loss)
        self.evaluations += 1
        self.evaluation_seconds += seconds
        self.is_best = score is not None and (self.best_score is None or score > self.best_score)
        self.best_score = score if self.is_best else self.best_score


class Log:
    """Prints log lines in the original's format and writes the same records as JSON lines beside them.

    Args:
        folder: work directory; ``train_log.jsonl`` in it is begun anew.
        bar: tqdm bar that the lines must not disturb.
    """

    def __init__(self, folder, bar):
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, LOG_FILE) if processes.is_first() else os.devnull
        self.file = open(path, "w", encoding="utf-8")
        self.bar = bar

    def write(self, line, record):
        self.bar.write(line, file=sys.stdout)
        sys.stdout.flush()
        self.file.write(json.dumps(record, allow_nan=False) + "\n")
        self.file.flush()

    def train(self, progress, batches, learning_rate, losses):
        """Writes down an interval: its last loss, and the mean over it."""
        average = sum(losses) / len(losses)
        perplexity, step_ms = math.exp(min(average, 700)), progress.interval_ms[-1]
        self.write(f"| epoch {progress.epoch:3d} step {progress.step:>8d} | {batches:>6d} batches | "
                   f"lr {learning_rate:.3g} | ms/batch {step_ms:5.2f} | loss {losses[-1]:5.2f} | "
                   f"avg loss {average:5.2f} | ppl {perplexity:5.2f}",
                   {"kind": "train", "epoch": progress.epoch, "step": progress.step, "batches": batches,
                    "lr": learning_rate, "step_ms": step_ms, "loss": losses[-1], "avg_loss": average,
                    "ppl": perplexity})

    def validation(self, progress, seconds):
        """Writes down a validation pass that took so long."""
        perplexity, best = (math.exp(min(loss, 700)) for loss in (progress.valid_loss, progress.best_valid_loss))
        self.write(f"| Eval {progress.evaluations:3d} at step {progress.step:>8d} | time: {seconds:5.2f}s | "
                   f"valid loss {progress.valid_loss:5.2f} | valid ppl {perplexity:5.2f} | best ppl {best:5.2f}",
                   {"kind": "validation", "count": progress.evaluations, "step": progress.step, "seconds": seconds,
                    "loss": progress.valid_loss, "ppl": perplexity, "best_ppl": best})


def first_weights(arguments):
    """Returns the weights that a training starts from: the backbone's and LoRA's, each ``{name: float32 array}``.

    Raises:
        UserError: the weights cannot be used.
    """
    backbone, lora, _ = load_weights(arguments.init_checkpoint, arguments.lora_checkpoint, arguments.card,
                                     arguments.lora)
    return backbone, lora or initial_lora(arguments.card, arguments.lora, arguments.random_seed)


def schedule_of(arguments, last_step):
    """Returns the schedule of a training whose last step is known; see make_schedule."""
    return make_schedule(arguments.scheduler, arguments.lr, arguments.warmup_step, arguments.max_step or last_step,
                         arguments.i_steps, arguments.i_lrs)


def batches_of(arguments, rows, steps_done=0):
    """Returns this process's batches of a training behind ``steps_done`` steps; see training_batches."""
    return training_batches(rows, whole_batch(arguments), arguments.seq_len, arguments.obj, arguments.random_seed,
                            not arguments.no_shuffle, steps_done, processes.rank(), processes.count())


def whole_batch(arguments):
    """Returns the rows of a batch, those of all processes together; ``--train_batch_size`` is that of each."""
    return processes.count() * arguments.train_batch_size


def planned_steps(arguments, row_count):
    """Returns the last training step: ``--max_step``, and no more than ``--max_epoch`` epochs where that is given."""
    by_epoch = math.inf
    if arguments.max_epoch is not None:
        by_epoch = arguments.max_epoch * batches_per_epoch(row_count, whole_batch(arguments))
    return int(min(arguments.max_step or math.inf, by_epoch))


def check_work_dir(arguments, inputs):
    """Checks that a run can write into its work directory, and that no other run's files are there.

    Args:
        inputs: files that the run reads; None for one that is not given.

    Raises:
        UserError: it cannot, or they are and ``--overwrite`` is not given.
    """
    folder = arguments.work_dir
    check_outputs([os.path.join(folder, name) for name in (LOG_FILE, SUMMARY_FILE)], inputs)
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    held = [name for name in names if re.fullmatch(r"model\.\d+\.safetensors", name)
            or name in (LOG_FILE, SUMMARY_FILE) and os.path.getsize(os.path.join(folder, name)) > 0]
    if held and not arguments.overwrite:
        raise UserError(f"{folder}: holds another training's {shorten(held)}; give a --work_dir of its own, or "
                        "--overwrite to write over its files")


def say_useless_steps(arguments, last_step):
    """Says how many steps at the end of a run update nothing.

    Raises:
        UserError: no step would.
    """
    if arguments.grad_acc > last_step:
        raise UserError(f"--grad_acc {arguments.grad_acc}: more than the {last_step} steps of the run, so that the "
                        "weights would never be updated")
    if last_step % arguments.grad_acc:
        note(f"the gradients of the last {last_step % arguments.grad_acc} of {last_step} steps update nothing: "
             f"--grad_acc is {arguments.grad_acc}")


def plan_of(arguments):
    """Returns the Plan of a run, after whatever can be found wrong without a model.

    Raises:
        UserError: the work directory or the data cannot be used, or the weights would never be updated.
    """
    if processes.is_first():
        check_work_dir(arguments, [arguments.train_data, arguments.valid_data, arguments.init_checkpoint,
                                   arguments.lora_checkpoint])
    before = steps_before(arguments.init_checkpoint, arguments.lora_checkpoint)
    train_rows = read_usable_rows(arguments.train_data, arguments.seq_len, arguments.obj)
    valid_rows = read_usable_rows(arguments.valid_data, arguments.seq_len)
    last_step = planned_steps(arguments, len(train_rows))
    say_useless_steps(arguments, last_step)
    return Plan(train_rows, valid_rows, batches_per_epoch(len(train_rows), whole_batch(arguments)), last_step, before,
                f"{len(train_rows)} training rows, {len(valid_rows)} validation rows")


def run_training(arguments, prepare, task=None):
    """Trains to the end and writes ``train_log.jsonl``, ``train_summary.json`` and the checkpoints.

    Args:
        arguments: of common.run.arguments.training_arguments, or what the task takes in their place.
        prepare: ``(arguments) -> Steps``; it is called when nothing else is left to be found wrong.
        task: TrainingTask; by default LANGUAGE_MODELING.

    Raises:
        UserError: the data or the weights cannot be used, or a loss or a weight is not finite.
    """
    task = task or LANGUAGE_MODELING
    plan = task.plan(arguments)
    steps = prepare(arguments)
    if processes.is_first():  # it is that of the run whose files are replaced
        Path(arguments.work_dir, SUMMARY_FILE).unlink(missing_ok=True)
    rate = schedule_of(arguments, plan.last_step)
    print(f"{plan.description}; {plan.per_epoch} batches of {whole_batch(arguments)} an epoch, {plan.last_step} steps; "
          + ", ".join(steps.description.values()) + f"; {processes.count()} processes" * (processes.count() > 1))
    progress, started = Progress(), time.perf_counter()
    batches = task.batches(arguments, plan.train_rows, progress.step)
    with tqdm(total=plan.last_step, unit="step", dynamic_ncols=True, mininterval=1.0, disable=None) as bar:
        log = task.log(arguments.work_dir, bar, plan) if task.log else Log(arguments.work_dir, bar)
        losses, interval_begun = [], started
        while progress.step < plan.last_step:
            progress.epoch, index, batch = next(batches)
            progress.step += 1
            step, is_last = progress.step, progress.step == plan.last_step
            losses.append(steps.train(batch, rate(step - 1), step % arguments.grad_acc == 0))
            bar.update()
            ends_epoch = index == plan.per_epoch or is_last
            if step % arguments.log_interval == 0:
                losses = finite_losses(losses, step)
                progress.interval_ms.append(1000 * (time.perf_counter() - interval_begun) / len(losses))
                log.train(progress, index, rate(step), losses)
                losses, interval_begun = [], time.perf_counter()
            validates = step % arguments.eval_interval == 0 or is_last or (
                ends_epoch and progress.epoch % arguments.eval_epoch == 0)
            path = checkpoint_path(arguments, plan.steps_before + step)
            if step % arguments.save_interval == 0 or ends_epoch or (validates and task.keep):
                losses = finite_losses(losses, step)
                steps.save(path, plan.steps_before + step)
                bar.write(f"saving checkpoint {path}", file=sys.stdout)
            if validates:
                interval_begun += task.validate(arguments, steps, plan.valid_rows, progress, log)
            if validates and task.keep:
                task.keep(arguments, progress, path)
            if ends_epoch:
                losses, interval_begun = [], time.perf_counter()
    if processes.is_first():
        write_summary(arguments, steps, progress, plan.steps_before, time.perf_counter() - started,
                      task.summary(arguments, progress))


def checkpoint_path(arguments, step):
    """Returns the file in which the LoRA weights are saved that have so many steps behind them."""
    return os.path.join(arguments.work_dir, f"model.{step}.safetensors")


def validate(arguments, steps, rows, progress, log):
    """Runs a validation pass, takes it into the Progress and the Log, and returns the seconds that it took.

    Raises:
        UserError: the loss is not finite.
    """
    begun = time.perf_counter()
    loss = validation_loss(arguments, steps, rows)
    if not math.isfinite(loss):
        raise UserError(f"the validation loss after step {progress.step} is {loss}: {DIVERGED}")
    seconds = time.perf_counter() - begun
    progress.take_validation(loss, seconds)
    log.validation(progress, seconds)
    return seconds


def write_summary(arguments, steps, progress, steps_before, seconds, more):
    """Writes ``train_summary.json`` of a run that took so long; ``more`` is what its TrainingTask has to say."""
    write_json(os.path.join(arguments.work_dir, SUMMARY_FILE), {
        **steps.description, "processes": processes.count(), "steps": progress.step, "epochs": progress.epoch,
        "seconds": seconds, "training_seconds": seconds - progress.evaluation_seconds,
        # The median leaves out the intervals in which kernels were compiled.
        "step_ms": statistics.median(progress.interval_ms) if progress.interval_ms else None,
        "peak_memory_bytes": steps.peak_memory_bytes(), "valid_loss": progress.valid_loss,
        "best_valid_loss": progress.best_valid_loss, "steps_before": steps_before,
        "checkpoint": checkpoint_path(arguments, steps_before + progress.step),
        **more,
        "arguments": {key: value for key, value in vars(arguments).items() if key not in NOT_FLAGS}})


def validation_loss(arguments, steps, rows):
    """Returns the mean over batches of each batch's loss; the processes share the batches."""
    losses = []
    count = batches_per_epoch(len(rows), arguments.valid_batch_size)
    with tqdm(total=count * arguments.valid_batch_size, desc="validation", unit="row", leave=False, dynamic_ncols=True,
              mininterval=1.0, disable=None) as bar:
        for batch in validation_batches(rows, arguments.valid_batch_size, arguments.seq_len, arguments.random_seed,
                                        part=processes.rank(), parts=processes.count()):
            losses.append(steps.validate(batch))
            bar.update(min(processes.count() * (len(batch.offsets) - 1), bar.total - bar.n))
        parts = processes.gather([float(loss) for loss in losses])
    # In the order of the batches, as one process adds them up.
    return sum(loss for together in itertools.zip_longest(*parts, fillvalue=0.0) for loss in together) / count


def finite_losses(pending, step):
    """Fetches losses from the device; those of all processes, each the part of its rows, added up.

    Raises:
        UserError: one of them is not a finite number.
    """
    losses = [sum(parts) for parts in zip(*processes.gather([float(loss) for loss in pending]))]
    for position, loss in enumerate(losses):
        if not math.isfinite(loss):
            raise UserError(f"the loss of step {step - len(losses) + 1 + position} is {loss}: {DIVERGED}")
    return losses


LANGUAGE_MODELING = TrainingTask(plan_of, batches_of, validate)
