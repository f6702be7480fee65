"""The last stage: both frameworks' scores, losses and times side by side, and their loss curves."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from common.checks import check_shape, shortened
from common.drivers.commands import check_done
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
    check_written(needed, "train,beam,decode,score", framework)
    training, beam = read_json(needed[0], TRAINING_SHAPE), read_json(needed[1], BEAM_SHAPE)
    scores, intervals, notes = {}, {}, []
    for score_set, path in zip(score_sets, needed[2:]):
        found = read_json(path, {"scores": dict.fromkeys(scoring.metrics, float),
                                 "intervals": dict.fromkeys(scoring.metrics, [float])})
        notes += [f"The scores{score_set.label} have a note: {sentence}."
                  for sentence in check_shape(found.get("notes", []), [str], f"{path}: .notes")]
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
    return {"description": description_of(training), "numbers": numbers, "intervals": intervals, "notes": notes,
            "arguments": training["arguments"], "test": {key: beam[key] for key in ("rows", "contexts")}}


def check_written(needed: Sequence[Path], stages: str, framework: str) -> None:
    """Checks that the files are there which the stages before a report write.

    Raises:
        UserError: one is not.
    """
    for path in needed:
        if not path.is_file():
            raise UserError(f"{path} is missing: run the stages before the report first (--stages {stages} --framework "
                            f"{framework})")


def description_of(training: dict[str, Any]) -> dict[str, Any]:
    """Returns what a report says of a framework, from its train_summary.json."""
    return {key: training[key] for key in ("framework", "version", "device", "precision", "steps", "epochs")}


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


def same_predictions(work, results):
    """Returns the share of test rows for which all frameworks give the same tokens.

    Args:
        work: folder of the run.
        results: ``{framework: what collect returns}``.

    Raises:
        UserError: a file of predictions has other rows than its summary says, or than another one.
    """
    predictions = {}
    for framework, result in results.items():
        path = Path(work) / framework / "predict.jsonl"
        found = [(record["id"], record["predict"])
                 for _, record in read_json_lines(path, {"id": int, "predict": list})]
        if len(found) != result["test"]["rows"]:
            raise UserError(f"{path}: holds {len(found)} rows, but beam search wrote {result['test']['rows']} "
                            f"({path.name}.summary.json); run --stages beam,decode,score --framework {framework} again")
        predictions[framework] = dict(found)
    first, *others = predictions.values()
    if any(first.keys() != other.keys() for other in others):
        raise UserError(f"{work}: predict.jsonl has other rows in {' than in '.join(predictions)}; run --stages "
                        "beam,decode,score again")
    return sum(all(other[row] == tokens for other in others) for row, tokens in first.items()) / len(first)


# What may differ between the frameworks of one run: where it was written, where it ran, and how it would be resumed.
PLACES = ("work_dir", "output_dir", "device", "most_tokens", "token_multiple", "resume", "state_minutes",
          "keep_last")


def check_alike(results):
    """Checks that all frameworks were trained with the same flags for as long, and searched the same rows.

    Args:
        results: ``{framework: what collect returns}``.

    Raises:
        UserError: they were not; the message has what differs.
    """
    facts = {framework: {**{f"--{name}": value for name, value in result["arguments"].items() if name not in PLACES},
                         **{name: result["description"][name] for name in ("steps", "epochs", "precision")},
                         **{f"test {name}": value for name, value in result["test"].items()}}
             for framework, result in results.items()}
    (first, one), *others = facts.items()
    for framework, other in others:
        differing = [f"{name} {shortened(one.get(name))} and {shortened(other.get(name))}"
                     for name in sorted(one.keys() | other.keys()) if one.get(name) != other.get(name)]
        if differing:
            raise UserError(f"{NAMES[first]} and {NAMES[framework]} are not of one run: {'; '.join(differing[:4])}; "
                            "run the stages of one of them again with the flags of the other, or report each alone "
                            "with --framework")


def check_stages(run):
    """Checks that every stage ran with the flags of this report on what the stage before it wrote, in all frameworks.

    Raises:
        UserError: a stage has not ended, ran with other flags, or a file is another one now.
    """
    read = {}
    for framework in run.frameworks:
        for stage in run.stages:
            for command in run.commands(framework, stage):
                stamp = run.work / framework / "stamps" / f"{command.name}.json"
                files = check_done(command, stamp, run.work, is_current=True)
                for name, digest in files.items():
                    if read.setdefault(name, digest) != digest:
                        raise UserError(f"{name}: {framework}'s {command.name} read or wrote another file of this name "
                                        f"than a stage before it ({stamp}); run the stages again")


def format_number(value):
    """Losses and scores with four decimals, times and memory with two."""
    return "–" if value is None else f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}"


def format_difference(value):
    """Four decimals; a difference that they would hide is told by its size, so that only equal numbers look equal."""
    return "0" if value == 0 else f"{value:+.4f}" if abs(value) >= 0.00005 else f"{value:+.0e}"


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
            cells.append("–" if None in values else format_difference(values[1] - values[0]))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def plot_losses(path: str | os.PathLike, work: str | os.PathLike, frameworks: Sequence[str], title: str) -> None:
    """Draws training and validation loss by step, one colour a framework, as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    draw_losses(axes, work, frameworks, "loss (nats per token)")
    axes.set_title(title)
    with atomic_write(path, "wb") as file:
        figure.savefig(file, format="png", dpi=150)


def draw_losses(axes, work, frameworks, label):
    """Draws training and validation loss by step into matplotlib's axes; ``label`` is the loss's name and unit."""
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
    axes.set_ylabel(label)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)


def build_report(run) -> tuple[dict, str]:
    """Returns what results.json and table.md of a run hold: a document and a text.

    Raises:
        UserError: a stage before the report has not been run, or the frameworks ran on different things.
    """
    frameworks = run.frameworks
    results = {framework: collect(run.work, framework, run.task.scoring, run.score_sets) for framework in frameworks}
    check_alike(results)
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
    lines += [f"{NAMES[framework]}: {sentence}" for framework, result in results.items()
              for sentence in result["notes"]]
    lines += framework_lines(results)
    document = {"title": run.title, "command": run.options.command, "frameworks": results}
    if len(frameworks) == 2:
        document["same_predictions"] = same_predictions(run.work, results)
        lines.append(f"Both frameworks predict the same tokens for {document['same_predictions']:.1%} of the rows.")
    return document, "\n\n".join(line.strip() for line in lines if line) + "\n"


def framework_lines(results: dict[str, dict]) -> list[str]:
    """Returns a sentence on each framework's version, device and precision."""
    return [f"{NAMES[framework]} {result['description']['version']} on {result['description']['device']}, "
            f"{result['description']['precision']}." for framework, result in results.items()]


def publish(run, build: Callable[[Any], tuple[dict, str]]) -> dict:
    """Writes results.json and table.md into a run's work directory, prints the table, and returns the document.

    Args:
        run: any model's.
        build: ``(run) -> (document, table)``.

    Raises:
        UserError: a stage before the report has not been run, or not with these flags on the files that are there.
    """
    check_stages(run)
    document, table = build(run)
    write_json(run.work / "results.json", document)
    with atomic_write(run.work / "table.md") as file:
        file.write(table)
    print("\n" + table)
    return document


def write_report(run) -> None:
    """Writes results.json, table.md and loss_curve.png into the work directory and prints the table.

    Raises:
        UserError: a stage before it has not been run, or not with these flags on the files that are there.
    """
    publish(run, build_report)
    plot_losses(run.work / "loss_curve.png", run.work, run.frameworks, run.title)
