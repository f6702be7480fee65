"""The last stage: both frameworks' scores, losses and times side by side, and their loss curves."""

import os
from collections.abc import Sequence
from pathlib import Path

from common.checks import check_shape
from common.drivers.scoring_stages import BOOTSTRAP
from common.errors import UserError
from common.files import atomic_write, read_json, read_json_lines, write_json
from common.frameworks import COLOURS, NAMES

TRAINING_SHAPE = {"framework": str, "version": str, "device": str, "precision": str, "steps": int, "epochs": int,
                  "valid_loss": (float, None), "seconds": float, "step_ms": (float, None), "peak_memory_bytes": int,
                  "arguments": dict}
BEAM_SHAPE = {"rows": int, "contexts": int, "seconds": float}
LOG_SHAPES = {"train": {"step": int, "avg_loss": float}, "validation": {"step": int, "loss": float}}


def collect(work, framework, scoring, score_sets):
    """Reads what one framework's stages wrote; returns ``{name: number}`` beside its description.

    Args:
        work: folder of the run.
        framework: ``pytorch`` or ``jittor``.
        scoring: the task's Scoring.
        score_sets: list of ScoreSet.

    Raises:
        UserError: a stage has not been run.
    """
    folder = Path(work) / framework
    needed = [folder / "train_summary.json", folder / "predict.jsonl.summary.json",
              *(folder / score_set.name / "scores.json" for score_set in score_sets)]
    for path in needed:
        if not path.is_file():
            raise UserError(f"{path} is missing: run the stages before the report first (--stages train,beam,decode,"
                            f"score --framework {framework})")
    training, beam = read_json(needed[0], TRAINING_SHAPE), read_json(needed[1], BEAM_SHAPE)
    scores, intervals = {}, {}
    for score_set, path in zip(score_sets, needed[2:]):
        found = read_json(path, {"scores": dict.fromkeys(scoring.metrics, float),
                                 "intervals": dict.fromkeys(scoring.metrics, [float])})
        for metric, name in scoring.metrics.items():
            scores[name + score_set.label] = found["scores"][metric]
            intervals[name + score_set.label] = found["intervals"][metric]
    numbers = {
        "last training loss": last_average_loss(folder / "train_log.jsonl"),
        "validation loss": training["valid_loss"],
        **scores,
        "training minutes": training["seconds"] / 60,
        "ms per training step (median)": training["step_ms"],
        "beam search seconds": beam["seconds"],
        "peak memory of training, GiB": training["peak_memory_bytes"] / 2**30,
    }
    description = {key: training[key] for key in ("framework", "version", "device", "precision", "steps", "epochs")}
    return {"description": description, "numbers": numbers, "intervals": intervals, "arguments": training["arguments"],
            "test": {key: beam[key] for key in ("rows", "contexts")}}


def read_log(path):
    """Reads the records of a train_log.jsonl."""
    records = []
    for line_number, record in read_json_lines(path, {"kind": str}):
        records.append(check_shape(record, LOG_SHAPES.get(record["kind"], dict), f"{path}:{line_number}"))
    return records


def last_average_loss(path):
    """Returns the average loss of the last logged interval, or None where none was logged."""
    losses = [record["avg_loss"] for record in read_log(path) if record["kind"] == "train"]
    return losses[-1] if losses else None


def same_predictions(work, frameworks):
    """Returns the share of test rows for which all frameworks give the same tokens."""
    predictions = [[record["predict"] for _, record in read_json_lines(Path(work) / framework / "predict.jsonl",
                                                                       {"predict": list})]
                   for framework in frameworks]
    equal = [all(row == first for row in others) for first, *others in zip(*predictions)]
    return sum(equal) / len(equal)


def format_number(value):
    """Losses and scores with four decimals, times and memory with two."""
    return "–" if value is None else f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}"


def format_cell(result, name):
    """Returns one framework's number, with its 95 % interval where it has one."""
    ends = result["intervals"].get(name)
    return format_number(result["numbers"][name]) + (f" [{', '.join(map(format_number, ends))}]" if ends else "")


def markdown_table(results, frameworks):
    """Returns the table of all numbers as Markdown, with the difference where there are two frameworks."""
    heads = [NAMES[framework] for framework in frameworks] + (["difference"] if len(frameworks) == 2 else [])
    lines = ["| | " + " | ".join(heads) + " |", "| --- |" + " ---: |" * len(heads)]
    for name in results[frameworks[0]]["numbers"]:
        values = [results[framework]["numbers"][name] for framework in frameworks]
        cells = [format_cell(results[framework], name) for framework in frameworks]
        if len(values) == 2:
            cells.append("–" if None in values else f"{values[1] - values[0]:+.4f}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def plot_losses(path: str | os.PathLike, work: str | os.PathLike, frameworks: Sequence[str], title: str) -> None:
    """Draws training and validation loss by step, one colour a framework, as a PNG."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.2), constrained_layout=True)
    for position, framework in enumerate(frameworks):
        records = read_log(Path(work) / framework / "train_log.jsonl")
        training = [(record["step"], record["avg_loss"]) for record in records if record["kind"] == "train"]
        validation = [(record["step"], record["loss"]) for record in records if record["kind"] == "validation"]
        style = {"color": COLOURS[framework], "linestyle": ("-", (0, (4, 3)))[position]}
        if training:
            axes.plot(*zip(*training), linewidth=1.4, label=f"{NAMES[framework]}, training", **style)
        if validation:
            axes.plot(*zip(*validation), linewidth=0.8, marker="os"[position], markersize=(7, 4)[position],
                      markerfacecolor=("none", COLOURS[framework])[position], label=f"{NAMES[framework]}, validation",
                      **style)
    axes.set_xlabel("training step")
    axes.set_ylabel("loss (nats per token)")
    axes.set_title(title)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    with atomic_write(path, "wb") as file:
        figure.savefig(file, format="png", dpi=150)
    pyplot.close(figure)


def build_report(run) -> tuple[dict, str]:
    """Returns what results.json and table.md of a run hold: a document and a text.

    Raises:
        UserError: a stage before the report has not been run.
    """
    frameworks = run.frameworks
    results = {framework: collect(run.work, framework, run.task.scoring, run.score_sets) for framework in frameworks}
    first = results[frameworks[0]]
    lines = [f"# {run.title}", "", markdown_table(results, frameworks)]
    lines.append(f"{first['test']['rows']} test rows, {first['test']['contexts']} distinct contexts; "
                 f"{first['description']['steps']} training steps, {first['description']['epochs']} epochs, batch "
                 f"{first['arguments']['train_batch_size']}, learning rate {first['arguments']['lr']}, LoRA on "
                 f"{first['arguments']['lora_targets']}, seed {first['arguments']['random_seed']}. The training loss "
                 f"has label smoothing {first['arguments']['label_smooth']}, the validation loss none. In brackets: "
                 f"95 % intervals from {BOOTSTRAP} resamples of the test set.")
    if any(score_set.name.startswith("sampled_references") for score_set in run.score_sets):
        lines.append("The sample takes single lines, so its references are fewer for each context than the full test "
                     "set's; scores against sampled references do not compare with published ones, those against all "
                     "references of the sampled contexts nearly do.")
    lines += [f"{NAMES[framework]} {result['description']['version']} on {result['description']['device']}, "
              f"{result['description']['precision']}." for framework, result in results.items()]
    document = {"title": run.title, "command": run.options.command, "frameworks": results}
    if len(frameworks) == 2:
        document["same_predictions"] = same_predictions(run.work, frameworks)
        lines.append(f"Both frameworks predict the same tokens for {document['same_predictions']:.1%} of the rows.")
    return document, "\n\n".join(line.strip() for line in lines if line) + "\n"


def write_report(run) -> None:
    """Writes results.json, table.md and loss_curve.png into the work directory and prints the table.

    Raises:
        UserError: a stage before it has not been run.
    """
    document, table = build_report(run)
    write_json(run.work / "results.json", document)
    with atomic_write(run.work / "table.md") as file:
        file.write(table)
    plot_losses(run.work / "loss_curve.png", run.work, run.frameworks, run.title)
    print("\n" + table)
