"""run_events.py: its commands, the weights that each row trains, and what it keeps of finished runs."""

import json
import shutil

import numpy as np
import pytest

from common.bench.event_summary import TITLES, events_table
from common.files import write_json, write_json_lines
from common.frameworks import FRAMEWORKS
from common.metrics.events import PARTS, metric_name
from scripts.maintain import run_events


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    for name in ("WORK", "LOG", "FIGURE"):
        monkeypatch.setattr(run_events, name, tmp_path / name.lower())


def write_run(folder, framework, f1, losses, found):
    """Writes what the stages of one run of one framework leave behind."""
    work = folder / framework
    for name in ("train.log", "predict.log"):
        work.mkdir(parents=True, exist_ok=True)
        (work / name).write_text(f"$ cd {folder} && python\n")
    write_json(work / "train_summary.json", {"device": "GPU", "version": "1", "checkpoint_bytes": 600_000})
    write_json_lines(work / "train_log.jsonl", [
        *({"kind": "train", "step": step, "avg_loss": loss} for step, loss in enumerate(losses)),
        *({"kind": "validation", "step": step, "loss": 1.0, "scores": {"classification": {"f1": f1 / (5 - step)}}}
          for step in range(5))])
    write_json(work / "predictions.jsonl.summary.json", {"events": 1})
    write_json_lines(work / "predictions.jsonl", [
        {"arguments": [{"role": "Agent", "start": start, "end": start} for start in found]}])
    scores = {metric_name("classification", part): f1 for part in PARTS}
    write_json(work / "scores.json", {"scores": scores})
    write_json(folder / "results.json", {"title": "PHEE", "frameworks": {
        name: {"roles": {"Agent": {"f1": f1, "gold": 3, "predicted": 2}}} for name in FRAMEWORKS}})
    (folder / "table.md").write_text("table\n")


def lines_by_title():
    """Returns the lines of the table that was kept, by their first cell."""
    return {line.split(" | ")[0].removeprefix("| "): line
            for line in (run_events.LOG / "table.md").read_text().splitlines() if line.startswith("| ")}


def test_what_is_kept():
    for number, (folder, row, seed) in enumerate(run_events.runs_of(run_events.ROWS)):
        write_run(folder, "pytorch", 0.5 + number / 100, [2.0, 1.0], [1, 2, 3])
        write_run(folder, "jittor", 0.5 + number / 100, [2.0, 1.0 + 1e-6 * (row.name == "lora8")],
                  [1, 2, 3, 4] if (row.name, seed) == ("lora16", 111) else [1, 2, 3])
    for folder, _, _ in run_events.runs_of(run_events.floors_of(run_events.ROWS)):
        write_run(folder, "pytorch", 0.5, [2.0, 1.0 + 1e-5], [1, 2])
    write_json(run_events.WORK / "lora8" / "speed_jittor" / "train_summary.json",
               {"step_ms": 7.25, "peak_memory_bytes": 1 << 31})
    run_events.keep(run_events.ROWS)
    lines = lines_by_title()
    assert "| 2.5e-05, 10, 16 | 3 | 0.510 ± 0.010 / 0.510 ± 0.010 / **0.510 ± 0.010** |" in lines["all weights"]
    assert lines["LoRA r 16, heads trained"].split(" | ")[1] == "148,226"
    assert lines["LoRA r 16, heads trained"].endswith("| 0.6 | 0.0e+00 (1.0e-05) | 90.00% (66.67%) |")  # nine of ten
    assert "lora16_noise_floor/seed110/pytorch/train_log.jsonl" in {
        str(path.relative_to(run_events.LOG)) for path in run_events.LOG.rglob("*.jsonl")}
    assert "| 74,498 | 0.0003, 20, 32 | 1 | 0.650 / 0.650 / **0.650** |" in lines["LoRA r 8, heads trained"]
    assert lines["LoRA r 8, heads trained"].endswith("| – / 7.2 | – / 2.00 | 0.6 | 1.0e-06 | 100.00% |")
    assert "| 147,456 | 5e-05, 5, 32 |" in lines["LoRA r 16, heads frozen, full fine-tuning's rate"]
    assert events_table(run_events.LOG, "zh").count("\n") == len(run_events.ROWS) + 1
    kept = {str(path.relative_to(run_events.LOG)) for path in run_events.LOG.rglob("*") if path.is_file()}
    assert {"rows.json", "table.md", "lora16/seed112/jittor/train_log.jsonl", "lora8/speed_jittor.json"} < kept
    assert not any("predictions.jsonl" in name and "summary" not in name for name in kept)
    assert str(run_events.WORK) not in (run_events.LOG / "lora4/seed110/pytorch/train.log").read_text()
    assert sorted(path.name for path in run_events.FIGURE.iterdir()) == ["gaps.png", "lora16_curves.png",
                                                                         "lora16_roles.png", "rows.png"]

    again = [row for row in run_events.ROWS if row.name == "lora8"]
    for folder, _, _ in run_events.runs_of(again):
        write_run(folder, "pytorch", 0.9, [2.0, 1.0], [1, 2, 3])
    (run_events.WORK / "lora8" / "speed_jittor" / "train_summary.json").unlink()
    run_events.keep(again)
    later = lines_by_title()
    changed = later.pop("LoRA r 8, heads trained")
    assert "**0.900** |" in changed and "| – / 7.2 | – / 2.00 |" in changed  # the speed is still that of before
    assert later == {title: line for title, line in lines.items() if title in later} and len(later) == len(lines) - 1


def test_a_row_that_was_trained_elsewhere_gets_a_new_speed_alone():
    for folder, _, _ in run_events.runs_of(run_events.ROWS):
        for framework in FRAMEWORKS:
            write_run(folder, framework, 0.5, [2.0, 1.0], [1])
    run_events.keep(run_events.ROWS)
    before = lines_by_title()
    shutil.rmtree(run_events.WORK)
    write_json(run_events.WORK / "lora4" / "speed_pytorch" / "train_summary.json",
               {"step_ms": 5.0, "peak_memory_bytes": 1 << 30})
    run_events.keep(run_events.ROWS)
    after = lines_by_title()
    title = "LoRA r 4, heads trained"
    assert after.pop(title) == before.pop(title).replace("| – / – | – / – |", "| 5.0 / – | 1.00 / – |")
    assert after == before and (run_events.LOG / "lora4" / "speed_pytorch.json").is_file()


def test_a_noise_floor_starts_one_unit_in_the_last_place_up():
    rows = {row.name: row for row in run_events.ROWS}
    assert 0.0003 < run_events.flags_of(run_events.floor_of(rows["lora16"]))["lr"] < 0.0003000001
    floor = run_events.flags_of(run_events.floor_of(rows["all_weights_fp64"]))
    assert floor["lr"] == np.nextafter(0.00004, 1) and floor["fp64"]


def test_every_row_has_a_title_and_weights():
    assert [row.name for row in run_events.ROWS] == list(TITLES)
    weights = {row.name: run_events.trained_weights(row) for row in run_events.ROWS}
    assert weights["lora4"] == 37_634 and weights["lora16_slow"] == 148_226


def test_the_commands(monkeypatch, capsys):
    jobs, devices = [], []

    def run_all(found, where, at_once, deadline):
        jobs.extend(found)
        devices.extend(where)
        return []

    monkeypatch.setattr(run_events, "run_all", run_all)
    assert run_events.main(["--stages", "train,score", "--only", "lora16_frozen", "--framework", "jittor"]) == 0
    assert [label for label, *_ in jobs] == ["lora16_frozen/seed110 jittor"]
    words = jobs[0][1]
    assert words[1:6] == ["scripts/run_eae.py", "--preset", "phee", "--framework", "jittor"]
    assert words[words.index("--stages") + 1] == "train,score" and words[words.index("--heads") + 1] == "frozen"
    jobs.clear()
    devices.clear()
    assert run_events.main(["--stages", "train", "--only", "all_weights", "--devices", "0,1"]) == 0
    assert devices == ["0", "1"]
    assert [label for label, *_ in jobs].count("all_weights_noise_floor/seed110 pytorch") == 1 and len(jobs) == 7
    jobs.clear()
    assert run_events.main(["--stages", "report"]) == 0
    assert len(jobs) == 20 and all("both" in words for _, words, _ in jobs)
    monkeypatch.setattr(run_events, "run_all", lambda *others: ["lora4/seed110 jittor"])
    assert run_events.main(["--stages", "train,report,keep", "--only", "lora4"]) == 1
    assert "not done: 'lora4/seed110 jittor'" in capsys.readouterr().err


def test_alike_takes_the_worst_gap():
    for framework, losses in (("pytorch", [1.0, 2.0, 4.0]), ("jittor", [1.0, 2.0002, 4.0])):
        write_run(run_events.WORK / "a", framework, 0.5, losses, [1])
    gap, equal = run_events.alike([[(run_events.WORK / "a", framework) for framework in FRAMEWORKS]])
    assert gap == pytest.approx(1e-4, rel=1e-3) and equal == 1.0
    assert np.isfinite(gap) and json.loads((run_events.WORK / "a" / "results.json").read_text())["title"] == "PHEE"
