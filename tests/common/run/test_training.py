"""The training run around made-up steps: log lines, intervals, checkpoints, divergence."""

import json
import math
import re
from types import SimpleNamespace

import pytest

from common.errors import UserError
from common.files import read_json, write_json_lines
from common.run.training import Steps, planned_steps, run_training


@pytest.fixture
def arguments(tmp_path):
    rows = str(tmp_path / "rows.jsonl")
    write_json_lines(rows, ({"context": [index + 1, 9], "completion": [3, 4]} for index in range(10)))
    return SimpleNamespace(
        train_data=rows, valid_data=rows, train_batch_size=4, valid_batch_size=4, seq_len=16, obj="clm", grad_acc=1,
        lr=1.0, warmup_step=2, scheduler="linear", max_epoch=3, max_step=None, i_steps=[0], i_lrs=[0.0], log_interval=2,
        eval_interval=5, save_interval=4, eval_epoch=1, no_shuffle=False, random_seed=1,
        work_dir=str(tmp_path / "work"))


# The ten rows of validation are three batches, which come together.
def made_up_steps(seen, losses=lambda step: 2.0 - step / 10):
    def train(batch, learning_rate, is_update):
        seen.append((len(batch.offsets) - 1, learning_rate, is_update))
        return losses(sum(len(entry) == 3 for entry in seen))
    return Steps(train=train, validate=lambda batch: 3 * 1.5, save=lambda path, step: seen.append((path, step)),
                 peak_memory_bytes=lambda: 1 << 20, description={"framework": "made up"})


def test_log_lines_are_those_that_others_parse(arguments, capsys):
    run_training(arguments, made_up_steps([]))
    lines = capsys.readouterr().out.splitlines()
    training = [line for line in lines if line.startswith("| epoch")]
    number = r"\s*[\d.e+-]+"
    assert all(re.fullmatch(rf"\| epoch {number} step {number} \| {number} batches \| lr {number} \| "
                            rf"ms/batch{number} \| loss{number} \| avg loss{number} \| ppl{number}", line)
               for line in training)
    # step 2 of 9 with a warm-up of 2: the rate after two scheduler steps is the full one; losses 1.9 and 1.8
    assert re.search(r"\| epoch   1 step        2 \|      2 batches \| lr 1 \| ms/batch .* \| loss  1.80 \| "
                     r"avg loss  1.85 \| ppl  6.36", training[0])
    assert any(re.fullmatch(r"\| Eval   1 at step        3 \| time: .*s \| valid loss  1.50 \| valid ppl  4.48 \| "
                            r"best ppl  4.48", line) for line in lines)


def test_steps_rates_and_intervals(arguments):
    arguments.grad_acc = 2
    seen = []
    run_training(arguments, made_up_steps(seen))
    steps = [entry for entry in seen if len(entry) == 3]
    assert len(steps) == 9  # 3 epochs of ceil(10 / 4) batches
    assert [rate for _, rate, _ in steps[:4]] == pytest.approx([0.0, 0.5, 1.0, 6 / 7])  # the first step's rate is 0
    assert [is_update for _, _, is_update in steps[:4]] == [False, True, False, True]
    assert all(count == 4 for count, _, _ in steps)
    saved = [entry[1] for entry in seen if len(entry) == 2]
    assert saved == [3, 4, 6, 8, 9]  # every 4 steps and at the end of each epoch
    records = [json.loads(line) for line in open(arguments.work_dir + "/train_log.jsonl", encoding="utf-8")]
    assert [record["step"] for record in records if record["kind"] == "validation"] == [3, 5, 6, 9]
    summary = read_json(arguments.work_dir + "/train_summary.json")
    assert summary["steps"] == 9 and summary["valid_loss"] == 1.5
    assert summary["checkpoint"].endswith("model.9.safetensors")


def test_the_shorter_of_steps_and_epochs_ends_the_run(arguments):
    assert planned_steps(arguments, 10) == 9
    arguments.max_step = 5
    assert planned_steps(arguments, 10) == 5
    arguments.max_epoch = None
    assert planned_steps(arguments, 10) == 5


def test_a_loss_that_is_no_number_ends_the_run(arguments):
    with pytest.raises(UserError, match="the loss of step 5 is nan: training has diverged"):
        run_training(arguments, made_up_steps([], lambda step: math.nan if step == 5 else 1.0))
