"""What a stage's stamp covers: every flag, and every file that the stage reads and writes."""

import sys
from dataclasses import replace

import pytest

from common.data.strata import FOLDERS
from common.drivers.commands import Command, check_done, other_flags, run_command, why_again
from common.drivers.pipeline import Run, parse, raw_files, weight_files
from common.errors import UserError
from common.files import write_json
from common.model.initial_weights import RANDOM
from common.paths import PRETRAINED, ROOT

NANO = PRETRAINED / "gpt2-nano" / "model.safetensors"


def run_of(*words):
    return Run(*parse([*words, "--framework", "pytorch"]))


def train_of(*words):
    (command,) = run_of("e2e", *words).commands("pytorch", "train")
    return command


@pytest.fixture
def stage(tmp_path):
    """A command that copies ``in`` to ``out`` and writes a file whose name only ``out`` says, after it ended once."""
    code = "open('out', 'w').write(open('in').read()); open(open('in').read() + '.weights', 'w').write('w')"

    def more():
        return [tmp_path / ((tmp_path / "out").read_text() + ".weights")]

    (tmp_path / "in").write_text("a")
    command = Command("copy", [sys.executable, "-c", code], tmp_path, [tmp_path / "in"], [tmp_path / "out"],
                      tmp_path / "copy.log", more)
    run_command(command, tmp_path / "stamps", False)
    return command, tmp_path / "stamps" / "copy.json"


def again(stage):
    return why_again(*stage)


def test_a_stage_that_is_done_is_not_run_again(stage, capsys):
    assert again(stage) is None
    run_command(stage[0], stage[1].parent, False)
    assert "[copy] done before" in capsys.readouterr().out


@pytest.mark.parametrize("name, content, reason", [
    ("in", "bb", "has changed"), ("in", None, "is not there"), ("out", None, "No such file"),
    ("a.weights", None, "is not there"), ("a.weights", "", "has changed")])
def test_any_file_that_changed_runs_it_again(stage, name, content, reason, capsys):
    command, stamp = stage
    path = command.folder / name
    path.unlink()
    if content is not None:
        path.write_text(content)
    assert reason in again(stage)
    if name != "in":
        run_command(command, stamp.parent, False)
        assert f"[copy] again: {again(stage) or ''}" in capsys.readouterr().out
        assert again(stage) is None


def test_other_outputs_run_it_again(stage):
    """A file of another name, whose own content is that of before, is another file."""
    command, _ = stage
    (command.folder / "c.weights").write_text("w")
    (command.folder / "out").write_text("c")
    assert "it reads and writes other files" in again(stage)


def test_a_flag_runs_it_again(stage):
    command, stamp = stage
    assert why_again(replace(command, words=[*command.words, "--lr", "3", "--flag"]), stamp) == (
        "--flag was absent and is given; --lr was absent and is 3")


@pytest.mark.parametrize("before, now, expected", [
    ("p x --lr 1 -p", "p x --lr 2 -p", "--lr was 1 -p and is 2 -p"), ("p x", "p y", "the program was p x and is p y"),
    ("p --a 1 --b", "p --a 1", "--b was given and is absent"), ("p --rows 1 2 3", "p --rows 1 2 3", None),
    ("p --device cpu --a 1", "p --a 2 --device cuda", "--a was 1 and is 2"),
    ("p --device cpu", "p --device cuda", None)])
def test_flags_that_differ_are_named(before, now, expected):
    assert other_flags(before.split(), now.split(), ("--device",)) == expected


@pytest.mark.parametrize("stamp", ["[]", "{}", "{", '{"words": 1, "files": {}}'])
def test_a_damaged_stamp_runs_it_again(stage, stamp):
    stage[1].write_text(stamp)
    assert str(stage[1]) in again(stage)


def test_a_user_s_own_files_are_inputs_seen_from_the_user_s_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = train_of("--train_data", "my.jsonl", "--valid_data", str(tmp_path / "valid.jsonl"))
    assert command.inputs[:2] == [tmp_path / "my.jsonl", tmp_path / "valid.jsonl"]
    for flag, path in (("--train_data", "my.jsonl"), ("--valid_data", "valid.jsonl")):
        assert [word for before, word in zip(command.words, command.words[1:]) if before == flag] == [
            str(tmp_path / path)]


def test_the_user_s_weights_are_inputs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert train_of().inputs[2:] == [NANO]
    (tmp_path / "lora.safetensors").write_bytes(b"")
    command = train_of("--lora_checkpoint", "lora.pt")
    assert command.inputs[2:] == [NANO, tmp_path / "lora.safetensors"]
    assert command.words[command.words.index("--lora_checkpoint") + 1] == str(tmp_path / "lora.pt")
    assert train_of("--init_checkpoint", RANDOM).inputs[2:] == []
    assert train_of("--init_checkpoint", "nowhere").inputs[2:] == [tmp_path / "nowhere"]


def test_every_part_of_a_checkpoint_is_an_input(tmp_path):
    for name in ("a.safetensors", "b.safetensors"):
        (tmp_path / name).write_bytes(b"")
    write_json(tmp_path / "model.safetensors.index.json",
               {"weight_map": {"x": "b.safetensors", "y": "a.safetensors", "z": "b.safetensors"}})
    assert [path.name for path in weight_files(tmp_path)] == ["a.safetensors", "b.safetensors",
                                                              "model.safetensors.index.json"]


def test_outputs_of_training_are_its_log_and_its_checkpoint_too(tmp_path):
    command = train_of("--work_dir", str(tmp_path))
    assert [path.name for path in command.outputs] == ["train_summary.json", "train_log.jsonl"]
    (tmp_path / "pytorch").mkdir()
    write_json(command.outputs[0], {"checkpoint": "elsewhere/model.9.safetensors"})
    assert command.more() == [tmp_path / "pytorch" / "model.9.safetensors"]


def test_beam_search_wants_a_training(tmp_path):
    run = run_of("e2e", "--work_dir", str(tmp_path))
    with pytest.raises(UserError, match="train_summary.json: is not there; run the stage train first"):
        list(run.commands("pytorch", "beam"))


def test_beam_search_decodes_with_the_backbone_that_the_checkpoint_records(tmp_path):
    trained = tmp_path / "pytorch" / "model.9.safetensors"
    trained.parent.mkdir()
    write_json(trained.with_name("train_summary.json"), {"checkpoint": trained.name})
    for given, flag in (([], "--lora_checkpoint"), (["--init_checkpoint", RANDOM], "--init_checkpoint")):
        (beam,) = run_of("e2e", "--work_dir", str(tmp_path), *given).commands("pytorch", "beam")
        assert [before for before, word in zip(beam.words, beam.words[1:]) if word == str(trained)] == [flag]
        assert trained in beam.inputs


@pytest.mark.parametrize("words", [["--data", "x.jsonl"], ["--output_file", "x.jsonl"]])
def test_what_the_drivers_decide_themselves(words):
    with pytest.raises(UserError, match=f"{words[0]}: the drivers decode the test set that they made"):
        run_of("e2e", *words)


@pytest.mark.parametrize("words, sentence", [
    (["--min_length", "65"], "--min_length 65: expected at most --eval_len 64"), (["--clip", "nan"], "--clip nan"),
    (["--scheduler", "cycle"], "the same number of points"), (["--lora_targets", "q,q"], "name each once"),
    (["--task", "x"], "no such flag: --task")])
def test_flags_are_checked_before_the_first_stage(words, sentence, capsys):
    """A mistake in a flag of beam search would else be found when training is done."""
    try:
        run_of("e2e", *words).check_flags()
    except UserError as error:
        assert sentence in str(error)
    except SystemExit:
        assert sentence in capsys.readouterr().err
    else:
        pytest.fail("nothing was refused")
    for preset in ("demo", "sampled", "paper"):
        run_of("e2e", "--preset", preset).check_flags()


def test_raw_files_are_inputs_or_outputs_of_the_data_stage(tmp_path):
    folder = tmp_path / FOLDERS["webnlg"]
    folder.mkdir()
    for name in ("train.json", "dev.json.gz"):
        (folder / name).write_text("{}")
    assert raw_files("webnlg", tmp_path) == [folder / "train.json", folder / "dev.json.gz"]
    data, *_ = run_of("webnlg", "--preset", "paper", "--source", str(tmp_path)).data_commands()
    assert data.inputs == [folder / "train.json", folder / "dev.json.gz"]
    assert data.more() == raw_files("webnlg", ROOT / "data")


def test_a_backbone_of_the_user_s_is_not_downloaded(tmp_path):
    def names(*words):
        return [command.name for command in run_of("e2e", "--preset", "paper", *words).data_commands()]
    assert names() == ["data", "backbone"]
    assert names("--init_checkpoint", str(NANO)) == ["data"]


def test_a_kept_run_may_have_had_other_data(stage, tmp_path):
    """Data outside the work directory may change when a run has ended; a report is of what is there."""
    command, stamp = stage
    (tmp_path / "in").write_text("bb")
    check_done(command, stamp, tmp_path / "stamps")
    with pytest.raises(UserError, match="in: has changed since the stage copy ended"):
        check_done(command, stamp, tmp_path / "stamps", is_current=True)
    with pytest.raises(UserError, match="in: has changed since the stage copy ended"):
        check_done(command, stamp, tmp_path)
