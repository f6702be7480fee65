"""The other tasks' drivers from made-up data to the table, short, in one framework each; answers to one question."""

import os
import subprocess
import sys

import pytest
from test_pipeline import run_driver

SHORT = ["--max_step", "8", "--log_interval", "4", "--warmup_step", "2", "--beam", "2", "--eval_len", "16"]


def rows_of(work):
    table = (work / "table.md").read_text(encoding="utf-8")
    return [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines() if line.startswith("| ")]


@pytest.mark.parametrize("task, framework, parts", [
    ("webnlg", "pytorch", (", unseen", ", seen", ", all categories")), ("dart", "jittor", ("",))])
def test_from_triples_to_scores(task, framework, parts, project_root, tmp_path):
    run_driver(project_root, tmp_path, *SHORT, "--framework", framework, task=task)
    expected = [f"{metric}{part} (all references)" for part in parts for metric in ("BLEU", "METEOR", "chrF++", "TER")]
    assert [name for name in rows_of(tmp_path) if "references" in name] == expected
    folder = tmp_path / framework / ("all_references" + "_unseen" * (task == "webnlg"))
    references = [(folder / f"references/reference{number}").read_text(encoding="utf-8").splitlines()
                  for number in range(6)]
    predictions = (folder / "predictions.txt").read_text(encoding="utf-8").splitlines()
    # The demo's test set: 16 unseen sets of WebNLG's 40, or DART's 40.
    assert len(predictions) == (16 if task == "webnlg" else 40)
    assert all(len(column) == len(predictions) for column in references)
    assert (tmp_path / "loss_curve.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def squad(project_root, tmp_path_factory):
    work = tmp_path_factory.mktemp("squad")
    run_driver(project_root, work, *SHORT, "--framework", "pytorch", task="squad")
    return work


def test_from_passages_to_scores(squad):
    assert [name for name in rows_of(squad) if name in ("exact match", "F1")] == ["exact match", "F1"]
    assert "LoRA on q,k,v,o,fc,proj" in (squad / "table.md").read_text(encoding="utf-8")


def ask(project_root, checkpoint, *words):
    return subprocess.run([sys.executable, "scripts/answer.py", "--checkpoint", checkpoint, "--device", "cpu", *words],
                          cwd=project_root, capture_output=True, text=True, timeout=600,
                          env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})


def test_both_frameworks_answer_a_question_alike(squad, project_root):
    passage, question = "Tallow Hall was designed by Maren Orme. It stands in Carrow.", "Who designed Tallow Hall?"
    answers = []
    for framework in ("pytorch", "jittor"):
        result = ask(project_root, squad / "pytorch/model.8.safetensors", "--framework", framework, passage, question)
        assert result.returncode == 0, result.stderr[-3000:]
        assert result.stdout.count("\n") == 1 and "distinct contexts" in result.stderr
        answers.append(result.stdout)
    assert answers[0] == answers[1]


def test_a_question_that_cannot_be_answered(squad, project_root):
    checkpoint = squad / "pytorch/model.8.safetensors"
    result = ask(project_root, checkpoint, "A passage.", " ")
    assert result.returncode == 2 and "the question is blank" in result.stderr
    backbone = project_root / "pretrained_checkpoints/gpt2-nano/model.safetensors"
    result = ask(project_root, backbone, "A passage.", "What?")
    assert result.returncode == 2 and "does not say which model it belongs to" in result.stderr and not result.stdout
