"""What launchers say by flags and variables: what fits together is taken, anything else refused with a sentence."""

import os
import socket
import subprocess
import sys

import pytest

from common.errors import UserError
from common.paths import ROOT
from common.run.arguments import alignment_arguments, beam_arguments, training_arguments
from common.run.launching import VARIABLES, Place, place, say_once

TRAINING = ["--train_data", "t", "--valid_data", "v", "--init_checkpoint", "c", "--max_step", "3"]
BEAM = ["--data", "d", "--init_checkpoint", "c"]
PROGRAMS = [pytest.param(training_arguments, TRAINING, id="training"), pytest.param(beam_arguments, BEAM, id="beam")]


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    for names in VARIABLES.values():
        for name in names:
            monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("parse, needed", PROGRAMS)
@pytest.mark.parametrize("words", ["--local-rank=0", "--local_rank 0", "--local_rank -1", "--rank 0", "--world_size 1",
                                   "--world_size 0", "--device 0",
                                   "--platform local --local_rank 0 --rank 0 --device 0 --world_size 0"])
def test_the_originals_flags_are_taken(parse, needed, words):
    """All of them are flags of the original's gpu.py, 0 its defaults."""
    arguments = parse([*needed, *words.split()], "")
    assert arguments.device == "auto"
    assert vars(arguments) == vars(parse(needed, ""))


@pytest.mark.parametrize("parse, needed", PROGRAMS)
@pytest.mark.parametrize("variables", [
    {}, {"WORLD_SIZE": "", "RANK": "", "LOCAL_RANK": ""}, {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"}])
def test_one_process_runs(monkeypatch, parse, needed, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert parse([*needed, "--device", "cpu"], "").device == "cpu"


def set_variables(monkeypatch, launcher, *values):
    for name, value in zip(VARIABLES[launcher], values, strict=True):
        monkeypatch.setenv(name, str(value))


@pytest.mark.parametrize("launcher", VARIABLES)
def test_each_launcher_says_where_a_process_stands(monkeypatch, launcher):
    set_variables(monkeypatch, launcher, 3, 4, 1, 2)
    assert place() == Place(3, 4, 1, 2, launcher)


@pytest.mark.parametrize("parse, needed", PROGRAMS)
@pytest.mark.parametrize("launcher, words", [
    ("torchrun", ""), ("torchrun", "--local-rank=1"), ("torchrun", "--rank 3 --local_rank 1 --world_size 4"),
    ("mpirun", "")])
def test_one_of_several_is_taken_where_the_flags_say_the_same(monkeypatch, parse, needed, launcher, words):
    set_variables(monkeypatch, launcher, 3, 4, 1, 2)
    assert not {"rank", "local_rank", "world_size"} & set(vars(parse([*needed, *words.split()], "")))


@pytest.mark.parametrize("parse, needed", PROGRAMS)
@pytest.mark.parametrize("flag, told, sentence", [
    ("--world_size 2", None, "--world_size is 2: its launcher's variables say 1"),
    ("--local_rank 1", None, "--local_rank is 1: its launcher's variables say 0"),
    ("--local-rank=3", (0, 2, 0, 2), "--local_rank is 3: its launcher's variables say 0"),
    ("--rank 2", (1, 2, 1, 2), "--rank is 2: its launcher's variables say 1"),
    ("", (2, 2, 0, 2), "RANK is 2, WORLD_SIZE is 2, LOCAL_RANK is 0, LOCAL_WORLD_SIZE is 2: expected ranks from 0"),
    ("", (1, 2, 1, 3), "RANK is 1, WORLD_SIZE is 2, LOCAL_RANK is 1, LOCAL_WORLD_SIZE is 3: expected ranks from 0"),
    ("", ("", 2, "", ""), "RANK is not set, WORLD_SIZE is 2, LOCAL_RANK is not set.*: expected all of them"),
    ("", (1, "", "", ""), "RANK is 1, WORLD_SIZE is not set.*: expected all of them"),
    ("", ("", "", 1, ""), ".*LOCAL_RANK is 1.*: expected all of them")])
def test_what_does_not_fit_together_is_refused(monkeypatch, parse, needed, flag, told, sentence):
    if told:
        set_variables(monkeypatch, "torchrun", *told)
    with pytest.raises(UserError, match=f"^{sentence}.*torchrun --nproc_per_node=N.*mpirun -np N"):
        parse([*needed, *flag.split()], "")


def test_a_program_that_runs_alone_says_so(monkeypatch):
    set_variables(monkeypatch, "mpirun", 1, 2, 1, 2)
    with pytest.raises(UserError, match="^mpirun has started 2 processes: this program runs as one"):
        alignment_arguments([*TRAINING, "--output", "o", "--test_data", "t"], "")


SPEAKS = """
import sys
from common.run.launching import say_once
print("ready", flush=True)
sys.stdin.readline()
say_once({line!r}, {seconds})
"""


def start(seconds=30, line="a line"):
    """Starts a process that says a line when it is told to; the test is its parent, as a launcher is others'."""
    process = subprocess.Popen([sys.executable, "-c", SPEAKS.format(line=line, seconds=seconds)], cwd=ROOT, text=True,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == "ready\n"
    return process


def tell(process):
    process.stdin.write("now\n")
    process.stdin.flush()


@pytest.mark.parametrize("count", [2, 4])
def test_one_of_several_processes_speaks(monkeypatch, count):
    set_variables(monkeypatch, "mpirun", 1, count, 1, count)
    started = [start() for _ in range(count)]
    for process in started:
        tell(process)
    assert sorted(process.communicate(timeout=60)[1] for process in started) == [""] * (count - 1) + ["a line\n"]
    assert all(process.returncode == 0 for process in started)


def test_late_processes_stay_silent(monkeypatch):
    """The first one waits for all of them, each of which ends once it has been heard."""
    set_variables(monkeypatch, "mpirun", 1, 3, 1, 3)
    first, *others = [start() for _ in range(3)]
    tell(first)
    assert first.stderr.readline() == "a line\n"
    for process in others:
        assert first.poll() is None
        tell(process)
        assert process.communicate(timeout=60) == ("", "") and process.returncode == 0
    assert first.communicate(timeout=60) == ("", "") and first.returncode == 0


def test_another_one_speaks_where_the_first_is_ended_too_early(monkeypatch):
    """The first one has the right, and is killed before the line is out."""
    set_variables(monkeypatch, "mpirun", 1, 2, 1, 2)
    name = f"\0-c started by {os.getpid()}"
    with socket.socket(socket.AF_UNIX) as right:
        right.bind(name)
        process = start(0)
        tell(process)
        with pytest.raises(subprocess.TimeoutExpired):
            process.communicate(timeout=.5)
    assert process.communicate(timeout=60)[1] == "a line\n"


def test_the_others_are_waited_for_no_longer_than_that(monkeypatch):
    set_variables(monkeypatch, "mpirun", 1, 2, 1, 2)
    for seconds in (0, .1):
        process = start(seconds)
        tell(process)
        assert process.communicate(timeout=60)[1] == "a line\n" and process.returncode == 0


def test_without_a_line_they_wait_for_each_other(monkeypatch):
    """So argparse's message, which the first process has alone, is out before the launcher ends all of them."""
    set_variables(monkeypatch, "mpirun", 0, 2, 0, 2)
    first = start(line=None)
    tell(first)
    with pytest.raises(subprocess.TimeoutExpired):
        first.wait(.3)
    second = start(line=None)
    tell(second)
    assert [process.communicate(timeout=60) for process in (first, second)] == [("", "")] * 2


def test_a_process_alone_speaks(capsys):
    say_once("a line")
    say_once("a line")
    assert capsys.readouterr().err == "a line\n" * 2


def test_a_variable_that_is_no_number_is_named(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(UserError, match="^WORLD_SIZE is 'two': expected a whole number"):
        training_arguments(TRAINING, "")
    say_once("it is said")
    assert capsys.readouterr().err == "it is said\n"
