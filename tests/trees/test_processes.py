"""Two processes of the tree under test do together what one does: training, beam search, an end with an error."""

import random
import sys

import pytest

from common.files import read_json, read_json_lines, write_json_lines
from common.model.weight_files import read_arrays
from tests import FRAMEWORK
from tests.trees.launched import launcher, run, started
from tests.trees.small_model import relative_error

pytestmark = pytest.mark.slow
STEPS = 20
IMPORTS = "import jittor_setup" if FRAMEWORK == "jittor" else ""  # what a program of the tree begins with
MODEL = ["--model_card", "gpt2.nano", "--init_checkpoint", "random", "--seq_len", "24", "--device", "cpu"]
TRAINING = ["--lr", "0.002", "--warmup_step", "4", "--correct_bias", "--label_smooth", "0.1", "--lora_dropout", "0.2",
            "--clip", "0.5", "--log_interval", "1", "--eval_interval", "10", "--save_interval", "10"]


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Files of random rows, two of them without a token to predict; there are more contexts than fit one search."""
    folder, generator = tmp_path_factory.mktemp("rows"), random.Random(1)

    def ids(longest):
        return [generator.randrange(50000) for _ in range(generator.randint(1, longest))]
    for name, count in (("train", 30), ("valid", 21), ("test", 9)):
        made = [{"context": ids(8), "completion": ids(12)} for _ in range(count)]
        made[-1]["completion"] = []
        write_json_lines(folder / f"{name}.jsonl", made)
    return folder


def training_words(rows, work, processes, steps, *flags, program="src/gpt2_ft.py"):
    """Returns the command that trains batches of four rows, in one process or shared by more."""
    start = launcher(processes) if processes > 1 else [sys.executable]
    return [*start, program, "--train_data", rows / "train.jsonl", "--valid_data", rows / "valid.jsonl", *MODEL,
            *TRAINING, "--train_batch_size", 4 // processes, "--max_step", steps, "--work_dir", work, *flags]


def train(rows, work, processes, steps, *flags, program="src/gpt2_ft.py", status=0):
    """Trains; returns the log's records."""
    run(training_words(rows, work, processes, steps, *flags, program=program), status)
    return [record for _, record in read_json_lines(work / "train_log.jsonl")]


@pytest.fixture(scope="module")
def trained(rows, tmp_path_factory):
    """The work directory and the log of one process, and those of two."""
    folders = [tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")]
    return [(folder, train(rows, folder, count, STEPS)) for count, folder in enumerate(folders, 1)]


def losses(records, kind):
    return [record["loss"] for record in records if record["kind"] == kind]


def test_two_processes_have_the_losses_of_one(trained):
    (_, alone), (_, together) = trained
    assert len(losses(alone, "train")) == STEPS and losses(alone, "train")[-1] < losses(alone, "train")[0]
    assert losses(together, "train") == pytest.approx(losses(alone, "train"), rel=1e-5)
    assert losses(together, "validation") == pytest.approx(losses(alone, "validation"), rel=1e-6)
    assert [set(record) for record in together] == [set(record) for record in alone]
    for one, two in zip(alone, together):
        assert (two["step"], two.get("lr"), two.get("batches")) == (one["step"], one.get("lr"), one.get("batches"))


def test_two_processes_end_with_the_weights_of_one(trained):
    """That both hold the same bits the run itself checks at every checkpoint."""
    (alone, _), (together, _) = trained
    assert {path.name for path in together.iterdir()} == {path.name for path in alone.iterdir()}
    expected, found = (read_arrays(folder / f"model.{STEPS}.safetensors") for folder in (alone, together))
    for name in expected:
        assert relative_error(found[name], expected[name]) < 1e-3, name
    summaries = [read_json(folder / "train_summary.json", dict) for folder in (alone, together)]
    assert [summary["processes"] for summary in summaries] == [1, 2]
    assert summaries[0]["epochs"] == summaries[1]["epochs"] == 3


CUT_OFF = """
import os
import sys

sys.path.insert(0, "src")
{imports}
import gpt2_ft
from common.run import processes

plain, calls = gpt2_ft.train_step, []


def train_step(*arguments):
    calls.append(arguments)
    if len(calls) == 13 and processes.rank() == 1:
        os.kill(os.getpid(), 9)
    return plain(*arguments)


gpt2_ft.train_step = train_step
processes.run_main(gpt2_ft.main)
"""


def test_a_run_whose_process_was_killed_goes_on_to_the_same_bits(rows, trained, tmp_path):
    """The state is of step 10, behind which both have agreed to write one."""
    program, flags = tmp_path / "cut_off.py", ["--resume", "--state_minutes", "1e-9"]
    program.write_text(CUT_OFF.format(imports=IMPORTS))
    records = train(rows, tmp_path / "work", 2, STEPS, *flags, program=program, status=None)
    assert max(record["step"] for record in records) in (11, 12)
    train(rows, tmp_path / "work", 2, STEPS, *flags)
    whole, resumed = ((folder / f"model.{STEPS}.safetensors").read_bytes()
                      for folder in (trained[1][0], tmp_path / "work"))
    assert whole == resumed
    assert read_json(tmp_path / "work" / "train_summary.json", dict)["resumed_at"] == [10]


@pytest.mark.parametrize("precision, tolerance", [("fp16", 1e-4), ("fp64", 1e-12)])
def test_micro_batches_are_shared_in_each_precision(precision, tolerance, rows, tmp_path):
    """In fp16 rounding is coarse, but that of a row does not depend on its neighbours; the scale of the loss is shared.

    In fp64 the sums of gradients are of 64 bits too.
    """
    alone, together = (train(rows, tmp_path / str(count), count, 6, f"--{precision}", "--grad_acc", "2")
                       for count in (1, 2))
    assert losses(together, "train") == pytest.approx(losses(alone, "train"), rel=tolerance)


def test_two_processes_go_on_where_they_were_cut_off(rows, trained, tmp_path):
    """The state of step 10 is there in any case, before the validation pass."""
    begun = started(training_words(rows, tmp_path, 2, STEPS))
    for line in begun.stdout:
        if "step       12" in line:
            break
    begun.terminate()
    begun.communicate(timeout=120)
    again = run(training_words(rows, tmp_path, 2, STEPS, "--resume"))
    assert "going on behind step 1" in again.stdout
    whole = trained[1][0]
    assert (tmp_path / f"model.{STEPS}.safetensors").read_bytes() == (whole / f"model.{STEPS}.safetensors").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in whole.iterdir()}
    records = [record for _, record in read_json_lines(tmp_path / "train_log.jsonl")]
    for kind in ("train", "validation"):
        assert losses(records, kind) == losses(trained[1][1], kind)


def test_beam_search_writes_the_same_bytes(rows, trained, tmp_path):
    written = []
    for start in ([sys.executable], launcher(2)):
        run([*start, "src/gpt2_beam.py", "--data", rows / "test.jsonl", *MODEL, "--lora_checkpoint",
             trained[0][0] / f"model.{STEPS}.safetensors", "--work_dir", tmp_path, "--batch_size", "2", "--beam", "3",
             "--eval_len", "8"])
        written.append((tmp_path / "predict.jsonl").read_bytes())
        assert read_json(tmp_path / "predict.jsonl.summary.json", dict)["contexts"] == 9
    assert written[0] == written[1]


# One process ends while the other one waits for it.
ENDING = """
import os
import sys

sys.path.insert(0, "src")
{imports}
import process_group
from common.errors import UserError
from common.run import processes

processes.LAUNCHER_SECONDS = 1


def main(argv):
    process_group.join()
    assert processes.gather(processes.rank()) == [0, 1]
    if processes.rank() == {rank}:
        {ending}
    processes.gather("never")


processes.run_main(main)
"""
USER_ERROR = 2 if FRAMEWORK == "jittor" else 1  # torchrun's own status is 1, mpirun's the process's


@pytest.mark.parametrize("rank, ending, status, said", [
    (1, "raise UserError('this cannot be')", USER_ERROR, "error: this cannot be"),
    (0, "raise KeyError('a mistake')", 1, "KeyError: 'a mistake'"),
    (1, "os.kill(os.getpid(), 9)", None, "9"),
])
def test_a_process_that_ends_ends_the_other(rank, ending, status, said, tmp_path):
    program = tmp_path / "ending.py"
    program.write_text(ENDING.format(rank=rank, ending=ending, imports=IMPORTS))
    ended = run([*launcher(2), program], status)
    everything = ended.stdout + ended.stderr
    assert said in everything and everything.count("error: ") <= 1


LATE = """
import sys
import time

sys.path.insert(0, "src")
{imports}
from common.run import processes
import gpt2_ft


def late(seconds, plain):
    def later(*arguments):
        if processes.place().rank == {late}:
            time.sleep(seconds)
        return plain(*arguments)
    return later


gpt2_ft.run_training = late(0.05, gpt2_ft.run_training)
main = late(1, gpt2_ft.main)

processes.run_main(main)
"""


@pytest.mark.parametrize("flags, said, late", [
    *((["--max_step", "3"], "none.jsonl: no such file", late) for late in (None, 0, 1)),  # found once they are joined
    (["--max_step", "0"], "--max_step", 1),
    (["--max_steps", "3"], "unrecognized arguments: --max_steps", 0)])
def test_what_all_find_wrong_is_said_once(flags, said, late, rows, tmp_path):
    """Also where one of them finds it later, just before the launcher has ended it or long after it would have."""
    program = tmp_path / "late.py"
    program.write_text(LATE.format(imports=IMPORTS, late=late))
    data = ["--train_data", rows / "none.jsonl", "--valid_data", rows / "valid.jsonl"]
    ended = run([*launcher(2), program, *data, *MODEL, *flags, "--work_dir", tmp_path], USER_ERROR)
    assert ended.stderr.count("late.py: error: ") == 1 and said in ended.stderr
