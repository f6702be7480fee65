"""The report is of one run: of its flags, on what each stage before it wrote, alike in both frameworks."""

import copy

import pytest

from common.drivers import report
from common.drivers.commands import digest_of, files_of
from common.drivers.pipeline import Run, parse
from common.drivers.report import check_alike, check_stages, same_predictions, write_report
from common.errors import UserError
from common.files import read_json, write_json, write_json_lines
from common.frameworks import FRAMEWORKS
from common.metrics.e2e import METRICS

ROWS = 5


def stamp(run, framework, stage):
    """Writes the stamps of a stage as if its commands had just ended."""
    for command in run.commands(framework, stage):
        files = {name: digest_of(path) for name, path in files_of(command).items()}
        write_json(run.work / framework / "stamps" / f"{command.name}.json", {"words": command.words, "files": files})


def write_stage(run, framework, stage, bleu=0.5):
    """Writes what a stage writes, and its stamps."""
    folder = run.work / framework
    if stage == "train":
        steps = run.training.get("max_step", 9)
        write_json(folder / "train_summary.json", {
            "framework": framework, "version": "1", "device": "CPU", "precision": "fp32", "steps": steps, "epochs": 1,
            "valid_loss": 1.5, "seconds": 60.0, "step_ms": 5.0, "peak_memory_bytes": 1 << 30,
            "checkpoint": f"model.{steps}.safetensors",
            "arguments": {"lr": run.training["lr"], "train_batch_size": 4, "lora_targets": "q,v", "random_seed": 1,
                          "label_smooth": 0.1, "work_dir": str(folder), "device": framework}})
        write_json_lines(folder / "train_log.jsonl", [{"kind": "train", "step": 3, "avg_loss": 2.0}])
        (folder / f"model.{steps}.safetensors").write_text(f"weights of {run.training['lr']}")
    elif stage == "beam":
        write_json_lines(folder / "predict.jsonl", ({"id": row, "predict": [row]} for row in range(ROWS)))
        write_json(folder / "predict.jsonl.summary.json", {"rows": ROWS, "contexts": 3, "seconds": 2.0})
    elif stage == "decode":
        for name in ("references.txt", "predictions.txt"):
            (folder / "all_references").mkdir(exist_ok=True)
            (folder / "all_references" / name).write_text("text\n")
    else:
        write_json(folder / "all_references" / "scores.json",
                   {"scores": dict.fromkeys(METRICS, bleu), "intervals": dict.fromkeys(METRICS, [bleu, bleu])})
    stamp(run, framework, stage)


@pytest.fixture
def make_run(tmp_path, monkeypatch):
    """``make_run(*flags)`` returns the Run in one work directory, on data of its own."""
    monkeypatch.setattr(report, "plot_losses", lambda path, *rest: path.write_bytes(b"PNG"))
    data = tmp_path / "data"
    data.mkdir()
    for name in ("train.jsonl", "valid.jsonl", "test.jsonl", "test_formatted.jsonl"):
        (data / name).write_text("{}\n")

    def make(*flags):
        run = Run(*parse(["e2e", "--work_dir", str(tmp_path / "work"), "--max_step", "9", *flags]))
        run.data = data
        return run
    return make


@pytest.fixture
def finished(make_run):
    run = make_run()
    for framework in FRAMEWORKS:
        for stage in ("train", "beam", "decode", "score"):
            write_stage(run, framework, stage)
    return run


def test_a_finished_run_is_reported(finished):
    write_report(finished)
    document = read_json(finished.work / "results.json")
    assert document["same_predictions"] == 1.0
    assert document["frameworks"]["jittor"]["numbers"]["BLEU (all references)"] == 0.5


def test_what_a_scorer_notes_stands_below_the_table(finished):
    path = finished.work / "jittor" / "all_references" / "scores.json"
    write_json(path, {**read_json(path), "notes": ["BLEU is 234.0000, expected more than 0 and at most 1"]})
    stamp(finished, "jittor", "score")
    write_report(finished)
    assert ("Jittor: The scores (all references) have a note: BLEU is 234.0000, expected more than 0 and at most 1."
            in (finished.work / "table.md").read_text().splitlines())


@pytest.mark.parametrize("flags, stage, difference", [
    (["--lr", "0.5"], "train", "--lr was 0.001 and is 0.5"), (["--beam", "3"], "beam", "--beam was 10 and is 3"),
    (["--max_step", "3"], "train", "--max_step was 9 and is 3")])
def test_a_report_with_other_flags_than_the_stages_is_refused(finished, make_run, flags, stage, difference):
    with pytest.raises(UserError, match=rf"the stage {stage} ran with other flags than these: {difference} \(.*; give "
                                        f"the flags that it ran with, or run that stage and those after it again: "
                                        f"--stages {stage}"):
        write_report(make_run(*flags))
    assert not (finished.work / "results.json").exists()


def test_interpreter_and_device_may_be_others(finished, make_run, monkeypatch):
    monkeypatch.setenv("PYTHON_PYTORCH", "/usr/bin/python3")
    write_report(make_run("--device", "cpu"))


def test_scores_of_the_weights_before_are_not_reported_beside_new_ones(finished, make_run):
    """Another training in a finished work directory, and the report right after it: with its flags, and without."""
    run = make_run("--max_step", "3", "--lr", "0.0001")
    write_stage(run, "pytorch", "train")
    with pytest.raises(UserError, match="the stage beam ran with other flags"):
        write_report(run)
    with pytest.raises(UserError, match="the stage train ran with other flags"):
        write_report(finished)


def test_new_weights_under_the_name_of_the_old_ones(finished):
    (finished.work / "pytorch" / "model.9.safetensors").write_text("weights of another run")
    stamp(finished, "pytorch", "train")
    with pytest.raises(UserError, match="model.9.safetensors: has changed since the stage beam ended .*--stages beam"):
        write_report(finished)


@pytest.mark.parametrize("name, stage", [
    ("train_log.jsonl", "train"), ("predict.jsonl", "beam"), ("predict.jsonl.summary.json", "beam"),
    ("all_references/predictions.txt", "decode_all_references"),
    ("all_references/scores.json", "score_all_references")])
def test_a_file_that_is_not_the_stage_s_any_more_is_named(finished, name, stage):
    path = finished.work / "jittor" / name
    path.write_text(path.read_text() + "\n")
    with pytest.raises(UserError, match=f"{path}: has changed since the stage {stage} ended"):
        write_report(finished)


def test_a_checkpoint_that_was_deleted_is_missed(finished):
    (finished.work / "jittor" / "train_summary.json").unlink()
    with pytest.raises(UserError, match="train_summary.json: is not there"):
        write_report(finished)


def test_data_that_changed_is_named(finished):
    (finished.data / "valid.jsonl").write_text("{}{}\n")
    with pytest.raises(UserError, match="valid.jsonl: has changed since the stage train ended"):
        write_report(finished)


def test_data_need_not_be_there_but_was_the_same(finished):
    path = finished.data / "valid.jsonl"
    path.write_text("{}{}\n")
    stamp(finished, "jittor", "train")
    path.unlink()
    with pytest.raises(UserError, match="valid.jsonl: jittor's train read or wrote another file of this name"):
        check_stages(finished)
    path.write_text("{}{}\n")
    stamp(finished, "pytorch", "train")
    path.unlink()
    check_stages(finished)


def test_one_framework_alone_is_reported(finished, make_run):
    (finished.work / "jittor" / "predict.jsonl").unlink()
    write_report(make_run("--framework", "pytorch"))
    assert "same_predictions" not in read_json(finished.work / "results.json")


def results_of(run):
    return {framework: report.collect(run.work, framework, run.task.scoring, run.score_sets)
            for framework in run.frameworks}


@pytest.mark.parametrize("part, name, value, sentence", [
    ("arguments", "lr", 0.25, "--lr 0.001 and 0.25"), ("arguments", "extra", True, "--extra None and True"),
    ("description", "steps", 3, "steps 9 and 3"), ("description", "precision", "bf16", "precision 'fp32' and 'bf16'"),
    ("test", "contexts", 2, "test contexts 3 and 2")])
def test_frameworks_that_ran_on_different_things_are_not_compared(finished, part, name, value, sentence):
    results = results_of(finished)
    check_alike(results)
    other = copy.deepcopy(results)
    other["jittor"][part][name] = value
    with pytest.raises(UserError, match=f"PyTorch and Jittor are not of one run: {sentence}; run the stages"):
        check_alike(other)


def test_the_share_of_equal_rows(finished):
    path = finished.work / "jittor" / "predict.jsonl"
    write_json_lines(path, ({"id": row, "predict": [row] if row else [9]} for row in reversed(range(ROWS))))
    assert same_predictions(finished.work, results_of(finished)) == 0.8


@pytest.mark.parametrize("ids, sentence", [
    (range(3), "holds 3 rows, but beam search wrote 5"), (range(1, 6), "other rows in pytorch than in jittor")])
def test_predictions_of_other_rows_are_not_compared(finished, ids, sentence):
    write_json_lines(finished.work / "jittor" / "predict.jsonl", ({"id": row, "predict": [row]} for row in ids))
    with pytest.raises(UserError, match=sentence):
        same_predictions(finished.work, results_of(finished))


def test_a_checkpoint_of_all_weights_goes_alone(make_run):
    for flags, expected in (([], ["--init_checkpoint", "--lora_checkpoint"]), (["--lora_dim", "0"],
                                                                              ["--init_checkpoint"])):
        run = make_run(*flags)
        write_json(run.work / "pytorch" / "train_summary.json", {"checkpoint": "model.9.safetensors"})
        (command,) = run.commands("pytorch", "beam")
        assert [word for word in command.words if word.endswith("_checkpoint")] == expected
        assert command.words[command.words.index(expected[-1]) + 1].endswith("model.9.safetensors")
