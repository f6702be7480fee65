"""The training run around made-up steps: log lines, intervals, checkpoints, divergence."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

from common.errors import UserError
from common.files import read_json
from common.model.initial_weights import RANDOM
from common.model.lora_file import LoraRecord, save_lora
from common.run.training import plan_of, planned_steps, run_training
from tests.common.run.made_up_steps import made_up_steps


def no_model(arguments):
    raise AssertionError("the model was built")


def files_of(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


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
    with pytest.raises(UserError, match="the loss of step 5, of rows .* of .*, is nan: training has diverged"):
        run_training(arguments, made_up_steps([], lambda step: math.nan if step == 5 else 1.0))


@pytest.mark.parametrize("interval, last_saved", [("save_interval", 4), ("log_interval", 3)])
def test_nothing_is_saved_behind_a_loss_that_is_no_number(arguments, interval, last_saved):
    seen = []
    arguments.save_interval = arguments.log_interval = 100
    setattr(arguments, interval, 2)
    with pytest.raises(UserError, match="the loss of step 5, of rows .*, is inf"):
        run_training(arguments, made_up_steps(seen, lambda step: math.inf if step == 5 else 1.0))
    assert max(entry[1] for entry in seen if len(entry) == 2) == last_saved
    assert not Path(arguments.work_dir, "train_summary.json").exists()


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_validation_loss_that_is_no_number_ends_the_run(arguments, loss):
    with pytest.raises(UserError, match=f"the validation loss after step 3 is {loss}: training has diverged"):
        run_training(arguments, made_up_steps([], valid_loss=loss))
    assert not Path(arguments.work_dir, "train_summary.json").exists()
    lines = Path(arguments.work_dir, "train_log.jsonl").read_text().splitlines()
    assert [json.loads(line)["kind"] for line in lines] == ["train"]


def test_a_work_directory_with_a_run_in_it_is_left_alone(arguments):
    run_training(arguments, made_up_steps([]))
    before = files_of(arguments.work_dir)
    with pytest.raises(UserError, match="work: holds another training's model.3.safetensors, model.4.safetensors, "
                                        "model.6.safetensors, model.8.safetensors and 3 more; give a --work_dir of its "
                                        "own, or --overwrite"):
        run_training(arguments, no_model)
    assert files_of(arguments.work_dir) == before
    arguments.overwrite, arguments.max_step = True, 2
    run_training(arguments, made_up_steps([]))
    assert read_json(arguments.work_dir + "/train_summary.json")["steps"] == 2


@pytest.mark.parametrize("name, content, is_free", [
    ("train_log.jsonl", "", True), ("train_log.jsonl", "{}\n", False), ("model.7.safetensors", "", False),
    ("train_summary.json", "{}", False), ("model.safetensors", "x", True), ("notes.txt", "x", True)])
def test_which_files_are_a_runs(arguments, name, content, is_free):
    Path(arguments.work_dir).mkdir()
    Path(arguments.work_dir, name).write_text(content)
    if is_free:
        plan_of(arguments)
    else:
        with pytest.raises(UserError, match=f"holds another training's {name};"):
            plan_of(arguments)


def test_a_summary_of_before_does_not_outlive_the_run_that_it_is_of(arguments):
    run_training(arguments, made_up_steps([]))
    arguments.overwrite = True
    with pytest.raises(UserError, match="the loss of step 1"):
        run_training(arguments, made_up_steps([], lambda step: math.nan))
    assert not Path(arguments.work_dir, "train_summary.json").exists()


def test_steps_count_on_from_the_weights_that_a_run_starts_from(arguments, tmp_path):
    start = tmp_path / "model.400.safetensors"
    lora = {"transformer.h.0.attn.c_attn.lora_A": np.ones((2, 2))}
    save_lora(start, lora, LoraRecord("gpt2.nano", 1, 1, step=400))
    for flag in ("lora_checkpoint", "init_checkpoint"):
        seen = []
        arguments.work_dir, arguments.init_checkpoint = str(tmp_path / flag), RANDOM
        setattr(arguments, flag, str(start))
        run_training(arguments, made_up_steps(seen))
        saved = [entry for entry in seen if len(entry) == 2]
        assert [step for _, step in saved] == [403, 404, 406, 408, 409]
        assert all(path == f"{arguments.work_dir}/model.{step}.safetensors" for path, step in saved)
        summary = read_json(arguments.work_dir + "/train_summary.json")
        assert (summary["steps"], summary["steps_before"]) == (9, 400)
        assert summary["checkpoint"].endswith("model.409.safetensors")


def test_weights_that_would_never_be_updated(arguments):
    arguments.grad_acc = 10
    with pytest.raises(UserError, match="--grad_acc 10: more than the 9 steps of the run, so that the weights would"):
        run_training(arguments, no_model)


def test_gradients_that_update_nothing_are_said(arguments, capsys):
    arguments.grad_acc = 4
    plan_of(arguments)
    assert "note: the gradients of the last 1 of 9 steps update nothing: --grad_acc is 4\n" == capsys.readouterr().err
    arguments.grad_acc = 3
    plan_of(arguments)
    assert not capsys.readouterr().err


@pytest.mark.parametrize("change, sentence", [
    ({"train_data": "nowhere.jsonl"}, "nowhere.jsonl: no such file"), ({"valid_data": "nowhere.jsonl"}, "no such file"),
    ({"lora_checkpoint": "nowhere.safetensors"}, "no such checkpoint"),
    ({"seq_len": 2}, "none of its 10 rows has a token to predict")])
def test_what_is_wrong_without_a_model_is_found_before_it_is_built(arguments, change, sentence):
    vars(arguments).update(change)
    with pytest.raises(UserError, match=sentence):
        run_training(arguments, no_model)
    assert not Path(arguments.work_dir).exists()


def test_a_work_directory_that_is_a_file(arguments, tmp_path):
    arguments.work_dir = str(tmp_path / "rows.jsonl")
    with pytest.raises(UserError, match="rows.jsonl is a file, expected a folder"):
        run_training(arguments, no_model)
