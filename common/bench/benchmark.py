"""What every benchmark shares: the rows and weights it runs on, the clock around its steps, and statistics."""

import argparse
import itertools
import math
import os
import time
from collections.abc import Callable

import numpy as np

from common.bench.cases import LONG
from common.errors import UserError
from common.files import write_json_lines
from common.model.initial_weights import RANDOM
from common.run.batching import Row, epoch_order, make_batch
from common.run.schedule import make_schedule

BLOCK = 5  # steps between two synchronisations where single times are taken
FETCH_INTERVAL = 100  # steps between two fetches of the losses, as training does by default


def parse_before_words(parser: argparse.ArgumentParser, argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Returns the parsed options and the words behind ``--``, which are for another parser."""
    end = argv.index("--") if "--" in argv else len(argv)
    return parser.parse_args(argv[:end]), argv[end + 1:]


def kind_of_weights(init_checkpoint: str) -> str:
    """Returns a word on the weights that ``--init_checkpoint`` names, for tables."""
    return "random weights" if init_checkpoint == RANDOM else "pretrained weights"


def stretched(row, length):
    """Returns the Row filled up to ``length`` tokens by repeating it behind its context."""
    tokens = list(itertools.islice(itertools.cycle(row.context + row.completion), length))
    return Row(tokens[:len(row.context)], tokens[len(row.context):])


def rows_of_batches(rows: list[Row], arguments: argparse.Namespace, count: int,
                    is_long: bool = False) -> list[list[Row]]:
    """Returns the rows of the first ``count`` training batches, in training's order; a list of lists of Row.

    Args:
        rows: list of Row, the data set.
        arguments: of training_arguments.
        count: how many batches; beyond an epoch it goes on with the next.
        is_long: makes each row LONG tokens long.
    """
    orders = (epoch_order(len(rows), arguments.train_batch_size, arguments.random_seed, epoch, not arguments.no_shuffle)
              for epoch in itertools.count(1))
    chosen = itertools.islice(itertools.chain.from_iterable(orders), count)
    batches = [[rows[index] for index in indices] for indices in chosen]
    return [[stretched(row, LONG) for row in batch] for batch in batches] if is_long else batches


def write_first_contexts(rows: list[Row], count: int, path: str | os.PathLike) -> None:
    """Writes the rows of the first ``count`` distinct contexts as encoded data."""
    contexts = dict.fromkeys(tuple(row.context) for row in rows)
    kept = set(itertools.islice(contexts, count))
    write_json_lines(path, ({"context": row.context, "completion": row.completion} for row in rows
                            if tuple(row.context) in kept))


def summarise(values):
    """Returns ``{median, p10, p90, mean, count}`` of numbers; percentiles are interpolated linearly."""
    p10, median, p90 = np.percentile(values, [10, 50, 90])
    return {"median": float(median), "p10": float(p10), "p90": float(p90), "mean": float(np.mean(values)),
            "count": len(values)}


def finite(loss):
    """Fetches a loss from the device.

    Raises:
        UserError: it is not finite; then the times say nothing.
    """
    value = float(loss)
    if not math.isfinite(value):
        raise UserError(f"the loss is {value}: a benchmark of it would say nothing; try a lower --lr")
    return value


def measure_training(step: Callable, synchronise: Callable, batches: list, warm_up_steps: int | None = None) -> dict:
    """Times training steps: the first, a warm-up, blocks with a synchronisation behind each, and one whole run.

    The warm-up runs all the batches once, so that kernels and graphs of every length are there when the clock runs;
    what it takes longer than as many steps of the whole run is compilation. The whole run does as training does:
    batches are made in it and losses are fetched every FETCH_INTERVAL steps.

    Args:
        step: ``(rows) -> loss``, one step on a batch of rows; may return before the device has done it.
        synchronise: waits until the device has done everything.
        batches: list of lists of rows.
        warm_up_steps: how many steps warm up what compiles nothing; by default as many as there are batches.

    Returns:
        ``{ms_per_step: summarise() of the blocks, ms_per_step_whole_run, processor_ms_per_step (all cores together, in
        the whole run), first_step_seconds, warm_up_seconds, compile_seconds, steps, losses: [first, last], window:
        [start, end] of the timed part in seconds of time.time}``.
    """
    started = time.perf_counter()
    first_loss = finite(step(batches[0]))
    synchronise()
    first_step = time.perf_counter() - started
    warming = batches[:warm_up_steps]
    for rows in warming[1:]:
        step(rows)
    synchronise()
    warm_up = time.perf_counter() - started
    window = [time.time()]
    block_ms = []
    for start in range(0, len(batches), BLOCK):
        block = batches[start:start + BLOCK]
        begun = time.perf_counter()
        for rows in block:
            step(rows)
        synchronise()
        block_ms.append(1000 * (time.perf_counter() - begun) / len(block))
    begun, processor_begun, pending = time.perf_counter(), time.process_time(), []
    for count, rows in enumerate(batches, 1):
        pending.append(step(rows))
        if count % FETCH_INTERVAL == 0 or count == len(batches):
            losses = [finite(loss) for loss in pending]
            pending = []
    synchronise()
    whole_run, processor = time.perf_counter() - begun, time.process_time() - processor_begun
    window.append(time.time())
    return {"ms_per_step": summarise(block_ms), "ms_per_step_whole_run": 1000 * whole_run / len(batches),
            "processor_ms_per_step": 1000 * processor / len(batches),
            "first_step_seconds": first_step, "warm_up_seconds": warm_up,
            "compile_seconds": max(0.0, warm_up - whole_run * len(warming) / len(batches)), "steps": len(batches),
            "losses": [first_loss, losses[-1]], "window": window}


def token_counts(batches: list[list[Row]], seq_len: int, ms_per_step: float) -> dict[str, float]:
    """Returns how many tokens the batches hold: real ones a second, and real and padded ones a step."""
    lengths = [[min(len(row.context) + len(row.completion), seq_len) for row in rows] for rows in batches]
    real = sum(map(sum, lengths)) / len(batches)
    return {"tokens_per_second": 1000 * real / ms_per_step, "tokens_per_step": real,
            "padded_tokens_per_step": sum(len(row) * max(row) for row in lengths) / len(batches)}


def training_step(train: Callable, arguments: argparse.Namespace, steps: int) -> Callable:
    """Returns ``(rows) -> loss``: a program's training step on a batch made of rows, on the schedule of the flags.

    Args:
        train: ``(batch, learning_rate, is_update) -> loss``, of common.run.training.Steps.
        arguments: of training_arguments.
        steps: how many the schedule is made for.
    """
    rate = make_schedule(arguments.scheduler, arguments.lr, arguments.warmup_step, steps, arguments.i_steps,
                         arguments.i_lrs)
    numbers = itertools.count(1)

    def step(rows):
        number = next(numbers)
        return train(make_batch(rows, arguments.seq_len, arguments.obj), rate(number - 1),
                     number % arguments.grad_acc == 0)
    return step


def host_peak_bytes():
    """Returns the peak resident memory of this process in bytes, or None where the system does not tell."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            return next((int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:")), None)
    except OSError:
        return None


def process_facts() -> dict[str, int | None]:
    """Returns ``{pid, host_peak_bytes}`` for the driver, which watches this process's GPU memory from outside."""
    return {"pid": os.getpid(), "host_peak_bytes": host_peak_bytes()}
