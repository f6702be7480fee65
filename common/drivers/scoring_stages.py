"""The stages from predicted ids to scores, as a task describes them."""

import os
from dataclasses import dataclass
from pathlib import Path

from common.data.rows import read_formatted
from common.drivers.tasks import as_words
from common.model.weight_files import say_once
from common.paths import ROOT
from common.vocabulary import VOCABULARY_SHA256

BOOTSTRAP = 1000  # resamples; the usual number, and scoring them takes a fraction of what METEOR takes


@dataclass(frozen=True)
class ScoreSet:
    """References that predictions are scored against.

    Attributes:
        name: of its folder.
        label: what follows a metric's name in tables.
        part: which contexts, as ``--filter`` of gpt2_decode.py says it.
        references: formatted file that holds them.
    """

    name: str
    label: str
    part: str
    references: Path


def parts_of(scoring, formatted):
    """Returns the parts of a Scoring that the rows of a formatted file have; says which one has no row.

    Where there is no such file, or it does not say which part a row is of, all parts are returned.
    """
    if len(scoring.parts) == 1 or not formatted.is_file():
        return scoring.parts
    is_seen = {str(record.get("cate")) for _, record in read_formatted(formatted)}
    if not is_seen <= {"True", "False"}:
        return scoring.parts
    empty = [part for part in scoring.parts if part != "all" and str(part == "seen") not in is_seen]
    for part in empty:
        say_once(f"{os.path.relpath(formatted, ROOT)}: no row is of {part} categories; their scores are left out")
    return tuple(part for part in scoring.parts if part not in empty)


def score_sets(task, data, full, is_line_sample):
    """Returns the ScoreSets of a run.

    Args:
        task: Task.
        data: folder of the rows that were predicted.
        full: folder of the data set that they were sampled from.
        is_line_sample: whether they are a sample of rows, which has only some of the references of its contexts.
    """
    if not task.scoring.pooled_references:
        return [ScoreSet("answers", "", "all", data / "test_formatted.jsonl")]
    sources = {"all_references": data}
    if is_line_sample:
        sources = {"all_references": full, "sampled_references": data}
    parts = {part: (f"_{part}", f", {part.replace('all', 'all categories')}") for part in task.scoring.parts}
    if len(parts) == 1:
        parts = dict.fromkeys(parts, ("", ""))
    present = parts_of(task.scoring, data / "test_formatted.jsonl")
    return [ScoreSet(name + ending, f"{words} ({name.replace('_', ' ')})", part, folder / "test_formatted.jsonl")
            for name, folder in sources.items() for part, (ending, words) in parts.items() if part in present]


def decode_command(scoring, score_set, command, work, data):
    """Returns the command that turns predicted ids into texts, beside their references.

    Args:
        scoring: Scoring.
        score_set: ScoreSet.
        command: ``(name, words, inputs, outputs) -> Command``.
        work: the framework's work directory.
        data: folder of the rows that were predicted.
    """
    folder, formatted = work / score_set.name, data / "test_formatted.jsonl"
    inputs = [work / "predict.jsonl", formatted, *(ROOT / "vocab" / name for name in VOCABULARY_SHA256)]
    other = ["--reference_file", score_set.references] if score_set.references != formatted else []
    part = ["--filter", score_set.part] if len(scoring.parts) > 1 else []
    predictions = folder / scoring.predictions
    return command(f"decode_{score_set.name}", [
        "src/gpt2_decode.py", "--vocab", ROOT / "vocab", "--sample_file", inputs[0], "--input_file", formatted, *other,
        *as_words(scoring.decode), *part, "--output_ref_file", folder / scoring.references, "--output_pred_file",
        predictions], [*inputs, *other[1:]], [predictions, *(folder / name for name in scoring.reference_files)])


def score_command(scoring, score_set, command, work):
    """Returns the command that scores the texts; arguments as for decode_command."""
    folder = work / score_set.name
    files = {"references": folder / scoring.references, "predictions": folder / scoring.predictions}
    words = [Path(word.format(**files)) if "{" in word else word for word in scoring.score]
    return command(f"score_{score_set.name}", [*words, "--bootstrap", str(BOOTSTRAP), "--json", folder / "scores.json"],
                   [folder / scoring.predictions, *(folder / name for name in scoring.reference_files)],
                   [folder / "scores.json"])
