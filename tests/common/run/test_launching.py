"""What launchers say by flags and variables: rank 0 of 1 runs, anything else is refused with a sentence."""

import pytest

from common.errors import UserError
from common.run.arguments import beam_arguments, training_arguments

TRAINING = ["--train_data", "t", "--valid_data", "v", "--init_checkpoint", "c", "--max_step", "3"]
BEAM = ["--data", "d", "--init_checkpoint", "c"]
PROGRAMS = [pytest.param(training_arguments, TRAINING, id="training"), pytest.param(beam_arguments, BEAM, id="beam")]


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
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


@pytest.mark.parametrize("parse, needed", PROGRAMS)
@pytest.mark.parametrize("flag, variable, sentence", [
    ("--world_size 2", "", "--world_size is 2"), ("--local_rank 1", "", "--local_rank is 1"),
    ("--local-rank=3", "", "--local_rank is 3"), ("--rank 1", "", "--rank is 1"),
    ("", "WORLD_SIZE=2", "WORLD_SIZE is 2"), ("", "RANK=1", "RANK is 1"), ("", "LOCAL_RANK=1", "LOCAL_RANK is 1"),
    ("--rank 0", "RANK=1", "RANK is 1")])
def test_one_of_several_is_refused(monkeypatch, parse, needed, flag, variable, sentence):
    if variable:
        monkeypatch.setenv(*variable.split("="))
    with pytest.raises(UserError, match=f"^{sentence}: .* one process.*--nproc_per_node=1"):
        parse([*needed, *flag.split()], "")


def test_a_variable_that_is_no_number_is_named(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(UserError, match="^WORLD_SIZE is 'two': expected a whole number"):
        training_arguments(TRAINING, "")
