"""The training run: epochs, log lines, validation and checkpoints around the framework's own steps."""

import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from tqdm import tqdm

from common.errors import UserError
from common.files import write_json
from common.run.batching import batches_per_epoch, read_rows, training_batches, validation_batches
from common.run.schedule import make_schedule


@dataclass(frozen=True)
class Steps:
    """What a framework does in a run.

    Attributes:
        train: ``(batch, learning_rate, is_update) -> loss``; adds up the gradients of a batch and, where ``is_update``,
            updates the weights. The loss may stay on the device: ``float(loss)`` fetches it.
        validate: ``(batch) -> loss`` without label smoothing and dropout.
        save: ``(path, step) -> None`` writes a checkpoint.
        peak_memory_bytes: peak memory so far.
        description: ``{framework, version, device, precision}``.
    """

    train: Callable
    validate: Callable
    save: Callable
    peak_memory_bytes: Callable
    description: dict


class Log:
    """Prints log lines in the original's format and writes the same records as JSON lines beside them.

    Args:
        folder: work directory; ``train_log.jsonl`` in it is begun anew.
        bar: tqdm bar that the lines must not disturb.
    """

    def __init__(self, folder, bar):
        os.makedirs(folder, exist_ok=True)
        self.file = open(os.path.join(folder, "train_log.jsonl"), "w", encoding="utf-8")
        self.bar = bar

    def write(self, line, record):
        self.bar.write(line, file=sys.stdout)
        sys.stdout.flush()
        self.file.write(json.dumps(record) + "\n")
        self.file.flush()

    def train(self, epoch, step, batches, learning_rate, step_ms, loss, average_loss):
        perplexity = math.exp(min(average_loss, 700))
        self.write(f"| epoch {epoch:3d} step {step:>8d} | {batches:>6d} batches | lr {learning_rate:.3g} | "
                   f"ms/batch {step_ms:5.2f} | loss {loss:5.2f} | avg loss {average_loss:5.2f} | ppl {perplexity:5.2f}",
                   {"kind": "train", "epoch": epoch, "step": step, "batches": batches, "lr": learning_rate,
                    "step_ms": step_ms, "loss": loss, "avg_loss": average_loss, "ppl": perplexity})

    def validation(self, count, step, seconds, loss, best_loss):
        perplexity, best = math.exp(min(loss, 700)), math.exp(min(best_loss, 700))
        self.write(f"| Eval {count:3d} at step {step:>8d} | time: {seconds:5.2f}s | valid loss {loss:5.2f} | "
                   f"valid ppl {perplexity:5.2f} | best ppl {best:5.2f}",
                   {"kind": "validation", "count": count, "step": step, "seconds": seconds, "loss": loss,
                    "ppl": perplexity, "best_ppl": best})


def planned_steps(arguments, row_count):
    """Returns the last training step: ``--max_step``, and no more than ``--max_epoch`` epochs where that is given."""
    by_epoch = math.inf
    if arguments.max_epoch is not None:
        by_epoch = arguments.max_epoch * batches_per_epoch(row_count, arguments.train_batch_size)
    return int(min(arguments.max_step or math.inf, by_epoch))


def run_training(arguments, steps):
    """Trains to the end and writes ``train_log.jsonl``, ``train_summary.json`` and the checkpoints.

    Args:
        arguments: of common.run.arguments.training_arguments.
        steps: Steps.

    Raises:
        UserError: the data cannot be used, or a loss is not finite.
    """
    train_rows, valid_rows = read_rows(arguments.train_data), read_rows(arguments.valid_data)
    last_step = planned_steps(arguments, len(train_rows))
    rate = make_schedule(arguments.scheduler, arguments.lr, arguments.warmup_step, arguments.max_step or last_step,
                         arguments.i_steps, arguments.i_lrs)
    per_epoch = batches_per_epoch(len(train_rows), arguments.train_batch_size)
    print(f"{len(train_rows)} training rows, {len(valid_rows)} validation rows; {per_epoch} batches of "
          f"{arguments.train_batch_size} an epoch, {last_step} steps; " + ", ".join(steps.description.values()))
    step, epoch, evaluations, started = 0, 0, 0, time.perf_counter()
    evaluation_seconds, best_loss, valid_loss, evaluated_at, saved_at = 0.0, math.inf, None, None, None
    interval_ms = []
    with tqdm(total=last_step, unit="step", dynamic_ncols=True, mininterval=1.0, disable=None) as bar:
        log = Log(arguments.work_dir, bar)

        def validate():
            nonlocal evaluation_seconds, evaluations, best_loss, valid_loss, evaluated_at
            begun = time.perf_counter()
            valid_loss = validation_loss(arguments, steps, valid_rows)
            evaluation_seconds += time.perf_counter() - begun
            best_loss, evaluated_at, evaluations = min(best_loss, valid_loss), step, evaluations + 1
            log.validation(evaluations, step, time.perf_counter() - begun, valid_loss, best_loss)

        def save():
            nonlocal saved_at
            path = os.path.join(arguments.work_dir, f"model.{step}.safetensors")
            steps.save(path, step)
            bar.write(f"saving checkpoint {path}", file=sys.stdout)
            saved_at = step

        while step < last_step:
            epoch += 1
            pending, interval_begun, interval_evaluation = [], time.perf_counter(), evaluation_seconds
            batches = training_batches(train_rows, arguments.train_batch_size, arguments.seq_len, arguments.obj,
                                       arguments.random_seed, epoch, not arguments.no_shuffle)
            for index, batch in enumerate(batches, 1):
                step += 1
                pending.append(steps.train(batch, rate(step - 1), step % arguments.grad_acc == 0))
                bar.update()
                if step % arguments.log_interval == 0:
                    losses = finite_losses(pending, step)
                    elapsed = (time.perf_counter() - interval_begun) - (evaluation_seconds - interval_evaluation)
                    interval_ms.append(1000 * elapsed / len(losses))
                    log.train(epoch, step, index, rate(step), interval_ms[-1], losses[-1], sum(losses) / len(losses))
                    pending, interval_begun, interval_evaluation = [], time.perf_counter(), evaluation_seconds
                if step % arguments.save_interval == 0:
                    save()
                if step % arguments.eval_interval == 0:
                    validate()
                if step == last_step:
                    break
            finite_losses(pending, step)
            if (epoch % arguments.eval_epoch == 0 or step == last_step) and evaluated_at != step:
                validate()
            if saved_at != step:
                save()
    seconds = time.perf_counter() - started
    write_json(os.path.join(arguments.work_dir, "train_summary.json"), {
        **steps.description, "steps": step, "epochs": epoch, "seconds": seconds,
        "training_seconds": seconds - evaluation_seconds,
        # The median leaves out the intervals in which kernels were compiled.
        "step_ms": statistics.median(interval_ms) if interval_ms else None,
        "peak_memory_bytes": steps.peak_memory_bytes(), "valid_loss": valid_loss, "best_valid_loss": best_loss,
        "checkpoint": os.path.join(arguments.work_dir, f"model.{step}.safetensors"),
        "arguments": {key: value for key, value in vars(arguments).items() if key not in ("card", "lora")}})


def validation_loss(arguments, steps, rows):
    """Returns the mean over batches of each batch's loss."""
    losses = []
    with tqdm(total=len(rows), desc="validation", unit="row", leave=False, dynamic_ncols=True, mininterval=1.0,
              disable=None) as bar:
        for batch in validation_batches(rows, arguments.valid_batch_size, arguments.seq_len, arguments.obj):
            losses.append(steps.validate(batch))
            bar.update(len(batch.offsets) - 1)
        return sum(map(float, losses)) / batches_per_epoch(len(rows), arguments.valid_batch_size)


def finite_losses(pending, step):
    """Fetches losses from the device.

    Raises:
        UserError: one of them is not a finite number.
    """
    losses = [float(loss) for loss in pending]
    for position, loss in enumerate(losses):
        if not math.isfinite(loss):
            raise UserError(f"the loss of step {step - len(losses) + 1 + position} is {loss}: training has diverged; "
                            "try a lower --lr, a longer --warmup_step or --clip 1")
    return losses
