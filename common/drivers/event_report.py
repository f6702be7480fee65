"""The last stage of run_eae.sh: both frameworks' scores, losses and times side by side, and their curves."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.data.span_counts import MEASURES
from common.drivers.report import (
    TRAINING_SHAPE,
    check_alike,
    check_written,
    description_of,
    draw_losses,
    framework_lines,
    last_average_loss,
    markdown_table,
    publish,
    read_log,
)
from common.drivers.scoring_stages import BOOTSTRAP
from common.errors import UserError
from common.files import atomic_write, read_json, read_json_lines
from common.frameworks import COLOURS, NAMES
from common.metrics.events import PARTS, metric_name

SUMMARY_SHAPE = {**TRAINING_SHAPE, "best_f1": float, "checkpoint_bytes": int}
PREDICTION_SHAPE = {"events": int, "queries": int, "seconds": float}
SCORES_SHAPE = {"scores": {str: float}, "intervals": {str: [float]},
                "roles": {str: {"f1": float, "gold": int, "predicted": int}}}


def collect_events(work: Path, framework: str) -> dict[str, Any]:
    """Reads what one framework's stages wrote; returns ``{name: number}`` beside its description, as report.collect.

    Raises:
        UserError: a stage has not been run.
    """
    folder = Path(work) / framework
    needed = [folder / name for name in ("train_summary.json", "predictions.jsonl.summary.json", "scores.json")]
    check_written(needed, "train,predict,score", framework)
    training, prediction, scored = (read_json(path, shape) for path, shape in
                                    zip(needed, (SUMMARY_SHAPE, PREDICTION_SHAPE, SCORES_SHAPE)))
    names = {metric_name(measure, part): f"{measure}, {part.replace('f1', 'F1')}"
             for measure in MEASURES for part in PARTS}
    numbers = {
        "last training loss": last_average_loss(folder / "train_log.jsonl"),
        "validation loss": training["valid_loss"],
        "validation F1, best epoch": training["best_f1"],
        **{name: scored["scores"][metric] for metric, name in names.items()},
        "training minutes": training["seconds"] / 60,
        "ms per training step (median)": training["step_ms"],
        "prediction seconds": prediction["seconds"],
        "peak memory of training, GiB": training["peak_memory_bytes"] / 2**30,
        "checkpoint, MB": training["checkpoint_bytes"] / 1e6,
    }
    return {"description": description_of(training), "numbers": numbers, "arguments": training["arguments"],
            "intervals": {name: scored["intervals"][metric] for metric, name in names.items()},
            "test": {key: prediction[key] for key in ("events", "queries")}, "roles": scored["roles"]}


def read_arguments(path: Path) -> list[set[tuple[str, int, int]]]:
    """Returns the predicted arguments of each event in a file of predictions."""
    shape = {"arguments": [{"role": str, "start": int, "end": int}]}
    return [{(each["role"], each["start"], each["end"]) for each in record["arguments"]}
            for _, record in read_json_lines(path, shape)]


def same_answers(work: Path, results: dict[str, dict]) -> float:
    """Returns the share of the queries of the test set that all frameworks answer the same.

    Raises:
        UserError: a file of predictions has other events than its summary says.
    """
    found = {}
    for framework, result in results.items():
        path = Path(work) / framework / "predictions.jsonl"
        found[framework] = read_arguments(path)
        if len(found[framework]) != result["test"]["events"]:
            raise UserError(f"{path}: holds {len(found[framework])} events, but {result['test']['events']} were "
                            f"predicted; run --stages predict,score --framework {framework} again")
    queries = next(iter(results.values()))["test"]["queries"]
    different = sum(len({role for role, *_ in set.union(*events) - set.intersection(*events)})
                    for events in zip(*found.values()))
    return 1 - different / queries


def role_lines(results: dict[str, dict]) -> list[str]:
    """Returns the table of F1 by role as lines of Markdown."""
    frameworks = list(results)
    roles = dict.fromkeys(role for result in results.values() for role in result["roles"])
    lines = ["| role | gold | " + " | ".join(f"F1, {NAMES[framework]}" for framework in frameworks) + " |",
             "| --- | ---: |" + " ---: |" * len(frameworks)]
    for role in roles:
        rows = [results[framework]["roles"].get(role) for framework in frameworks]
        gold = next(row["gold"] for row in rows if row)
        lines.append(f"| {role} | {gold} | " + " | ".join(f"{row['f1']:.4f}" if row else "–" for row in rows) + " |")
    return lines


def plot_curves(path: str | os.PathLike, work: Path, frameworks: Sequence[str], title: str) -> None:
    """Draws loss and validation F1 by step side by side, one colour a framework, as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    losses, scores = figure.subplots(1, 2)
    draw_losses(losses, work, frameworks, "loss (nats, start and end)")
    for position, framework in enumerate(frameworks):
        records = [record for record in read_log(Path(work) / framework / "train_log.jsonl")
                   if record["kind"] == "validation"]
        points = [(record["step"], record["scores"]["classification"]["f1"]) for record in records]
        scores.plot(*zip(*points), color=COLOURS[framework], linestyle=("-", (0, (4, 3)))[position],
                    marker="os"[position], markersize=(7, 4)[position], label=NAMES[framework],
                    markerfacecolor=("none", COLOURS[framework])[position])
    scores.set_xlabel("training step")
    scores.set_ylabel("validation F1, role and exact span")
    scores.grid(alpha=0.25)
    scores.spines[["top", "right"]].set_visible(False)
    scores.legend(frameon=False)
    figure.suptitle(title)
    with atomic_write(path, "wb") as file:
        figure.savefig(file, format="png", dpi=150)


def plot_roles(path: str | os.PathLike, results: dict[str, dict], title: str) -> None:
    """Draws F1 by role as bars, one colour a framework, the most frequent role on top, as a PNG."""
    from matplotlib.figure import Figure

    first = next(iter(results.values()))["roles"]
    roles = sorted(first, key=lambda role: first[role]["gold"])
    height = 0.8 / len(results)
    figure = Figure(figsize=(7, 0.42 * len(roles) + 1.4), layout="constrained")
    axes = figure.subplots()
    for position, (framework, result) in enumerate(results.items()):
        values = [result["roles"].get(role, {"f1": 0.0})["f1"] for role in roles]
        axes.barh([index - position * height for index in range(len(roles))], values, height,
                  color=COLOURS[framework], label=NAMES[framework])
    axes.set_yticks(range(len(roles)), [f"{role} ({first[role]['gold']})" for role in roles])
    axes.set_xlim(0, 1)
    axes.set_xlabel("F1 on test, role and exact span; in brackets: gold arguments")
    axes.set_title(title)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, loc="outside lower center", ncols=len(results))
    with atomic_write(path, "wb") as file:
        figure.savefig(file, format="png", dpi=150)


def build_event_report(run) -> tuple[dict, str]:
    """Returns what results.json and table.md of a run hold: a document and a text.

    Raises:
        UserError: a stage before the report has not been run, or the frameworks ran on different things.
    """
    results = {framework: collect_events(run.work, framework) for framework in run.frameworks}
    check_alike(results)
    first = results[run.frameworks[0]]
    flags = first["arguments"]
    trained = ("all weights" if not flags["lora_dim"] else
               f"LoRA of rank {flags['lora_dim']} on {flags['lora_targets']}, heads {flags['heads']}")
    lines = [f"# {run.title}", markdown_table(results, run.frameworks), "\n".join(role_lines(results)),
             f"{first['test']['events']} test events with gold triggers, {first['test']['queries']} queries; "
             f"{first['description']['steps']} training steps, {first['description']['epochs']} epochs, batch "
             f"{flags['train_batch_size']}, learning rate {flags['lr']}, {trained}, seed {flags['random_seed']}. In "
             f"brackets: 95 % intervals from {BOOTSTRAP} resamples of the test sentences."]
    lines += framework_lines(results)
    document = {"title": run.title, "command": run.options.command, "frameworks": results}
    if len(run.frameworks) == 2:
        document["same_predictions"] = same_answers(run.work, results)
        lines.append(f"Both frameworks give the same answer to {document['same_predictions']:.2%} of the queries.")
    return document, "\n\n".join(line.strip() for line in lines) + "\n"


def write_event_report(run) -> None:
    """Writes results.json, table.md, curves.png and roles.png into the work directory and prints the table.

    Raises:
        UserError: a stage before it has not been run, or not with these flags on the files that are there.
    """
    document = publish(run, build_event_report)
    plot_curves(run.work / "curves.png", run.work, run.frameworks, run.title)
    plot_roles(run.work / "roles.png", document["frameworks"], run.title)
