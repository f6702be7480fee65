"""The tables of the README: made from what logs hold, and nothing else."""

import pytest

from common.bench.summary import HEADLINES, runs_table, speed_table
from common.drivers.tasks import TASKS
from common.errors import UserError
from common.files import write_json


def write_run(folder, title, score, values, **more):
    """Writes a results.json with a validation loss and one score of each framework."""
    frameworks = {name: {"description": {"steps": 453}, "arguments": {"lr": 0.0002},
                         "numbers": {"validation loss": loss, score: value}}
                  for name, loss, value in zip(("pytorch", "jittor"), (1.23456, 1.5), values)}
    write_json(folder / "results.json", {"title": title, "frameworks": frameworks, "same_predictions": 0.25, **more})


def test_runs_come_in_the_tasks_order_with_their_notes_once(tmp_path):
    old, other = {"en": "Older.", "zh": "较早。"}, {"en": "Odd.", "zh": "奇怪。"}
    write_run(tmp_path / "a", "DART, all, gpt2.nano", "BLEU (all references)", (43.214, 44.0), note=old)
    write_run(tmp_path / "b", "WebNLG, all, gpt2.nano", "BLEU, all categories (all references)", (50, 51), note=other)
    write_run(tmp_path / "c", "E2E, all, gpt2.nano", "BLEU (all references)", (0.65432, 0.7))
    write_run(tmp_path / "d", "SQuAD v1.1, all, gpt2.nano", "F1", (24.371, 24.5), note=old)
    (tmp_path / "e").mkdir()
    numbers = "453, 0.0002 | 1.2346 | 1.5000"
    assert runs_table(tmp_path, "en").splitlines()[2:] == [
        f"| [E2E, all, gpt2.nano](log/c/table.md) | {numbers} | BLEU 65.43 | 70.00 | 25.0% |",
        f"| [WebNLG, all, gpt2.nano](log/b/table.md) \\* | {numbers} | BLEU 50.00 | 51.00 | 25.0% |",
        f"| [DART, all, gpt2.nano](log/a/table.md) \\*\\* | {numbers} | BLEU 43.21 | 44.00 | 25.0% |",
        f"| [SQuAD v1.1, all, gpt2.nano](log/d/table.md) \\*\\* | {numbers} | F1 24.37 | 24.50 | 25.0% |",
        "", "\\* Odd.", "", "\\*\\* Older."]
    assert runs_table(tmp_path, "zh").endswith("\n\n\\* 奇怪。\n\n\\*\\* 较早。")


def test_every_task_has_a_score_that_stands_for_it():
    assert list(HEADLINES) == [task.title for task in TASKS.values()]
    for task in TASKS.values():
        assert HEADLINES[task.title][0].split(",")[0].split(" (")[0] in task.scoring.metrics.values()


def test_a_run_that_does_not_fit_is_named(tmp_path):
    write_run(tmp_path / "a", "E2E, all, gpt2.nano", "NIST (all references)", (1, 2))
    with pytest.raises(UserError, match=r"a/results\.json: no 'BLEU \(all references\)'"):
        runs_table(tmp_path, "en")
    write_run(tmp_path / "a", "Weather, all", "BLEU (all references)", (1, 2))
    with pytest.raises(UserError, match=r"a/results\.json: the title 'Weather, all' begins with none of E2E, WebNLG"):
        runs_table(tmp_path, "en")


def case(program, system, precision, variant="", **more):
    return {"program": program, "system": system, "precision": precision, "variant": variant, "model_card": "gpt2.md",
            "device": "A GPU", "data": "E2E", "on": "cuda", "when": "2026-01-02T03:04:05+0000",
            "peak_memory_bytes": 1.5e9, **more}


def test_speed_has_a_column_for_each_program_and_a_line_for_each_precision(tmp_path):
    step = {"batch_size": 8, "ms_per_step": {"median": 12.345}}
    beam = {"beam": 10, "contexts": 630, "seconds": 20.0}
    write_json(tmp_path / "one.json", {"cases": [
        case("beam", "pytorch", "fp32", **beam), case("train", "jittor", "fp32", **step),
        case("train", "pytorch", "fp32", **step), case("train", "pytorch", "fp32", "every row 512 long", **step),
        case("eval", "jittor", "fp32", rows=9, seconds=1.0), case("eval", "pytorch", "fp32", error="out of memory"),
        case("beam", "peft", "fp32", **{**beam, "contexts": 32}, contexts_of_the_set=630, seconds_for_the_set=99.5),
        case("train", "peft", "fp32", "padded to 512", **step),
        case("train", "peft", "tf32", "padded to the longest row", **step)]})
    assert speed_table(tmp_path, "en").splitlines() == [
        "**gpt2.md on A GPU**, measured on 2026-01-02", "",
        "|  | precision | PyTorch | Jittor | Hugging Face PEFT |", "| --- | --- | ---: | ---: | ---: |",
        "| training step, batch of 8, ms | fp32 | 12.35 (1.50 GB) | 12.35 (1.50 GB) | – |",
        "| training step, batch of 8, ms | tf32 | – | – | 12.35 (1.50 GB) |",
        "| validation, 9 rows, s | fp32 | – | 1.00 (1.50 GB) | – |",
        "| beam search, beam 10, 630 inputs, s | fp32 | 20.00 (1.50 GB) | – | 99.50 (1.50 GB) |"]
