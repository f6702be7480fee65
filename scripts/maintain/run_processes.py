"""Trains GPT-2 in one process and in several, and writes what that gains and by how much the losses differ.

    python scripts/maintain/run_processes.py [--processes 2] [--framework pytorch|jittor|both] [--output log/processes]

Three trainings of each framework, from random weights and with dropout: one process at the batch of one process, one
process at the whole batch, and all processes, each with its share of that. The last two compute the same: their losses
are compared. All use fp32 and take a GPU for each process where there are GPUs.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path

from common.drivers.commands import cleaned
from common.errors import UserError, run_main
from common.files import atomic_write, read_json, read_json_lines, write_json
from common.frameworks import BOTH, FRAMEWORKS, NAMES, chosen_frameworks, interpreter, variables_for
from common.model.initial_weights import RANDOM
from common.model.model_cards import MODEL_CARDS
from common.paths import ROOT

TRAINING = ["--lr", "0.0002", "--correct_bias", "--adam_beta2", "0.999", "--label_smooth", "0.1", "--lora_dropout",
            "0.1", "--warmup_step", "20", "--log_interval", "10", "--save_interval", "1000000"]
KEPT = ("train_log.jsonl", "train_summary.json")


def launcher(framework: str, count: int) -> list:
    """Returns the words that start a program of a framework in so many processes.

    Raises:
        UserError: there is no mpirun.
    """
    python = interpreter(framework)
    if count == 1:
        return [python]
    if framework == "pytorch":
        return [python, "-m", "torch.distributed.run", "--standalone", "--local_addr=127.0.0.1",
                f"--nproc_per_node={count}"]
    own = Path(python).parent / "mpirun"
    mpirun = own if own.exists() else shutil.which("mpirun")
    if not mpirun:
        raise UserError("no mpirun beside Jittor's Python or on the PATH: bash scripts/setup.sh jittor, or pip install "
                        "mpich mpi4py")
    return [mpirun, "-np", str(count), python]


def train(framework: str, count: int, batch: int, options: argparse.Namespace, folder: Path) -> dict:
    """Trains ``count`` processes at ``batch`` rows each.

    Args:
        folder: gets the run's log and summary.

    Returns:
        What is compared: ``step_ms`` once shapes have been seen before, ``avg_losses`` of the intervals, and the rest.

    Raises:
        UserError: the training has failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        data = [word for split in ("train", "valid")
                for word in (f"--{split}_data", str(Path(options.data).resolve() / f"{split}.jsonl"))]
        words = [*launcher(framework, count), "src/gpt2_ft.py", *data, "--model_card", options.model_card,
                 "--init_checkpoint", RANDOM, "--train_batch_size", batch, "--max_step", options.steps, *TRAINING,
                 "--device", options.device, "--work_dir", work]
        print(" ".join(map(str, words)), flush=True)
        tree = ROOT / f"NLG_{framework}"
        ended = subprocess.run([str(word) for word in words], cwd=tree, text=True, errors="replace",
                               env=variables_for(interpreter(framework), tree), stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        with atomic_write(folder / "train.log") as file:
            file.write(cleaned(ended.stdout))
        if ended.returncode != 0:
            raise UserError(f"a training ended with exit status {ended.returncode}; {folder}/train.log says why:\n"
                            f"{ended.stdout[-2000:]}")
        for name in KEPT:
            with atomic_write(folder / name) as file:
                file.write(cleaned(Path(work, name).read_text(encoding="utf-8")))
    return measured(folder)


def measured(folder: Path) -> dict:
    """Returns what is compared of a training, from its log and its summary.

    The first half of the intervals is left out of the time, for in it kernels are compiled and graphs recorded.
    """
    records = [record for _, record in read_json_lines(folder / "train_log.jsonl")]
    summary = read_json(folder / "train_summary.json", dict)
    intervals = [record for record in records if record["kind"] == "train"]
    validation = next(record for record in records[::-1] if record["kind"] == "validation")
    return {**{name: summary[name] for name in ("device", "version", "precision", "processes", "peak_memory_bytes")},
            "batch_of_each": summary["arguments"]["train_batch_size"],
            "step_ms": statistics.median(record["step_ms"] for record in intervals[len(intervals) // 2:]),
            "avg_losses": [record["avg_loss"] for record in intervals],
            "validation_loss": validation["loss"], "validation_seconds": validation["seconds"]}


def gap(losses: list[float], expected: list[float]) -> float:
    """Returns the largest relative difference."""
    return max(abs(one - other) / other for one, other in zip(losses, expected, strict=True))


def compared(small: dict, whole: dict, shared: dict) -> dict:
    """Returns what several processes gain over one, and how far their losses are from its.

    Args:
        small, whole: of one process, at the batch of one and at that of all.
        shared: of all processes.
    """
    return {"one_small": small, "one_whole": whole, "all": shared,
            "speed_up": whole["step_ms"] / shared["step_ms"], "efficiency": small["step_ms"] / shared["step_ms"],
            "loss_gap": gap(shared["avg_losses"], whole["avg_losses"]),
            "validation_loss_gap": gap([shared["validation_loss"]], [whole["validation_loss"]])}


def with_others(results: dict, path: Path) -> dict:
    """Returns results with what an earlier run has written to a file of the other framework, at the same settings."""
    if path.is_file():
        earlier = read_json(path, dict)
        if all(earlier[name] == results[name] for name in ("steps", "model_card", "processes")):
            results["frameworks"] = earlier["frameworks"]
    return results


def table(results: dict) -> str:
    """Returns the Markdown page on what was measured."""
    devices = dict.fromkeys(found["all"]["device"] for found in results["frameworks"].values())
    lines = [f"# {results['model_card']} in one process and in {results['processes']}", "", "```bash",
             results["command"], "```", "", f"On {' and '.join(devices)}; fp32, dropout 0.1, "
             f"{results['steps']} steps. A step's time is the median over the second half of the run.", "",
             "| framework | processes × batch | ms a step | rows a second | memory of one process, GB |",
             "| --- | --- | ---: | ---: | ---: |"]
    for framework, found in results["frameworks"].items():
        for name in ("one_small", "one_whole", "all"):
            run = found[name]
            rows = run["processes"] * run["batch_of_each"]
            lines.append(f"| {NAMES[framework]} | {run['processes']} × {run['batch_of_each']} | {run['step_ms']:.1f} | "
                         f"{1000 * rows / run['step_ms']:.0f} | {run['peak_memory_bytes'] / 1e9:.1f} |")
    lines += ["", "| framework | speed-up over one process at the whole batch | share of the ideal | largest gap of "
              "the training loss | gap of the validation loss |", "| --- | ---: | ---: | ---: | ---: |"]
    for framework, found in results["frameworks"].items():
        lines.append(f"| {NAMES[framework]} | {found['speed_up']:.2f} | {found['efficiency']:.0%} | "
                     f"{found['loss_gap']:.1e} | {found['validation_loss_gap']:.1e} |")
    lines += ["", "The *share of the ideal* is the time of a step of one process at its own batch over that of all "
              "processes: what remains is spent on adding up gradients and waiting for the longest rows. The *gap* is "
              "relative, between all processes and one at the whole batch, over intervals of ten steps."]
    return "\n".join(lines) + "\n"


def main(argv: list[str]) -> None:
    """Runs the trainings and writes processes.json, table.md and each training's log."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False,
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--framework", default=BOTH, choices=[*FRAMEWORKS, BOTH])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--model_card", default="gpt2.md", choices=list(MODEL_CARDS))
    parser.add_argument("--batch", type=int, default=8, help="rows of each process")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--data", default=str(ROOT / "data" / "demo"), help="folder with train.jsonl and valid.jsonl")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--output", default=str(ROOT / "log" / "processes"))
    options = parser.parse_args(argv)
    if options.processes < 2 or options.steps < 40:
        raise UserError("expected --processes of 2 or more, and --steps of 40 or more")
    output = Path(options.output).resolve()
    for framework in chosen_frameworks(options.framework):
        runs = [train(framework, count, batch, options, output / f"{framework}_{count}x{batch}")
                for count, batch in ((1, options.batch), (1, options.processes * options.batch),
                                     (options.processes, options.batch))]
        command = cleaned(" ".join(["python", os.path.relpath(__file__, ROOT), *argv]))
        results = {"command": command, "steps": options.steps,
                   "model_card": options.model_card, "processes": options.processes, "frameworks": {}}
        results = with_others(results, output / "processes.json")
        results["frameworks"][framework] = compared(*runs)
        write_json(output / "processes.json", results)
        with atomic_write(output / "table.md") as file:
            file.write(table(results))
    print((output / "table.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    run_main(main)
