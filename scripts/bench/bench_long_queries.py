"""How much memory bert.base takes to train on 16 queries of 512 tokens, in both trees, with LoRA and with all weights.

    python scripts/bench/bench_long_queries.py --output log/eae/long_queries.json [--device auto|cpu|cuda]

Random weights and made-up sentences, longer than a query: each is cut to 512 tokens. bert_eae_ft.py trains a few steps
in a process of its own for each case, in fp32, with dropout. Memory is the GPU's, watched from outside, or on a
processor the process's peak; the exit status is 1 where a case needs more than --most GB.
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

from common.bench.gpu_monitor import Watch, find_gpu
from common.drivers.tasks import as_words
from common.errors import UserError, run_main
from common.files import atomic_write, read_json, write_json
from common.frameworks import FRAMEWORKS, NAMES, interpreter
from common.model.bert_cards import BERT_CARDS
from common.model.bert_files import default_checkpoint, vocabulary_of
from common.paths import ROOT

WORDS, EVENTS = 600, 64
SAME_VOCABULARY = BERT_CARDS["bert.minilm"]  # as bert.base, and it comes with the environment
CASES = {16: "LoRA r 16", 0: "all weights"}


def write_events(folder):
    """Writes training and validation events, each a sentence of WORDS words with one role, and the role's question."""
    def event(number):
        words = ["the", "small", "house", "near", "water"] * (WORDS // 5)
        return json.dumps({"sentence": words, "s_start": 0, "ner": [], "relation": [], "id": f"event_{number}",
                           "event": [[[3, 3, "Break"], [number % 9 + 4, number % 9 + 5, "Thing"]]]}) + "\n"

    for name, count in (("train.json", EVENTS), ("dev.json", 1)):
        with atomic_write(folder / name) as file:
            file.writelines(map(event, range(count)))
    with atomic_write(folder / "questions.csv") as file:
        file.write("Thing,Which thing is it about?\n")


def measure(framework, lora_dim, options, gpu):
    """Trains in one framework; returns its record.

    Raises:
        UserError: the training failed.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_events(folder)
        flags = {"train_data": folder / "train.json", "valid_data": folder / "dev.json",
                 "questions": folder / "questions.csv", "model_card": "bert.base", "init_checkpoint": "random",
                 "vocab": vocabulary_of(SAME_VOCABULARY, default_checkpoint(SAME_VOCABULARY)),
                 "lora_dim": lora_dim, "train_batch_size": options.batch, "max_step": options.steps, "lr": 1e-5,
                 "log_interval": 2, "device": options.device, "work_dir": folder / "work"}
        words = [interpreter(framework), ROOT / f"NLG_{framework}/src/bert_eae_ft.py", *as_words(flags)]
        with Watch(gpu) as watch:
            process = subprocess.Popen([*map(str, words)], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                       stderr=subprocess.STDOUT, text=True, errors="replace")
            output, _ = process.communicate()
        if process.returncode:
            raise UserError(f"{framework}: ended with status {process.returncode}; its last words: {output[-2000:]}")
        summary = read_json(folder / "work" / "train_summary.json",
                            {"step_ms": float, "peak_memory_bytes": int, "version": str, "device": str})
        memory, how = watch.peak_memory(process.pid) if gpu else (None, None)
        return {"framework": framework, "trained": CASES[lora_dim], "batch": options.batch, "tokens": 512,
                "steps": options.steps, **{key: summary[key] for key in ("step_ms", "version", "device")},
                "peak_memory_bytes": memory or summary["peak_memory_bytes"],
                "memory_measured_by": how or "the process's peak"}


def main(argv):
    """Measures every case and writes the result; returns 1 where one needs too much."""
    parser = argparse.ArgumentParser(prog="bench_long_queries.py", description=__doc__.split("\n")[0])
    parser.add_argument("--output", required=True, help="JSON file for the result")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--batch", type=int, default=16, help="queries")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--most", type=float, default=24, help="GB that a case may take")
    options = parser.parse_args(argv)
    if not (options.batch > 0 and options.steps > 1):
        raise UserError(f"--batch {options.batch} --steps {options.steps}: expected at least 1 and 2")
    gpu = find_gpu() if options.device != "cpu" else None
    records = [measure(framework, lora_dim, options, gpu) for framework in FRAMEWORKS for lora_dim in CASES]
    write_json(options.output, {"model": "bert.base", "gpu": gpu.facts if gpu else None, "cases": records})
    print("| | trained | ms a step | peak memory, GB |\n| --- | --- | ---: | ---: |")
    for record in records:
        print(f"| {NAMES[record['framework']]} {record['version']} | {record['trained']} | {record['step_ms']:.0f} | "
              f"{record['peak_memory_bytes'] / 1e9:.1f} |")
    return int(any(record["peak_memory_bytes"] > options.most * 1e9 for record in records))


if __name__ == "__main__":
    run_main(main)
