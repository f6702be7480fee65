"""The driver from data to the table, on the demo data, short."""

import json

import pytest

from common.files import read_json
from scripts.maintain import keep_run
from tests.alignment.programs import run_driver

pytestmark = [pytest.mark.slow, pytest.mark.java]
# Short training and search; the demo's own length is for users.
SHORT = ["--max_step", "12", "--log_interval", "4", "--warmup_step", "2", "--beam", "2", "--eval_len", "24"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    work = tmp_path_factory.mktemp("run")
    return work, run_driver("e2e", work, *SHORT)


def test_it_ends_in_a_table_of_both_frameworks(finished):
    work, result = finished
    table = (work / "table.md").read_text(encoding="utf-8")
    assert table in result.stdout
    assert "| PyTorch | Jittor | difference |" in table
    for metric in ("BLEU", "NIST", "METEOR", "ROUGE_L", "CIDEr"):
        assert f"| {metric} (all references) |" in table
    assert (work / "loss_curve.png").read_bytes().startswith(b"\x89PNG")


def test_both_frameworks_agree(finished):
    results = read_json(finished[0] / "results.json")["frameworks"]
    losses = [results[name]["numbers"]["validation loss"] for name in ("pytorch", "jittor")]
    # The masks of dropout are the same, so that rounding alone differs.
    assert losses[0] == pytest.approx(losses[1], rel=5e-6)


def test_a_finished_run_can_be_kept(finished, tmp_path, monkeypatch, project_root):
    monkeypatch.setattr(keep_run, "LOG", tmp_path / "log")
    monkeypatch.setattr(keep_run, "FIGURE", tmp_path / "figure")
    keep_run.main([str(finished[0]), "--name", "demo_gpt2-nano"])
    kept, committed = (folder / "demo_gpt2-nano" for folder in (tmp_path / "log", project_root / "log"))
    assert ({path.relative_to(kept) for path in kept.rglob("*")}
            == {path.relative_to(committed) for path in committed.rglob("*")})
    assert read_json(kept / "results.json")["frameworks"].keys() == {"pytorch", "jittor"}


def test_a_second_run_skips_what_is_done(finished):
    work, _ = finished
    again = run_driver("e2e", work, *SHORT)
    assert again.stdout.count("done before") == 9  # the data, and four stages of each framework
    assert (work / "table.md").read_text(encoding="utf-8") in again.stdout


def test_a_changed_flag_reruns_what_depends_on_it(finished):
    work, _ = finished
    before = read_json(work / "pytorch" / "stamps" / "train.json")
    changed = run_driver("e2e", work, *SHORT, "--framework", "pytorch", "--length_penalty", "0.5", "--stages",
                         "train,beam")
    assert "[train] done before" in changed.stdout and "[beam] done before" not in changed.stdout
    assert read_json(work / "pytorch" / "stamps" / "train.json") == before


def test_a_broken_output_is_made_again(finished):
    work, _ = finished
    predictions = work / "pytorch" / "all_references" / "predictions.txt"
    whole = predictions.read_text(encoding="utf-8")
    predictions.write_text("broken\n")
    run_driver("e2e", work, *SHORT, "--framework", "pytorch", "--stages", "beam,decode")
    assert predictions.read_text(encoding="utf-8") == whole


@pytest.mark.parametrize("words, sentence", [
    (["--stages", "cook"], "'cook' is none of"), (["--learning_rate", "3"], "no such flag: --learning_rate"),
    (["--preset", "toy"], "invalid choice: 'toy'")])
def test_wrong_words_are_refused(words, sentence, tmp_path):
    result = run_driver("e2e", tmp_path, *words, status=2)
    assert sentence in result.stderr and "Traceback" not in result.stderr


def test_stamps_are_readable(finished):
    stamp = json.loads((finished[0] / "jittor" / "stamps" / "beam.json").read_text(encoding="utf-8"))
    assert stamp["seconds"] > 0 and stamp["words"][1] == "src/gpt2_beam.py"
