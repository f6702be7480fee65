"""A training that was cut off anywhere goes on as if it had not been; what cannot be gone on from is said."""

import json
import os
import re
import signal
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from common import signals
from common.errors import Terminated, UserError
from common.locks import exclusive
from common.run import training
from common.run.batching import validation_batches
from common.run.progress import Progress
from common.run.state import State, read_state, write_state
from common.run.training import run_training
from common.run.work_dir import LOCK_FILE
from tests.common.run.made_up_steps import made_up_steps

OFTEN = 1e-9  # minutes between states: behind every step


@pytest.fixture(autouse=True)
def not_in_the_background():
    """A shell's background job ignores Ctrl-C; these tests do not."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Cut(Exception):
    """Stands for the end of a process: nothing behind it runs."""


def raising(step, error=Cut):
    """Returns losses that end a training in this step."""
    def losses(done):
        if done == step:
            raise error
        return 2.0 - done / 10
    return losses


def outcome(folder):
    """Returns what a training left: its checkpoints, its log without times, and the names of its files."""
    folder = Path(folder)
    records = [json.loads(line) for line in (folder / "train_log.jsonl").read_text().splitlines()]
    times = ("step_ms", "seconds")
    return ({path.name: path.read_bytes() for path in folder.glob("model.*")},
            [{name: value for name, value in record.items() if name not in times} for record in records],
            sorted(os.listdir(folder)))


@pytest.fixture
def whole(arguments):
    """What the training leaves that is not cut off."""
    run_training(arguments, made_up_steps([]))
    expected = outcome(arguments.work_dir)
    arguments.work_dir += "_cut"
    return expected


def cut_off(arguments, *parts, **more):
    """Runs a training until it is cut off."""
    with pytest.raises((Cut, KeyboardInterrupt, Terminated)) as end:
        run_training(arguments, made_up_steps([], *parts, **more))
    return end.type


def states_in(folder):
    return sorted(name for name in os.listdir(folder) if name.startswith("state."))


@pytest.mark.parametrize("minutes", [OFTEN, 5.0])
@pytest.mark.parametrize("flags", [{}, {"log_interval": 4, "grad_acc": 2}, {"log_interval": 1, "eval_interval": 1}])
def test_cut_off_in_any_step_it_ends_as_if_it_had_not_been(arguments, minutes, flags):
    vars(arguments).update(flags, state_minutes=minutes, resume=True)
    run_training(arguments, made_up_steps([]))
    whole, folder = outcome(arguments.work_dir), arguments.work_dir
    for step in range(1, 10):
        arguments.work_dir = f"{folder}_{step}"
        cut_off(arguments, raising(step))
        if step > 4 or minutes == OFTEN and step > 1:
            assert states_in(arguments.work_dir)
        run_training(arguments, made_up_steps([]))
        assert outcome(arguments.work_dir) == whole, step


def test_cut_off_again_and_again(arguments, whole):
    arguments.resume, arguments.state_minutes = True, OFTEN
    for step in (2, 3, 3, 5, 9):
        cut_off(arguments, raising(step))
    seen = []
    run_training(arguments, made_up_steps(seen))
    assert outcome(arguments.work_dir) == whole
    assert [entry for entry in seen if len(entry) == 3] == [(4, pytest.approx(1 / 7), True)]  # step 9 alone
    summary = json.loads(Path(arguments.work_dir, "train_summary.json").read_text())
    assert summary["resumed_at"] == [1, 2, 4, 8] and summary["steps"] == 9


@pytest.mark.parametrize("number, error", [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
@pytest.mark.parametrize("step", [1, 5, 9])
def test_a_signal_ends_it_behind_the_step_with_a_state(arguments, whole, capsys, number, error, step):
    arguments.resume, arguments.state_minutes = True, 0

    def losses(done):
        if done == step:
            os.kill(os.getpid(), number)
        return 2.0 - done / 10

    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    assert cut_off(arguments, losses) is error
    assert before == [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    assert states_in(arguments.work_dir) == [f"state.{step}.safetensors"]
    assert f"note: {signal.Signals(number).name}: training ends behind this step" in capsys.readouterr().err
    run_training(arguments, made_up_steps([]))
    assert outcome(arguments.work_dir) == whole
    lines = capsys.readouterr().out.splitlines()
    assert f"going on behind step {step}, from {arguments.work_dir}/state.{step}.safetensors" in lines
    assert len([line for line in lines if line.startswith("| e")]) == 4  # those of before too


def test_a_second_signal_ends_it_at_once(arguments, monkeypatch):
    monkeypatch.setattr(signals, "SECOND_S", 0.01)

    def losses(done):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("it went on")

    assert cut_off(arguments, losses) is KeyboardInterrupt
    assert states_in(arguments.work_dir) == []


def test_a_signal_that_comes_twice_at_once_is_one(arguments):
    """A scheduler sends it to each process of a job, and the driver hands it on."""
    def losses(done):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        return 1.0

    assert cut_off(arguments, losses) is Terminated
    assert states_in(arguments.work_dir) == ["state.1.safetensors"]


@pytest.mark.parametrize("minutes", [0, 5.0])
def test_a_signal_ends_a_validation_pass_which_is_run_again(arguments, whole, monkeypatch, minutes):
    arguments.resume, arguments.state_minutes = True, minutes
    monkeypatch.setattr(training, "validation_batches", partial(validation_batches, most_tokens=1))
    losses = iter(range(100))

    def valid_loss():
        if next(losses) == 4:  # the second of the three batches of the second pass
            os.kill(os.getpid(), signal.SIGTERM)
        return 0.5

    assert cut_off(arguments, valid_loss=valid_loss) is Terminated
    assert next(losses) == 5
    assert "state.5.safetensors" in states_in(arguments.work_dir)
    run_training(arguments, made_up_steps([], valid_loss=0.5))
    assert outcome(arguments.work_dir) == whole


@pytest.mark.parametrize("damage", [
    lambda content: b"", lambda content: content[:-1], lambda content: content[:50],
    lambda content: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
    lambda content: content[:200] + bytes([content[200] ^ 4]) + content[201:], lambda content: content + b"\0"])
def test_a_damaged_state_gives_way_to_the_one_before(arguments, whole, capsys, damage):
    arguments.resume, arguments.state_minutes = True, OFTEN
    cut_off(arguments, raising(6))
    assert states_in(arguments.work_dir) == ["state.4.safetensors", "state.5.safetensors"]
    newest = Path(arguments.work_dir, "state.5.safetensors")
    newest.write_bytes(damage(newest.read_bytes()))
    run_training(arguments, made_up_steps([]))
    said = capsys.readouterr()
    assert f"note: {newest}: is damaged: " in said.err and "it is left out" in said.err
    assert "going on behind step 4" in said.out
    assert outcome(arguments.work_dir) == whole


def test_every_flipped_bit_of_a_state_is_noticed(tmp_path):
    write_state(tmp_path, State(Progress(step=3), "made up", {"lr": 1}, 0, [], {"x": np.arange(2.0)}), 1)
    path = tmp_path / "state.3.safetensors"
    content = path.read_bytes()
    assert read_state(path).arrays["x"].tolist() == [0, 1]
    for position in range(len(content)):
        path.write_bytes(content[:position] + bytes([content[position] ^ 1 << position % 8]) + content[position + 1:])
        with pytest.raises(UserError, match="is damaged"):
            read_state(path)


def test_where_no_state_is_whole_it_starts_anew(arguments, whole, capsys):
    arguments.resume, arguments.state_minutes = True, OFTEN
    cut_off(arguments, raising(6))
    for name in states_in(arguments.work_dir):
        Path(arguments.work_dir, name).write_bytes(b"")
    run_training(arguments, made_up_steps([]))
    assert outcome(arguments.work_dir) == whole and "going on" not in capsys.readouterr().out


def test_a_log_that_lost_lines_makes_a_state_give_way(arguments, whole, capsys):
    arguments.resume, arguments.state_minutes = True, OFTEN
    cut_off(arguments, raising(7))
    log = Path(arguments.work_dir, "train_log.jsonl")
    *lines, validation = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines)[:-1])
    run_training(arguments, made_up_steps([]))
    assert "state.6.safetensors: is left out: " in capsys.readouterr().err
    assert outcome(arguments.work_dir) == whole


def test_other_hyper_parameters_are_refused_by_name(arguments, capsys, tmp_path):
    arguments.resume, arguments.state_minutes = True, OFTEN
    cut_off(arguments, raising(6))
    other = tmp_path / "other.jsonl"
    other.write_bytes(Path(arguments.train_data).read_bytes() * 2)
    vars(arguments).update(lr=0.5, grad_acc=3, train_data=str(other), max_epoch=4, precision="fp64")
    before = {path.name: path.read_bytes() for path in Path(arguments.work_dir).iterdir()}
    with pytest.raises(UserError) as refused:
        run_training(arguments, made_up_steps([]))
    assert re.search(r"state.5.safetensors: is of a training with other hyper-parameters: --grad_acc was 1 and is 3; "
                     r"--lr was 1.0 and is 0.5; --max_epoch was 3 and is 4; --precision was 'fp32' and is 'fp64'; "
                     r"--train_data was a file with the SHA-256 "
                     r"\w{12}\.\.\. and is a file with the SHA-256 \w{12}\.\.\.; give those", str(refused.value))
    assert {path.name: path.read_bytes() for path in Path(arguments.work_dir).iterdir()} == before
    arguments.overwrite = True
    run_training(arguments, made_up_steps([]))
    said = capsys.readouterr()
    assert "--lr was 1.0 and is 0.5" in said.err and "starting anew" in said.err and "going on" not in said.out
    assert states_in(arguments.work_dir) == []


def test_flags_that_change_no_number_may_differ(arguments, whole, capsys):
    arguments.resume, arguments.state_minutes = True, OFTEN
    cut_off(arguments, raising(6))
    vars(arguments).update(device="cpu", keep_last=5, state_minutes=0, save_interval=3)
    Path(arguments.train_data).rename(arguments.train_data + "x")  # a file counts by its content
    arguments.train_data = arguments.valid_data = arguments.train_data + "x"
    run_training(arguments, made_up_steps([]))
    assert "going on behind step 5" in capsys.readouterr().out
    assert outcome(arguments.work_dir)[1] == whole[1]


def test_another_frameworks_state_is_refused(arguments):
    arguments.resume, arguments.state_minutes = True, OFTEN
    cut_off(arguments, raising(6))
    steps = made_up_steps([])(arguments)
    steps.description["framework"] = "jittor"
    with pytest.raises(UserError, match="state.5.safetensors: is of a training in made up, expected jittor"):
        run_training(arguments, lambda arguments: steps)


def test_a_state_with_other_arrays_is_refused(arguments):
    arguments.resume, arguments.state_minutes = True, OFTEN
    cut_off(arguments, raising(6))
    steps = made_up_steps([])(arguments)
    steps = replace(steps, state_names=["weight", "remainder", "steps"])
    with pytest.raises(UserError, match="state.5.safetensors: was written by another version of the program; start"):
        run_training(arguments, lambda arguments: steps)


@pytest.mark.parametrize("count", [1, 3])
def test_so_many_states_are_kept_until_the_end(arguments, count):
    arguments.keep_last, arguments.state_minutes = count, OFTEN
    cut_off(arguments, raising(7))
    assert states_in(arguments.work_dir) == [f"state.{step}.safetensors" for step in range(7 - count, 7)]


def test_a_state_is_not_passed_over_in_silence(arguments):
    arguments.state_minutes = OFTEN
    cut_off(arguments, raising(6))
    with pytest.raises(UserError, match=r"holds a training that was cut off, and .*state.5.safetensors; give --resume "
                                        r"to go on there, --overwrite to start anew, or a --work_dir of its own"):
        run_training(arguments, made_up_steps([]))
    arguments.overwrite = True
    seen = []
    run_training(arguments, made_up_steps(seen))
    assert len([entry for entry in seen if len(entry) == 3]) == 9


def test_an_ended_training_is_not_resumed_but_kept(arguments):
    run_training(arguments, made_up_steps([]))
    arguments.resume = True
    with pytest.raises(UserError, match="holds another training's .* and no state to resume from"):
        run_training(arguments, made_up_steps([]))


def test_states_without_a_time_are_not_written(arguments):
    arguments.state_minutes = 0
    cut_off(arguments, raising(9))
    assert states_in(arguments.work_dir) == []


def test_one_training_at_a_time(arguments):
    arguments.overwrite = True
    Path(arguments.work_dir).mkdir()
    with exclusive(Path(arguments.work_dir, LOCK_FILE), "x", "y"):
        with pytest.raises(UserError, match=rf"work: is in use by \S+ \(process {os.getpid()} on \S+, which took it at "
                                            r"\d+-.*\); wait until it has ended, or give another --work_dir"):
            run_training(arguments, made_up_steps([]))
        assert os.listdir(arguments.work_dir) == [LOCK_FILE]
    run_training(arguments, made_up_steps([]))


def test_what_died_trainings_left_unfinished_goes(arguments):
    Path(arguments.work_dir).mkdir()
    names = ".model.4.safetensors.abcd_123.unfinished", ".train_summary.json.abcd_123.unfinished"
    for name in (*names, ".mine"):
        Path(arguments.work_dir, name).write_text("half")
    run_training(arguments, made_up_steps([]))
    assert set(os.listdir(arguments.work_dir)) & {*names, ".mine"} == {".mine"}


def test_what_is_not_finite_is_said_with_its_rows_and_the_last_checkpoint(arguments):
    sentence = r"the loss of step 5, of rows (\d+, ){3}\d+ of .*rows.jsonl, is nan: training has diverged; .*; "
    with pytest.raises(UserError, match=sentence + r"the last good checkpoint is .*/model.4.safetensors$") as found:
        run_training(arguments, made_up_steps([], lambda step: np.nan if step == 5 else 1.0))
    rows = [int(row) for row in re.search(r"rows ([\d, ]+) of", str(found.value))[1].split(", ")]
    batches, steps = [], made_up_steps([])(arguments)
    arguments.work_dir += "_2"
    run_training(arguments, lambda _: replace(steps, train=lambda batch, *_: batches.append(batch) or 1.0))
    # The first token of row n of the file is n.
    assert batches[4].input_ids[batches[4].offsets[:-1]].tolist() == rows
    arguments.work_dir += "_3"
    with pytest.raises(UserError, match="the validation loss after step 3 is inf: .*; no checkpoint was saved before"):
        run_training(arguments, made_up_steps([], valid_loss=np.inf))


def test_a_state_that_is_not_finite_is_not_kept(arguments):
    """The last step's loss may be finite though its update is not: nobody could go on from there."""
    arguments.state_minutes = OFTEN
    steps = replace(made_up_steps([])(arguments), state=lambda: {"values": np.array([1.0, np.nan])})
    with pytest.raises(UserError, match=r"state\.1\.safetensors: values holds 1 of 2 .*training has diverged"):
        run_training(arguments, lambda _: steps)
    assert not list(Path(arguments.work_dir).glob("state*"))
