"""The other tasks' drivers from made-up data to the table, short, in one framework each; answers to one question."""

import sys

import pytest

from tests.alignment.programs import run, run_driver

pytestmark = pytest.mark.slow
SHORT = ["--max_step", "8", "--log_interval", "4", "--warmup_step", "2", "--beam", "2", "--eval_len", "16"]


def rows_of(work):
    table = (work / "table.md").read_text(encoding="utf-8")
    return [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines() if line.startswith("| ")]


@pytest.mark.java
@pytest.mark.parametrize("task, framework, parts", [
    ("webnlg", "pytorch", (", unseen", ", seen", ", all categories")), ("dart", "jittor", ("",))])
def test_from_triples_to_scores(task, framework, parts, tmp_path):
    run_driver(task, tmp_path, *SHORT, "--framework", framework)
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
def squad(tmp_path_factory):
    work = tmp_path_factory.mktemp("squad")
    run_driver("squad", work, *SHORT, "--framework", "pytorch")
    return work


def test_from_passages_to_scores(squad):
    assert [name for name in rows_of(squad) if name in ("exact match", "F1")] == ["exact match", "F1"]
    assert "LoRA on q,k,v,o,fc,proj" in (squad / "table.md").read_text(encoding="utf-8")


def ask(checkpoint, *words, status=0):
    return run(sys.executable, "scripts/answer.py", "--checkpoint", checkpoint, "--device", "cpu", *words,
               status=status)


def test_both_frameworks_answer_a_question_alike(squad):
    passage, question = "Tallow Hall was designed by Maren Orme. It stands in Carrow.", "Who designed Tallow Hall?"
    answers = []
    for framework in ("pytorch", "jittor"):
        result = ask(squad / "pytorch/model.8.safetensors", "--framework", framework, passage, question)
        assert result.stdout.count("\n") == 1 and "distinct contexts" in result.stderr
        answers.append(result.stdout)
    assert answers[0] == answers[1]


def test_a_question_that_cannot_be_answered(squad, nano):
    result = ask(squad / "pytorch/model.8.safetensors", "A passage.", " ", status=2)
    assert "the question is blank" in result.stderr
    result = ask(nano, "A passage.", "What?", status=2)
    assert "does not say which model it belongs to" in result.stderr and not result.stdout
