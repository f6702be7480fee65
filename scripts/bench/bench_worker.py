"""One benchmark of one framework in a process of its own; scripts/bench/bench.py starts it and watches its memory.

    python scripts/bench/bench_worker.py --framework jittor --program train --steps 200 --output result.json -- \\
        --train_data data/e2e/sampled/train.jsonl --valid_data data/e2e/valid.jsonl --model_card gpt2.md \\
        --init_checkpoint random --max_step 200

Behind ``--`` stand the flags of the program that is timed: gpt2_ft.py for ``train`` and ``eval``, gpt2_beam.py for
``beam``. What is timed are those programs' own steps: what their ``prepare`` returns.
"""

import argparse
import contextlib
import importlib
import os
import re
import sys
import tempfile
import textwrap
import time
from dataclasses import replace
from types import SimpleNamespace

STARTED = time.perf_counter()

from common.bench.benchmark import (  # noqa: E402
    kind_of_weights,
    measure_training,
    parse_before_words,
    process_facts,
    rows_of_batches,
    token_counts,
    training_step,
    write_first_contexts,
)
from common.errors import run_main  # noqa: E402
from common.files import atomic_write, write_json  # noqa: E402
from common.frameworks import FRAMEWORKS  # noqa: E402
from common.paths import ROOT  # noqa: E402
from common.run.arguments import beam_arguments, training_arguments  # noqa: E402
from common.run.batching import read_rows  # noqa: E402
from common.run.searching import search_rows  # noqa: E402
from common.run.training import validation_loss  # noqa: E402

VALIDATION_WARM_UP = 100  # batches
PROFILED_STEPS = 5
PROFILED_LENGTH = 8  # tokens of beam search


class Tree:
    """The modules of one framework's source tree, and what differs between the frameworks around them."""

    def __init__(self, framework):
        sys.path.insert(0, str(ROOT / f"NLG_{framework}" / "src"))
        self.framework = framework
        self.gpt2_ft = importlib.import_module("gpt2_ft")
        self.gpt2_beam = importlib.import_module("gpt2_beam")
        self.device = importlib.import_module("device")
        self.library = importlib.import_module({"pytorch": "torch", "jittor": "jittor"}[framework])
        self.seconds = time.perf_counter() - STARTED

    def profile(self, work, path):
        """Writes as text where the time of ``work()`` goes, kernel by kernel."""
        text = self.jittor_profile(work) if self.framework == "jittor" else self.torch_profile(work)
        with atomic_write(path) as file:
            file.write(text)

    def torch_profile(self, work):
        from torch.profiler import ProfilerActivity, profile

        has_cuda = self.library.cuda.is_initialized()
        with profile(activities=[ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * has_cuda) as profiler:
            work()
            self.device.synchronise()
        orders = (["self_cuda_time_total"] if has_cuda else []) + ["self_cpu_time_total"]
        return "\n".join(f"By {order}\n" + profiler.key_averages().table(sort_by=order, row_limit=40,
                                                                         max_name_column_width=80)
                         for order in orders)

    def jittor_profile(self, work):
        self.device.synchronise()
        # Jittor prints its own report from C++, hundreds of lines wide and long; the rows are the same
        with redirected(1, os.devnull), redirected(2, os.devnull), self.library.profile_scope() as report:
            work()
            self.device.synchronise()
        return kernel_table(report)


def kernel_table(report):
    """Returns Jittor's report, a list of rows with names first and times in ns, as text: the 40 longest kernels.

    A fused kernel that another one replaced, such as a product by oneDNN or cuBLAS, has a total of 0 and is left out.
    """
    names, *rows = report
    column = {name: names.index(name) for name in ("Name", "Count", "TotalTime", "AvgTime")}
    rows = sorted(([float(row[column["TotalTime"]]), int(row[column["Count"]]), row[column["Name"]]] for row in rows),
                  reverse=True)
    total = sum(row[0] for row in rows) or 1.0
    lines = [f"{total / 1e6:.2f} ms in all kernels", "", "      ms  share   count   us each  kernel"]
    for nanoseconds, count, name in [row for row in rows if row[0] > 0][:40]:
        lines.append(f"{nanoseconds / 1e6:8.2f} {nanoseconds / total:6.1%} {count:7d} "
                     f"{nanoseconds / count / 1e3:9.1f}  " + readable_kernel(name))
    return "\n".join(lines) + "\n"


def readable_kernel(key):
    """Shortens the key of a Jittor kernel: to its operations, ``unary exp, unary cast, reduce add`` for a fused one, or
    to the functions that our own source calls.
    """
    source = re.search("«CODE:(.*?)«JIT:", key, re.DOTALL)
    if source:
        called = re.findall(r"(\w+)\((?:in|out)\d", source[1])
        return textwrap.shorten(", ".join(dict.fromkeys(called)), 140)
    operations = []
    for part in re.split("«opkey[0-9a-f]+:", "«" + key if key.startswith("opkey") else key):
        name = part.split("«")[0]
        if name:
            operations.append(" ".join([name, *re.findall("«(?:OP:|Trans_[ab]:)([a-zA-Z_]+)", part)]))
    return textwrap.shorten(", ".join(operations), 140)


@contextlib.contextmanager
def redirected(descriptor, path):
    """Sends what is written to a file descriptor, from C++ too, to the file ``path`` for the block."""
    sys.stdout.flush()
    kept = os.dup(descriptor)
    with open(path, "wb") as file:
        os.dup2(file.fileno(), descriptor)
    try:
        yield
    finally:
        os.dup2(kept, descriptor)
        os.close(kept)


def prepared_training(tree, words):
    """Prepares a training run as gpt2_ft.py does; returns its arguments, its Steps and the seconds that it took."""
    begun = time.perf_counter()
    arguments = training_arguments(words, __doc__)
    steps = tree.gpt2_ft.prepare(arguments)
    tree.device.synchronise()
    return arguments, steps, time.perf_counter() - begun


def train(tree, options, words):
    """Times training steps; see common.bench.benchmark.measure_training."""
    arguments, steps, build_seconds = prepared_training(tree, words)
    batches = rows_of_batches(read_rows(arguments.train_data), arguments, options.steps, options.rows_512)
    step = training_step(steps.train, arguments, 10 * options.steps)
    found = measure_training(step, tree.device.synchronise, batches)
    if options.profile:
        tree.profile(lambda: [step(rows) for rows in batches[:PROFILED_STEPS]], options.profile)
    return {**found, **token_counts(batches, arguments.seq_len, found["ms_per_step_whole_run"]),
            "build_seconds": build_seconds, "batch_size": arguments.train_batch_size,
            "weights": kind_of_weights(arguments.init_checkpoint)}


def evaluate(tree, options, words):
    """Times one validation pass over all rows, after a part of it as a warm-up."""
    arguments, steps, build_seconds = prepared_training(tree, words)
    rows = read_rows(arguments.valid_data)[:options.valid_rows]
    begun = time.perf_counter()
    validation_loss(arguments, steps, rows[:VALIDATION_WARM_UP * arguments.valid_batch_size])
    tree.device.synchronise()
    warm_up = time.perf_counter() - begun
    window, begun = [time.time()], time.perf_counter()
    loss = validation_loss(arguments, steps, rows)
    tree.device.synchronise()
    seconds = time.perf_counter() - begun
    window.append(time.time())
    if options.profile:
        profiled = rows[:PROFILED_STEPS * arguments.valid_batch_size]
        tree.profile(lambda: validation_loss(arguments, steps, profiled), options.profile)
    return {"seconds": seconds, "rows": len(rows), "rows_per_second": len(rows) / seconds, "loss": loss,
            "warm_up_seconds": warm_up, "build_seconds": build_seconds, "batch_size": arguments.valid_batch_size,
            "window": window, "weights": kind_of_weights(arguments.init_checkpoint)}


def beam(tree, options, words):
    """Times beam search over the distinct contexts of a data set, after one batch of them as a warm-up."""
    begun = time.perf_counter()
    arguments = beam_arguments(words, __doc__)
    model = tree.gpt2_beam.prepare(arguments)
    tree.device.synchronise()
    build_seconds = time.perf_counter() - begun
    calls = [0]

    def advance(*inputs):
        calls[0] += 1
        return model.advance(*inputs)

    counting = replace(model, advance=advance)
    rows = read_rows(arguments.data)
    with tempfile.TemporaryDirectory() as folder:
        def search(contexts, **changes):
            path = os.path.join(folder, f"{contexts}.jsonl")
            write_first_contexts(rows, contexts, path)
            return search_rows(SimpleNamespace(**{**vars(arguments), **changes}), counting, read_rows(path),
                               os.path.join(folder, "predict.jsonl"))

        begun = time.perf_counter()
        search(arguments.batch_size)
        tree.device.synchronise()
        warm_up = time.perf_counter() - begun
        calls[0] = 0
        window, begun = [time.time()], time.perf_counter()
        counts = search(options.contexts or len(rows))
        tree.device.synchronise()
        seconds = time.perf_counter() - begun
        window.append(time.time())
        steps = calls[0]
        if options.profile:
            tree.profile(lambda: search(arguments.batch_size, eval_len=PROFILED_LENGTH), options.profile)
    return {**counts, "seconds": seconds, "contexts_per_second": counts["contexts"] / seconds, "decoding_steps": steps,
            "beam": arguments.beam, "eval_len": arguments.eval_len, "batch_size": arguments.batch_size,
            "warm_up_seconds": warm_up, "build_seconds": build_seconds, "window": window,
            "weights": kind_of_weights(arguments.init_checkpoint)}


PROGRAMS = {"train": train, "eval": evaluate, "beam": beam}


def parse(argv):
    """Returns the worker's options and the flags of the program that it times."""
    parser = argparse.ArgumentParser(prog="bench_worker.py", description=__doc__.split("\n")[0], allow_abbrev=False,
                                     epilog="Behind -- follow the flags of the program that is timed.")
    parser.add_argument("--framework", required=True, choices=FRAMEWORKS)
    parser.add_argument("--program", required=True, choices=list(PROGRAMS))
    parser.add_argument("--steps", type=int, default=200, help="training steps to time")
    parser.add_argument("--rows_512", action="store_true", help="make every training row 512 tokens long")
    parser.add_argument("--valid_rows", type=int, help="validation over so many rows; by default over all")
    parser.add_argument("--contexts", type=int, help="beam search over so many contexts; by default over all")
    parser.add_argument("--profile", help="file for a profile of a few steps more")
    parser.add_argument("--output", required=True, help="JSON file for the result")
    return parse_before_words(parser, argv)


def main(argv):
    """Measures and writes the result."""
    options, words = parse(argv)
    tree = Tree(options.framework)
    result = PROGRAMS[options.program](tree, options, words)
    write_json(options.output, {**result, "import_seconds": tree.seconds, "environment": tree.device.describe(),
                                "framework_peak_bytes": tree.device.peak_memory_bytes(), **process_facts()})


if __name__ == "__main__":
    run_main(main)
