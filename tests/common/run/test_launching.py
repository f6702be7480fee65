"""What launchers say by flags and variables: what fits together is taken, anything else refused with a sentence."""

import subprocess
import sys

import pytest

from common.errors import UserError
from common.paths import ROOT
from common.run.arguments import alignment_arguments, beam_arguments, training_arguments
from common.run.launching import VARIABLES, Place, place, speaks_first

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


def test_one_of_several_processes_speaks(monkeypatch):
    """The processes are children of one launcher, as these are of the test."""
    set_variables(monkeypatch, "mpirun", 1, 2, 1, 2)
    program = ("import sys, time; from common.run.launching import speaks_first; print(speaks_first(), flush=True); "
               "sys.stdin.read()")
    started = [subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, text=True, stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE) for _ in range(3)]
    said = [process.stdout.readline().strip() for process in started]
    for process in started:
        process.communicate()
    assert sorted(said) == ["False", "False", "True"]


def test_a_process_alone_speaks():
    assert speaks_first() and speaks_first()


def test_a_variable_that_is_no_number_is_named(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(UserError, match="^WORLD_SIZE is 'two': expected a whole number"):
        training_arguments(TRAINING, "")
    assert speaks_first()
