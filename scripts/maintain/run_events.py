"""Trains PHEE with LoRA, with all weights and otherwise, in both frameworks, and puts the results side by side.

    python scripts/maintain/run_events.py --stages train,predict,score --devices 0,1 --at_once 2 --minutes 9
    python scripts/maintain/run_events.py --stages speed --minutes 5
    python scripts/maintain/run_events.py --stages report,keep

Each run is one of run_eae.sh with its own folder ``work/eae/NAME``, so that one that was cut off goes on with its next
stage; ``speed`` trains some hundred steps of each row by itself, for time and memory. Some rows have a *noise floor*:
PyTorch alone, its rate one unit in the last place up; ``keep`` takes it where it was trained. ``report``
makes the reports of the runs, ``keep`` copies logs and tables to ``log/eae/`` and draws ``figure/eae/``. PHEE has to be
in data/phee (python scripts/create_events.py).
"""

import argparse
import os
import shlex
import sys
import time
from dataclasses import dataclass, field

import numpy as np

from common.align.differences import relative_gap
from common.bench.event_figures import plot_gaps, plot_rows
from common.bench.event_summary import ROWS_FILE, events_table
from common.drivers.commands import cleaned
from common.drivers.event_report import plot_curves, plot_roles, read_arguments
from common.drivers.event_tasks import event_training_flags
from common.drivers.report import read_log
from common.drivers.side_by_side import add_options, run_all
from common.drivers.tasks import as_words
from common.errors import UserError, run_main
from common.files import atomic_write, read_json, write_json
from common.frameworks import FRAMEWORKS, interpreter
from common.model.bert_cards import BERT_CARDS, FROZEN, TRAINED, head_shapes
from common.model.lora_arrays import BertLoraSettings, lora_shapes
from common.paths import ROOT

WORK, LOG, FIGURE = ROOT / "work" / "eae", ROOT / "log" / "eae", ROOT / "figure" / "eae"
SEEDS = (110, 111, 112)
CARD = BERT_CARDS["bert.minilm"]
STAGES = ("train", "predict", "score", "speed", "report", "keep")
SPEED_STEPS, SPEED_INTERVAL = 400, 50
KEPT = ("train.log", "train_log.jsonl", "train_summary.json", "predict.log", "predictions.jsonl.summary.json",
        "scores.json")


@dataclass(frozen=True)
class TableRow:
    """One way to train.

    Attributes:
        name: of its folder, a key of TITLES.
        flags: in place of the preset's.
        seeds: each is a run.
        has_floor: whether it has a noise floor.
    """

    name: str
    flags: dict = field(default_factory=dict)
    seeds: tuple[int, ...] = SEEDS[:1]
    has_floor: bool = False


SLOW = 0.00005  # what full fine-tuning of BERT usually has
SHORTER = {"max_epoch": 5}
ROWS = (
    TableRow("all_weights", {"lora_dim": 0}, SEEDS, has_floor=True),
    TableRow("all_weights_fp64", {"lora_dim": 0, "lr": 0.00004, "fp64": True}, SEEDS, has_floor=True),
    TableRow("all_weights_higher", {"lora_dim": 0, "lr": 0.0001, "max_epoch": 5, "train_batch_size": 32,
                                    "label_smooth": 0.0}, SEEDS),
    TableRow("lora16", {}, SEEDS, has_floor=True),
    TableRow("lora16_higher", {"lr": 0.0007, "max_epoch": 8}, SEEDS, has_floor=True),
    TableRow("lora8", {"lora_dim": 8}),
    TableRow("lora4", {"lora_dim": 4, "lr": 0.002, **SHORTER}),
    TableRow("lora16_frozen", {"heads": FROZEN}),
    TableRow("lora16_slow", {"lr": SLOW, **SHORTER}),
    TableRow("lora16_frozen_slow", {"heads": FROZEN, "lr": SLOW, **SHORTER}),
)


def flags_of(row):
    """Returns a row's flags of bert_eae_ft.py, the preset's included."""
    return {**event_training_flags("phee", row.flags.get("lora_dim")), **row.flags}


def floor_of(row):
    """Returns the noise floor of a row, a TableRow too."""
    nudge = 2.0 ** -52 if row.flags.get("fp64") else 2.0 ** -23
    return TableRow(f"{row.name}_noise_floor", {**row.flags, "lr": flags_of(row)["lr"] * (1 + nudge)}, row.seeds[:1])


def floors_of(rows):
    """Returns the noise floors, TableRows too, of those of some rows that have one."""
    return [floor_of(row) for row in rows if row.has_floor]


def trained_weights(row):
    """Returns how many weights a row trains."""
    flags = flags_of(row)
    settings = BertLoraSettings(flags["lora_dim"], flags["lora_alpha"])
    shapes = CARD.backbone_shapes() if not settings.rank else lora_shapes(CARD, settings)
    if flags.get("heads", TRAINED) == TRAINED:
        shapes = {**shapes, **head_shapes(CARD)}
    return sum(int(np.prod(shape)) for shape in shapes.values())


def runs_of(rows):
    """Yields ``(folder, row, seed)`` of every run."""
    for row in rows:
        for seed in row.seeds:
            yield WORK / row.name / f"seed{seed}", row, seed


def trained_floors(rows):
    """Yields ``(folder, row, seed)`` of the noise floors of some rows, those that were trained."""
    for folder, row, seed in runs_of(floors_of(rows)):
        if (folder / FRAMEWORKS[0] / "scores.json").is_file():
            yield folder, row, seed


def driver_words(folder, row, seed, framework, stages, device):
    """Returns the command of run_eae.py for a run."""
    python = sys.executable if framework == "both" else str(interpreter(framework))
    return [python, "scripts/run_eae.py", "--preset", "phee", "--framework", framework, "--work_dir", str(folder),
            "--device", device, "--stages", stages, *as_words({**row.flags, "random_seed": seed})]


def speed_words(row, framework, device):
    """Returns the command that trains a row's first steps, with few validation events."""
    few = WORK / "few.json"
    few.parent.mkdir(parents=True, exist_ok=True)
    lines = (ROOT / "data" / "phee" / "dev.json").read_text(encoding="utf-8").splitlines(keepends=True)
    with atomic_write(few) as file:
        file.writelines(lines[:40])
    data = ROOT / "data" / "phee"
    flags = {**flags_of(row), "max_step": SPEED_STEPS, "log_interval": SPEED_INTERVAL, "overwrite": True,
             "device": device, "work_dir": WORK / row.name / f"speed_{framework}"}
    return [str(interpreter(framework)), str(ROOT / f"NLG_{framework}/src/bert_eae_ft.py"), "--train_data",
            str(data / "train.json"), "--valid_data", str(few), "--questions", str(data / "arg_queries_stage1.csv"),
            str(data / "arg_queries_stage2.csv"), *as_words(flags)]


def losses_of(folder, framework):
    """Returns the average losses of a run's log intervals."""
    return np.array([record["avg_loss"] for record in read_log(folder / framework / "train_log.jsonl")
                     if record["kind"] == "train"])


def answers_of(folder, framework):
    """Returns the predicted arguments of each test event."""
    return read_arguments(folder / framework / "predictions.jsonl")


def alike(pairs):
    """Returns the largest difference of the losses of two runs, and the share of equal predicted spans.

    A span is equal where both predict it for the same role of the same event; the share is that of all that either
    predicts.

    Args:
        pairs: of ``(folder, framework)``, each two runs.
    """
    gap, same, either = 0.0, 0, 0
    for pair in pairs:
        first, second = (losses_of(*run) for run in pair)
        gap = max(gap, float(relative_gap(second, first).max()))
        for one, other in zip(*(answers_of(*run) for run in pair)):
            same, either = same + len(one & other), either + len(one | other)
    return gap, same / either if either else 1.0


def speed_of(row, framework):
    """Returns milliseconds a step and GiB of a row trained by itself, or None for both."""
    path = WORK / row.name / f"speed_{framework}" / "train_summary.json"
    if not path.is_file():
        return None, None
    summary = read_json(path, {"step_ms": float, "peak_memory_bytes": int})
    return summary["step_ms"], summary["peak_memory_bytes"] / 2**30


def has_runs(row):
    """Tells whether a row was trained in this work directory."""
    return all((folder / framework / "scores.json").is_file()
               for folder, _, _ in runs_of([row]) for framework in FRAMEWORKS)


def speeds_of(row, kept):
    """Returns what the table says of a row's time and memory; what was not measured again stays."""
    speeds = {framework: speed_of(row, framework) for framework in FRAMEWORKS}
    return {"step_ms": {framework: speed or kept and kept["step_ms"][framework]
                        for framework, (speed, _) in speeds.items()},
            "peak_memory_gib": {framework: memory or kept and kept["peak_memory_gib"][framework]
                                for framework, (_, memory) in speeds.items()}}


def record_of(row, kept):
    """Returns what the table says of a row; see common.bench.event_summary.SHAPE.

    Args:
        row: TableRow.
        kept: what the table says so far, or None; of a row that was not trained again all stays but its speed.
    """
    if kept and not has_runs(row):
        return {**kept, **speeds_of(row, kept)}
    folders = [folder for folder, _, _ in runs_of([row])]
    scores = {framework: [read_json(folder / framework / "scores.json", {"scores": {str: float}})["scores"]
                          for folder in folders] for framework in FRAMEWORKS}
    gap, equal = alike([[(folder, framework) for framework in FRAMEWORKS] for folder in folders])
    floor_gap = floor_equal = None
    for folder, _, _ in trained_floors([row]):
        floor_gap, floor_equal = alike([[(folder, FRAMEWORKS[0]), (folders[0], FRAMEWORKS[0])]])
    size = read_json(folders[0] / FRAMEWORKS[0] / "train_summary.json", {"checkpoint_bytes": int})["checkpoint_bytes"]
    return {"row": row.name, "weights": trained_weights(row), "rate": flags_of(row)["lr"], "flags": flags_of(row),
            "seeds": list(row.seeds), "scores": scores,
            **speeds_of(row, kept), "checkpoint_mb": size / 1e6, "largest_loss_gap": gap, "equal_spans": equal,
            "floor_loss_gap": floor_gap, "floor_equal_spans": floor_equal}


def keep(rows):
    """Copies what the runs logged to log/eae/, writes the table over all rows, and draws the figures.

    A row that is not among these, or was trained elsewhere, stays as log/eae/ has it, but for its speed.
    """
    path = LOG / ROWS_FILE
    kept = {record["row"]: record for record in read_json(path, [dict])} if path.is_file() else {}
    records = {**kept, **{row.name: record_of(row, kept.get(row.name)) for row in rows}}
    write_json(path, [records[row.name] for row in ROWS if row.name in records])
    trained = [row for row in rows if has_runs(row)]
    folders = list(runs_of(trained))
    for folder, row, seed in folders:
        target = LOG / row.name / f"seed{seed}"
        for name in [*(f"{framework}/{name}" for framework in FRAMEWORKS for name in KEPT), "table.md", "results.json"]:
            with atomic_write(target / name) as file:
                file.write(cleaned((folder / name).read_text(encoding="utf-8")))
    for folder, row, seed in trained_floors(trained):
        for name in KEPT:
            with atomic_write(LOG / row.name / f"seed{seed}" / FRAMEWORKS[0] / name) as file:
                file.write(cleaned((folder / FRAMEWORKS[0] / name).read_text(encoding="utf-8")))
    for row in rows:
        for framework in FRAMEWORKS:
            path = WORK / row.name / f"speed_{framework}" / "train_summary.json"
            if path.is_file():
                with atomic_write(LOG / row.name / f"speed_{framework}.json") as file:
                    file.write(cleaned(path.read_text(encoding="utf-8")))
    text = ("# PHEE, event arguments with gold triggers, bert.minilm\n\n" + events_table(LOG, "en") + "\n\n"
            "Test scores of the best epoch by validation F1; several seeds: mean ± standard deviation. Milliseconds "
            f"and memory, PyTorch / Jittor, are of {SPEED_STEPS} steps of each row by itself. Loss gap: the largest "
            "relative difference of both frameworks' average losses over "
            f"{event_training_flags('phee')['log_interval']} steps. "
            "Equal spans: those that both predict, of those that either does. In brackets the noise floor: PyTorch "
            "with itself, its rate one unit in the last place up, of the first seed; the frameworks' numbers are of "
            "all seeds. In each folder's train_summary.json are its versions, its device, its precision and all its "
            "flags.\n")
    with atomic_write(LOG / "table.md") as file:
        file.write(text)
    FIGURE.mkdir(parents=True, exist_ok=True)
    plot_rows(FIGURE / "rows.png", LOG, ROWS)
    plot_gaps(FIGURE / "gaps.png", LOG, [row for row in ROWS if row.flags.get("lora_dim") == 0])
    print(text)
    first = next((folder for folder, row, _ in folders if row.name == "lora16"), None)
    if first is None:
        return
    results = read_json(first / "results.json", {"title": str, "frameworks": dict})
    plot_curves(FIGURE / "lora16_curves.png", first, FRAMEWORKS, results["title"])
    plot_roles(FIGURE / "lora16_roles.png", results["frameworks"], results["title"])


def main(argv):
    """Runs what was asked for; returns 1 where something failed or was cut off."""
    parser = argparse.ArgumentParser(prog="run_events.py", description=__doc__.split("\n")[0])
    parser.add_argument("--stages", default=",".join(STAGES), help="comma-separated")
    parser.add_argument("--only", default="", help="names of rows, comma-separated; all by default")
    parser.add_argument("--framework", default="both", choices=[*FRAMEWORKS, "both"])
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    add_options(parser)
    options = parser.parse_args(argv)
    stages, wanted = options.stages.split(","), options.only.split(",")
    rows = [row for row in ROWS if row.name in wanted or not options.only]
    if (options.only and len(rows) < len(wanted)) or not set(stages) <= set(STAGES):
        raise UserError(f"--only {options.only} --stages {options.stages}: expected some of "
                        f"{', '.join(row.name for row in ROWS)} and of {','.join(STAGES)}")
    deadline = time.monotonic() + 60 * options.minutes
    chosen = [framework for framework in reversed(FRAMEWORKS) if options.framework in (framework, "both")]
    driven = ",".join(stage for stage in stages if stage in ("train", "predict", "score"))
    jobs, failed = [], []
    if driven:
        jobs = [(f"{folder.relative_to(WORK)} {framework}",
                 driver_words(folder, row, seed, framework, driven, options.device), folder / f"{framework}.log")
                for framework in chosen
                for folder, row, seed in runs_of([*rows, *(floors_of(rows) if framework == FRAMEWORKS[0] else [])])]
        failed = run_all(jobs, options.devices.split(","), options.at_once, deadline)
    if "speed" in stages:
        jobs = [(f"{row.name} speed {framework}", speed_words(row, framework, options.device),
                 WORK / row.name / f"speed_{framework}.log") for framework in chosen for row in rows]
        failed += run_all(jobs, [""], 1, deadline)
    if "report" in stages and not failed:
        jobs = [(f"{folder.relative_to(WORK)} report",
                 driver_words(folder, row, seed, "both", "report", options.device), folder / "report.log")
                for folder, row, seed in runs_of(rows)]
        failed = run_all(jobs, [""], os.cpu_count() or 1, deadline)
    if "keep" in stages and not failed:
        keep(rows)
    if failed:
        print("not done: " + shlex.join(failed), file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    run_main(main)
