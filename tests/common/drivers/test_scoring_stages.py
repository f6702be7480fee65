"""What each task is scored against, by which commands, and how the report shows it."""

import pytest

from common.drivers.commands import Command, run_command, why_again
from common.drivers.pipeline import Run, parse
from common.drivers.report import format_difference, markdown_table
from common.drivers.tasks import TASKS
from common.errors import UserError
from common.files import write_json_lines


def run_of(*words):
    return Run(*parse([*words, "--framework", "pytorch"]))


def words_of(run, stage):
    return {command.name: " ".join(command.words) for command in run.commands("pytorch", stage)}


@pytest.mark.parametrize("task, names", [
    ("e2e", ["all_references", "sampled_references"]), ("dart", ["all_references", "sampled_references"]),
    ("webnlg", [f"{kind}_references_{part}" for kind in ("all", "sampled") for part in ("unseen", "seen", "all")]),
    ("squad", ["answers"])])
def test_a_sample_of_lines_is_scored_against_all_and_against_its_own_references(task, names):
    run = run_of(task, "--preset", "sampled")
    assert [score_set.name for score_set in run.score_sets] == names
    for preset, unit in (("demo", "line"), ("paper", "line"), ("sampled", "mr")):
        sets = run_of(task, "--preset", preset, "--unit", unit).score_sets
        assert [one.name for one in sets] == [name for name in names if not name.startswith("sampled")]


def test_webnlg_is_decoded_and_scored_by_parts():
    run = run_of("webnlg", "--preset", "sampled")
    decode = words_of(run, "decode")["decode_all_references_unseen"]
    assert "--reference_file data/webnlg_challenge_2017/test_formatted.jsonl" in decode
    assert "--input_file data/webnlg_challenge_2017/sampled/test_formatted.jsonl" in decode
    assert "--ref_type webnlg --ref_num 6 --tokenize --lower --filter unseen" in decode
    score = words_of(run, "score")["score_sampled_references_seen"]
    folder = "../work/webnlg/sampled-gpt2-md/pytorch/sampled_references_seen"
    assert f"eval/GenerationEval/eval.py -R {folder}/references/reference -H {folder}/predictions.txt" in score
    assert "-nr 6 -m bleu,meteor,chrf++,ter --bootstrap" in score
    assert [one.label for one in run.score_sets[:3]] == [
        ", unseen (all references)", ", seen (all references)", ", all categories (all references)"]


def test_the_other_tasks_commands():
    dart = run_of("dart")
    assert "--ref_type dart --ref_num 6" in words_of(dart, "decode")["decode_all_references"]
    assert "--filter" not in words_of(dart, "decode")["decode_all_references"]
    squad = run_of("squad", "--preset", "sampled", "--rows", "3", "2", "1", "--seq_len", "256")
    assert "eval/squad/evaluate.py ../work/squad/sampled-gpt2-md/pytorch/answers/references.json" in words_of(
        squad, "score")["score_answers"]
    data = {command.name: " ".join(command.words) for command in squad.data_commands()}
    assert data["data"].endswith("squad --seq_len 256 --eval_len 32")
    assert data["sample"].endswith("--datasets squad --unit line --rows 3 2 1")
    assert "--lora_targets q,k,v,o,fc,proj" in words_of(squad, "train")["train"]
    assert "--filter" not in words_of(run_of("e2e"), "decode")["decode_all_references"]


def test_a_number_of_rows_goes_with_a_sample():
    assert run_of("dart", "--preset", "sampled").description == "stratified 18 % sample"
    sampled = run_of("dart", "--preset", "sampled", "--rows", "30", "20", "10")
    assert sampled.description == "stratified sample of 30 + 20 + 10 rows"
    with pytest.raises(UserError, match="--rows goes with --preset sampled, found --preset demo"):
        run_of("dart", "--rows", "30", "20", "10")


def test_every_run_script_names_its_task(project_root):
    for task in TASKS:
        assert f'run_task.sh" {task} "$@"' in (project_root / f"scripts/run_{task}.sh").read_text()


def test_intervals_stand_in_the_table():
    results = {name: {"numbers": {"validation loss": 1.5, "BLEU": value}, "intervals": {"BLEU": [value - 1, value + 1]}}
               for name, value in (("pytorch", 46.7), ("jittor", 46.2))}
    assert markdown_table(results, ["pytorch", "jittor"]).splitlines()[2:] == [
        "| validation loss | 1.5000 | 1.5000 | 0 |",
        "| BLEU | 46.70 [45.70, 47.70] | 46.20 [45.20, 47.20] | -0.5000 |"]


@pytest.mark.parametrize("value, text", [
    (0.0, "0"), (-0.0, "0"), (-4.4e-16, "-4e-16"), (-2.3e-8, "-2e-08"), (4.9e-5, "+5e-05"), (5e-5, "+0.0001"),
    (-0.5, "-0.5000")])
def test_a_small_difference_is_told_by_its_size(value, text):
    assert format_difference(value) == text


def test_stamps_hold_in_another_copy_of_the_project(tmp_path, monkeypatch):
    """Work directories travel: what was trained on one machine is scored on another."""
    copies = []
    for name in ("here", "there"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "in").write_text("x")
        copies.append(Command("copy", ["cp", "in", "out"], folder, [folder / "in"], [folder / "out"],
                              folder / "copy.log"))
    monkeypatch.setattr("common.drivers.commands.ROOT", tmp_path / "here")
    run_command(copies[0], tmp_path / "here/stamps", False)
    (tmp_path / "there/out").write_text("x")
    monkeypatch.setattr("common.drivers.commands.ROOT", tmp_path / "there")
    assert why_again(copies[1], tmp_path / "here/stamps/copy.json") is None
    (tmp_path / "there/out").write_text("yy")
    assert why_again(copies[1], tmp_path / "here/stamps/copy.json") == "out has changed"


def webnlg_rows(folder, *are_seen):
    write_json_lines(folder / "test_formatted.jsonl",
                     ({"context": "a", "completion": "b", **cate} for cate in are_seen))


@pytest.mark.parametrize("are_seen, names", [
    ([True, True], ["seen", "all"]), ([False], ["unseen", "all"]), ([True, False], ["unseen", "seen", "all"])])
def test_parts_without_a_row_are_left_out(are_seen, names, tmp_path, capsys):
    run = run_of("webnlg")
    run.data = tmp_path
    webnlg_rows(tmp_path, *({"cate": is_seen} for is_seen in are_seen))
    assert [one.name for one in run.score_sets] == [f"all_references_{name}" for name in names]
    assert list(words_of(run, "decode")) == [f"decode_all_references_{name}" for name in names]
    assert {", seen (all references)", ", unseen (all references)"} >= {one.label for one in run.score_sets[:-1]}
    missing = {"seen", "unseen"} - set(names)
    assert capsys.readouterr().err.count("no row is of") == len(missing)


def test_rows_that_do_not_say_their_part_are_left_to_the_decoder(tmp_path):
    run = run_of("webnlg")
    run.data = tmp_path
    assert len(run.score_sets) == 3, "no file yet: the stage data has not run"
    webnlg_rows(tmp_path, {"cate": True}, {})
    assert len(run.score_sets) == 3
