"""The last stage of run_chatglm2.sh: both frameworks' scores, losses and times side by side, curves, examples."""

from pathlib import Path
from typing import Any

from common.drivers.report import (
    TRAINING_SHAPE,
    check_alike,
    check_written,
    description_of,
    framework_lines,
    last_average_loss,
    markdown_table,
    plot_losses,
    publish,
)
from common.errors import UserError
from common.files import read_json, read_json_lines
from common.frameworks import NAMES
from common.metrics.chinese import NAMES as SCORES

GENERATION_SHAPE = {"rows": int, "prompts": int, "seconds": float, "peak_memory_bytes": int,
                    "scores": {name: float for name in SCORES}}
ANSWER_SHAPE = {"question": str, "reference": str, "prediction": str}
EXAMPLES = 5


def collect_chatglm(work: Path, framework: str) -> dict[str, Any]:
    """Reads what one framework's stages wrote; returns ``{name: number}`` beside its description, as report.collect.

    Raises:
        UserError: a stage has not been run.
    """
    folder = Path(work) / framework
    needed = [folder / name for name in ("train_summary.json", "answers.jsonl.summary.json")]
    check_written(needed, "train,generate", framework)
    training, generation = (read_json(path, shape) for path, shape in zip(needed, (TRAINING_SHAPE, GENERATION_SHAPE)))
    numbers = {
        "last training loss": last_average_loss(folder / "train_log.jsonl"),
        "validation loss": training["valid_loss"],
        **{name.upper().replace("ROUGE", "Rouge"): value for name, value in generation["scores"].items()},
        "training minutes": training["seconds"] / 60,
        "ms per training step (median)": training["step_ms"],
        "generation seconds": generation["seconds"],
        "peak memory of training, GiB": training["peak_memory_bytes"] / 2**30,
        "peak memory of generation, GiB": generation["peak_memory_bytes"] / 2**30,
    }
    return {"description": description_of(training), "numbers": numbers, "arguments": training["arguments"],
            "intervals": {}, "test": {key: generation[key] for key in ("rows", "prompts")}}


def same_answers(work: Path, results: dict[str, dict]) -> float:
    """Returns the share of the test set's rows for which all frameworks give the same text.

    Raises:
        UserError: a file of answers has other rows than its summary says.
    """
    answers = {}
    for framework, result in results.items():
        path = Path(work) / framework / "answers.jsonl"
        answers[framework] = [record["prediction"] for _, record in read_json_lines(path, ANSWER_SHAPE)]
        if len(answers[framework]) != result["test"]["rows"]:
            raise UserError(f"{path}: holds {len(answers[framework])} rows, but {result['test']['rows']} were "
                            f"answered; run --stages generate --framework {framework} again")
    rows = list(zip(*answers.values()))
    return sum(len(set(row)) == 1 for row in rows) / len(rows)


def example_lines(work: Path, framework: str) -> list[str]:
    """Returns the first answers of a framework as lines of Markdown."""
    path = Path(work) / framework / "answers.jsonl"
    records = [record for _, record in read_json_lines(path, ANSWER_SHAPE)][:EXAMPLES]
    return [line for record in records for line in (
        f"- {record['question']}", f"  - reference: {record['reference']}",
        f"  - {NAMES[framework]}: {record['prediction']}")]


def build_chatglm_report(run) -> tuple[dict, str]:
    """Returns what results.json and table.md of a run hold: a document and a text.

    Raises:
        UserError: a stage before the report has not been run, or the frameworks ran on different things.
    """
    results = {framework: collect_chatglm(run.work, framework) for framework in run.frameworks}
    check_alike(results)
    first = results[run.frameworks[0]]
    flags = first["arguments"]
    lines = [f"# {run.title}", markdown_table(results, run.frameworks),
             f"{first['test']['rows']} test rows with {first['test']['prompts']} distinct prompts; "
             f"{first['description']['steps']} training steps of {flags['train_batch_size']} rows, learning rate "
             f"{flags['learning_rate']:g}, LoRA of rank {flags['lora_r']} and alpha {flags['lora_alpha']:g} on "
             f"query_key_value, dropout {flags['lora_dropout']:g}, seed {flags['seed']}. Scores are means over rows in "
             "percent: BLEU-4 over characters, Rouge over words."]
    if flags["model_name_or_path"] == "random":
        lines.append("The weights are random: times and memory say what training costs, scores and losses nothing of "
                     "the quality of texts.")
    lines += framework_lines(results)
    document = {"title": run.title, "command": run.options.command, "frameworks": results}
    if len(run.frameworks) == 2:
        document["same_answers"] = same_answers(run.work, results)
        lines.append(f"Both frameworks give the same text for {document['same_answers']:.2%} of the rows.")
    lines.append("\n".join(example_lines(run.work, run.frameworks[0])))
    return document, "\n\n".join(line.strip() for line in lines) + "\n"


def write_chatglm_report(run) -> None:
    """Writes results.json, table.md and loss.png into the work directory and prints the table.

    Raises:
        UserError: a stage before it has not been run, or not with these flags on the files that are there.
    """
    publish(run, build_chatglm_report)
    plot_losses(run.work / "loss.png", run.work, run.frameworks, run.title)
