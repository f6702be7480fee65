"""What run_processes.py makes of three trainings' logs."""

import importlib.util

import pytest

from common.files import write_json, write_json_lines
from common.paths import ROOT


@pytest.fixture(scope="module")
def program():
    spec = importlib.util.spec_from_file_location("run_processes", ROOT / "scripts/maintain/run_processes.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def made_up(program, folder, processes, batch, step_ms, losses):
    """A training whose first intervals are slow."""
    folder.mkdir(parents=True)
    write_json_lines(folder / "train_log.jsonl", [
        *({"kind": "train", "step_ms": 500 if index < len(losses) // 2 else step_ms + index % 2, "avg_loss": loss}
          for index, loss in enumerate(losses)),
        {"kind": "validation", "loss": losses[-1], "seconds": 2.0}])
    write_json(folder / "train_summary.json", {
        "device": "a GPU", "version": "1", "precision": "fp32", "processes": processes, "peak_memory_bytes": 3e9,
        "arguments": {"train_batch_size": batch}})
    return program.measured(folder)


@pytest.fixture
def results(program, tmp_path):
    runs = [made_up(program, tmp_path / "small", 1, 8, 20, [4, 3, 2, 1, 1]),
            made_up(program, tmp_path / "whole", 1, 16, 40, [5, 4, 3, 2, 1]),
            made_up(program, tmp_path / "all", 2, 8, 25, [5, 4 * (1 - 2e-6), 3, 2, 1 + 1e-6])]
    return {"command": "python x", "steps": 50, "model_card": "gpt2.md", "processes": 2,
            "frameworks": {"pytorch": program.compared(*runs)}}


def test_speed_and_gap_by_their_definition(results):
    found = results["frameworks"]["pytorch"]
    assert [found[name]["step_ms"] for name in ("one_small", "one_whole", "all")] == [20, 40, 25]
    assert (found["speed_up"], found["efficiency"]) == (40 / 25, 20 / 25)
    assert found["loss_gap"] == pytest.approx(2e-6) and found["validation_loss_gap"] == pytest.approx(1e-6)


def test_the_page_has_a_line_for_each_training(program, results):
    page = program.table(results)
    assert "| PyTorch | 2 × 8 | 25.0 | 640 | 3.0 |" in page and "| PyTorch | 1.60 | 80% | 2.0e-06 | 1.0e-06 |" in page
    assert page.startswith("# gpt2.md in one process and in 2\n") and "On a GPU; fp32" in page


def test_the_other_frameworks_results_stay(program, results, tmp_path):
    path = tmp_path / "processes.json"
    write_json(path, results)
    again = {**results, "frameworks": {}}
    assert set(program.with_others(dict(again), path)["frameworks"]) == {"pytorch"}
    assert program.with_others({**again, "steps": 60}, path)["frameworks"] == {}
