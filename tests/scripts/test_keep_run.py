"""keep_run on made-up finished runs: what is kept under which name, what is refused, that nothing is lost."""

import json
import os
import shlex
import sys

import pytest

from common.drivers.commands import files_of
from common.drivers.pipeline import Run, parse
from common.drivers.report import write_report
from common.errors import UserError
from common.files import read_json, sha256_of, write_json, write_json_lines
from common.paths import ROOT
from scripts.maintain import keep_run

PREDICTED = "A price of /a/b/c ."
STAGES = ("train", "beam", "decode", "score")


def write_results(run, framework):
    """Writes what the stages of one framework leave, with paths of this machine in it."""
    work, scoring = run.work / framework, run.task.scoring
    write_json_lines(work / "train_log.jsonl", [
        {"kind": "train", "epoch": 1, "step": 8, "loss": 2.0, "avg_loss": 2.5},
        {"kind": "validation", "epoch": 1, "step": 8, "loss": 2.25}])
    (work / "model.8.safetensors").write_bytes(b"weights")
    write_json(work / "train_summary.json", {
        "framework": framework, "version": "1.0", "device": "CPU, 2 threads", "precision": "fp32", "steps": 8,
        "epochs": 1, "seconds": 60.0, "step_ms": 5.0, "peak_memory_bytes": 2**30, "valid_loss": 2.25,
        "checkpoint": f"{work}/model.8.safetensors",
        "arguments": {"train_batch_size": 8, "lr": 0.003, "lora_targets": "q,v", "random_seed": 110,
                      "label_smooth": 0.0, "train_data": "/some/where/train.jsonl"}})
    write_json_lines(work / "predict.jsonl", [{"id": 0, "predict": [1, 2]}])
    write_json(work / "predict.jsonl.summary.json", {
        "framework": framework, "version": "1.0", "device": "CPU, 2 threads", "precision": "fp32", "rows": 1,
        "contexts": 1, "seconds": 2.0, "peak_memory_bytes": 2**30})
    for score_set in run.score_sets:
        folder = work / score_set.name
        for name in scoring.reference_files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("a reference\n")
        (folder / scoring.predictions).write_text(f"{PREDICTED} {score_set.part}\n")
        write_json(folder / "scores.json", {
            "scores": dict.fromkeys(scoring.metrics, 0.5), "intervals": dict.fromkeys(scoring.metrics, [0.4, 0.6]),
            "inputs": {"path": str(folder / scoring.predictions)}})


def finish(work, *words):
    """Makes a work directory as the driver leaves it after ``words``, and returns its Run."""
    run = Run(*parse([*words, "--work_dir", str(work)]))
    for framework in run.frameworks:
        write_results(run, framework)
        for stage in STAGES:
            for command in run.commands(framework, stage):
                command.log.write_text(f"$ cd NLG_{framework} && {shlex.join(command.words)}\nprinted by {stage} in "
                                       f"{ROOT}/NLG_{framework}\n")
                # Data and vocabulary need not be there.
                write_json(work / framework / "stamps" / f"{command.name}.json", {
                    "words": command.words, "seconds": 1.0,
                    "files": {name: sha256_of(path) if path.is_file() else "0" * 64
                              for name, path in files_of(command).items()}})
    write_report(run)
    return run


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Where log/ and figure/ are in a test; the interpreters' paths are absolute, as a user's may be."""
    monkeypatch.setattr(keep_run, "LOG", tmp_path / "log")
    monkeypatch.setattr(keep_run, "FIGURE", tmp_path / "figure")
    for framework in ("PYTORCH", "JITTOR"):
        monkeypatch.setenv(f"PYTHON_{framework}", sys.executable)
    return tmp_path


@pytest.fixture
def work(places):
    """The work directory of a finished run of the PyTorch tree."""
    finish(places / "work", "e2e", "--framework", "pytorch")
    return places / "work"


def everything_in(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("task", ["e2e", "webnlg", "dart", "squad"])
def test_what_is_kept_has_the_names_of_the_committed_logs(places, task):
    finish(places / "work", task, "--preset", "sampled", "--model_card", "gpt2.nano")
    keep_run.main([str(places / "work")])
    name, log = f"{task}_sampled_gpt2-nano", ROOT / "log" / task / "seed110"
    committed = {str(path.relative_to(log)) for path in log.rglob("*")}
    assert {str(path.relative_to(places / "log" / name)) for path in (places / "log" / name).rglob("*")} == committed
    assert (places / "figure" / f"{name}_loss.png").read_bytes().startswith(b"\x89PNG")


def test_numbers_are_kept_and_the_machine_is_not(work, places):
    keep_run.main([str(work)])
    kept = places / "log" / "e2e_demo_gpt2-nano"
    logs = {path.name: path.read_text() for path in (kept / "pytorch").iterdir()}
    assert logs["train.log"].startswith("$ cd NLG_pytorch && python src/gpt2_ft.py --train_data data/demo/train.jsonl ")
    assert logs["beam.log"].startswith("$ cd NLG_pytorch && python src/gpt2_beam.py --data data/demo/test.jsonl ")
    assert logs["train.log"].endswith("\nprinted by train in ./NLG_pytorch\n")
    assert logs["predictions.txt"] == f"{PREDICTED} all\n"
    summary, found = (read_json(path / "pytorch" / "train_summary.json") for path in (work, kept))
    assert found["arguments"].pop("train_data") == "DIR/train.jsonl" and summary["arguments"].pop("train_data")
    assert found.pop("checkpoint").endswith("work/pytorch/model.8.safetensors") and summary.pop("checkpoint")
    assert found == summary
    assert read_json(kept / "pytorch" / "beam_summary.json") == read_json(work / "pytorch/predict.jsonl.summary.json")
    assert (kept / "table.md").read_text() == (work / "table.md").read_text()
    for name, content in everything_in(kept).items():
        for path in (ROOT, places, sys.executable, "/some/where"):
            assert str(path) not in content.decode(), name
    assert read_json(kept / "results.json")["command"].startswith("bash scripts/run_task.sh e2e --framework pytorch")


def test_webnlg_keeps_the_texts_of_all_categories(places):
    finish(places / "work", "webnlg", "--framework", "jittor")
    keep_run.main([str(places / "work")])
    kept = places / "log" / "webnlg_demo_gpt2-nano" / "jittor"
    assert (kept / "predictions.txt").read_text() == f"{PREDICTED} all\n"


@pytest.mark.parametrize("damage, sentence", [
    (lambda work: (work / "results.json").unlink(), "no results.json there; expected the folder of a run"),
    (lambda work: (work / "pytorch/stamps/train.json").unlink(), "the stage train has not ended"),
    (lambda work: (work / "pytorch/stamps/score_all_references.json").unlink(),
     "the stage score_all_references has not ended"),
    (lambda work: (work / "pytorch/all_references/scores.json").unlink(), "scores.json: is not there"),
    (lambda work: (work / "pytorch/all_references/predictions.txt").write_text("other\n"),
     "predictions.txt: has changed since the stage decode_all_references ended"),
    (lambda work: (work / "pytorch/model.8.safetensors").write_bytes(b"trained again"),
     "model.8.safetensors: has changed since the stage train ended"),
    (lambda work: write_json_lines(work / "pytorch/train_log.jsonl", [{"kind": "train", "step": 8, "avg_loss": 1.0}]),
     "train_log.jsonl: has changed since the stage train ended"),
    (lambda work: (work / "table.md").write_text("| better |\n"), "not the report of the files beside them"),
    (lambda work: (work / "jittor").mkdir(), "holds jittor/, which the report does not show"),
    (lambda work: write_json(work / "results.json", {"title": "old"}), "does not say which command wrote it")])
def test_a_run_that_is_not_finished_is_refused(work, places, damage, sentence):
    damage(work)
    with pytest.raises(UserError, match=sentence):
        keep_run.main([str(work)])
    assert not (places / "log").exists() and not (places / "figure").exists()


def test_weights_need_not_be_there_any_more(work, places):
    (work / "pytorch" / "model.8.safetensors").unlink()
    keep_run.main([str(work)])
    assert (places / "log" / "e2e_demo_gpt2-nano" / "pytorch" / "train.log").is_file()


def test_a_kept_run_is_replaced_by_force_alone(work, places):
    keep_run.main([str(work), "--name", "a_run"])
    (places / "log" / "a_run" / "jittor").mkdir()
    (places / "log" / "a_run" / "jittor" / "train.log").write_text("of an earlier run\n")
    before = everything_in(places / "log")
    with pytest.raises(UserError, match="a_run: is there already; --force replaces it"):
        keep_run.main([str(work), "--name", "a_run"])
    assert everything_in(places / "log") == before
    keep_run.main([str(work), "--name", "a_run", "--force"])
    assert sorted(os.listdir(places / "log" / "a_run")) == ["pytorch", "results.json", "table.md"]
    assert os.listdir(places / "log") == ["a_run"]


def test_a_figure_of_that_name_is_not_overwritten(work, places):
    (places / "figure").mkdir()
    (places / "figure" / "a_run_loss.png").write_bytes(b"another")
    with pytest.raises(UserError, match="a_run_loss.png: is there already"):
        keep_run.main([str(work), "--name", "a_run"])
    assert not (places / "log").exists()


def test_force_replaces_nothing_but_kept_runs(work, places):
    write_json(places / "log" / "bench" / "medium.json", {"cases": []})
    with pytest.raises(UserError, match="bench: holds medium.json, which is no part of a kept run"):
        keep_run.main([str(work), "--name", "bench", "--force"])
    assert read_json(places / "log" / "bench" / "medium.json") == {"cases": []}


@pytest.mark.parametrize("program", ["plot_losses", "write_kept"])
def test_what_fails_on_the_way_leaves_all_as_it_was(work, places, monkeypatch, program):
    keep_run.main([str(work)])
    before = everything_in(places / "log")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(keep_run, program, fail)
    with pytest.raises(OSError, match="disk full"):
        keep_run.main([str(work), "--force"])
    assert everything_in(places / "log") == before


def test_a_kept_run_survives_a_failure_of_its_replacement(work, places, monkeypatch):
    keep_run.main([str(work)])
    before, rename = everything_in(places / "log"), os.rename

    def fail_for_the_new_one(source, target):
        if source.name == "new":
            raise OSError("no such device")
        rename(source, target)

    monkeypatch.setattr(os, "rename", fail_for_the_new_one)
    with pytest.raises(OSError, match="no such device"):
        keep_run.main([str(work), "--force"])
    assert everything_in(places / "log") == before


def test_several_seeds_lie_side_by_side(places):
    for seed in (1, 2):
        work = places / f"work{seed}"
        finish(work, "e2e", "--framework", "pytorch", "--random_seed", str(seed))
        keep_run.main([str(work), "--name", f"e2e_seeds/seed{seed}"])
    assert sorted(os.listdir(places / "log" / "e2e_seeds")) == ["seed1", "seed2"]
    assert sorted(os.listdir(places / "figure" / "e2e_seeds")) == ["seed1_loss.png", "seed2_loss.png"]
    for seed in (1, 2):
        log = (places / "log" / "e2e_seeds" / f"seed{seed}" / "pytorch" / "train.log").read_text()
        assert f"--random_seed {seed} " in log


@pytest.mark.parametrize("name", ["../elsewhere", "/elsewhere", "a//b", ".hidden", "a/", ""])
def test_a_name_stays_inside_the_log_folder(name):
    with pytest.raises(UserError, match="expected a name, or folders and a name"):
        keep_run.checked_name(name)


def test_the_report_says_which_command_wrote_it(work):
    command = json.loads((work / "results.json").read_text())["command"]
    assert command == f"bash scripts/run_task.sh e2e --framework pytorch --work_dir {work}"
