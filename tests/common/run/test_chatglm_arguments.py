"""ChatGLM2's arguments: flags or one file, unknown names, what goes together."""

import json

import pytest

from common.errors import UserError
from common.run.chatglm_arguments import chatglm_generation_arguments, chatglm_training_arguments
from common.run.ranges import CHATGLM_RANGES, RANGES

NEEDED = {"model_name_or_path": "random", "train_file": "train.json", "output_dir": "out"}
# Those of the script that users know, with the values that it had there.
USERS = {"prompt_column": "content", "response_column": "summary", "history_column": None,
         "validation_file": "dev.json", "test_file": "dev.json", "max_source_length": 64,
         "max_target_length": 128, "ignore_pad_token_for_loss": True,
         "source_prefix": "", "lora_r": 32, "lora_alpha": 16.0, "lora_dropout": 0.05, "per_device_train_batch_size": 1,
         "per_device_eval_batch_size": 1, "gradient_accumulation_steps": 16, "learning_rate": 2e-5, "max_steps": 3000,
         "num_train_epochs": None, "logging_steps": 10, "save_steps": 100, "do_train": True, "do_eval": False,
         "do_predict": False, "predict_with_generate": False, "resume_from_checkpoint": None, "seed": 42, "bf16": True,
         "fp16": False, "gradient_checkpointing": True, "max_train_samples": None, "max_eval_samples": None}


def flags(**members):
    return [f"--{name}={value}" for name, value in {**NEEDED, **members}.items()]


@pytest.fixture
def parse_file(tmp_path):
    def parsed(members):
        path = tmp_path / "config.json"
        path.write_text(json.dumps(members))
        return chatglm_training_arguments([str(path)], "")
    return parsed


def test_every_name_of_the_users_works(parse_file, capsys):
    arguments = parse_file({**NEEDED, **USERS})
    for name, value in USERS.items():
        if hasattr(arguments, name):
            assert getattr(arguments, name) == value, name
    assert "--gradient_checkpointing has no effect" in capsys.readouterr().err
    assert (arguments.precision, arguments.card.name, arguments.train_batch_size) == ("bf16", "chatglm2.6b", 16)
    assert (arguments.lora.rank, arguments.lora.alpha, arguments.lora.dropout) == (32, 16, 0.05)


def test_a_file_and_flags_say_the_same(parse_file):
    members = {**NEEDED, "lora_r": 8, "bf16": True, "learning_rate": 1e-4, "overwrite_output_dir": False}
    assert vars(parse_file(members)) == vars(chatglm_training_arguments(flags(
        lora_r=8, bf16="true", learning_rate=1e-4, overwrite_output_dir="false"), ""))
    assert chatglm_training_arguments([*flags(), "--bf16"], "").bf16


@pytest.mark.parametrize("members, sentence", [
    ({"lora_rank": 8}, r"config.json: --lora_rank: no such name; did you mean --lora_r\?"),
    ({"learning_rat": 1}, r"did you mean --learning_rate\?"),
    ({"foo": 1}, "--foo: no such name; --help lists them"),
    ({"lr": 1}, r"did you mean --learning_rate\?"),
    ({"do_predict": True}, "generated and scored by chatglm2_generate.py"),
    ({"pre_seq_len": 128}, "prefix tuning is not offered"),
    ({"fp64": True}, "config.json: --fp64: ChatGLM2 is computed in fp32, tf32, bf16 and fp16 alone"),
    ({"max_steps": 0}, "--max_steps 0: expected at least 1"),
    ({"max_steps": "many"}, "invalid int value"),
    ({"bf16": "yes"}, "expected true or false"),
    ({"bf16": True, "fp16": True}, "--bf16 and --fp16: expected one of them"),
    ({"seed": [1]}, "'seed' is a list"),
    ({"do_train": False}, "nothing to do"),
    ({"do_eval": True}, "--do_eval needs --validation_file"),
    ({"ignore_pad_token_for_loss": False}, "rows are not padded"),
    ({"max_source_length": 9000}, "9129 tokens in a row, expected at most 8192"),
    ({"model_name_or_path": None}, "required: --model_name_or_path"),
    ({"lora_checkpoint": "a", "resume_from_checkpoint": "b"}, "expected one of them"),
    ({"resume_from_checkpoint": "elsewhere"}, "expected true, --output_dir out, or a LoRA file")])
def test_what_is_refused(parse_file, members, sentence):
    with pytest.raises(UserError, match=sentence):
        parse_file({**NEEDED, **members})


@pytest.mark.parametrize("value, resume, lora", [
    ("true", True, None), ("out", True, None), ("false", False, None), ("a.safetensors", False, "a.safetensors")])
def test_resuming(value, resume, lora):
    arguments = chatglm_training_arguments(flags(resume_from_checkpoint=value), "")
    assert (arguments.resume, arguments.lora_checkpoint) == (resume, lora)


@pytest.mark.parametrize("words, sentence", [
    (["config.json", "--bf16"], "'config.json': expected flags, or one .json file alone"),
    (["--question", "x", "--test_file", "y"], "expected one of them"),
    (["--test_file", "y"], "--test_file needs --output_file"),
    (["--test_file", "y", "--output_file", "z", "--history", "h"], "has --history_column"),
    (["--do_sample", "--num_beams", "2"], "expected one of them"),
    (["--fp64"], "--fp64: ChatGLM2 is computed in fp32, tf32, bf16 and fp16 alone"),
    (["--top_p", "0"], "--top_p 0.0: expected more than 0"),
    (["--tempreature", "1"], r"did you mean --temperature\?")])
def test_what_generation_refuses(words, sentence):
    with pytest.raises(UserError, match=sentence):
        chatglm_generation_arguments(["--model_name_or_path", "random", *words], "")


def test_several_processes_are_refused(monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="torchrun has started 2 processes: this program runs as one"):
        chatglm_training_arguments(flags(), "")


def test_event_files():
    assert chatglm_training_arguments(flags(report_to="tensorboard"), "").tensorboard
    assert not chatglm_training_arguments(flags(), "").tensorboard


def test_every_number_has_a_range():
    generation = chatglm_generation_arguments(["--model_name_or_path", "random", "--max_predict_samples", "1"], "")
    training = chatglm_training_arguments(flags(max_steps=1, num_train_epochs=1, eval_steps=1, max_train_samples=1,
                                                max_eval_samples=1), "")
    found = {name for name, value in {**vars(generation), **vars(training)}.items() if type(value) in (int, float)}
    assert found <= {*CHATGLM_RANGES, *RANGES} and found >= set(CHATGLM_RANGES)


@pytest.mark.parametrize("name", CHATGLM_RANGES)
def test_numbers_outside_their_ranges(name):
    low = CHATGLM_RANGES[name].low
    add = chatglm_generation_arguments if name in ("num_beams", "top_p", "temperature", "max_predict_samples"
                                                   ) else chatglm_training_arguments
    needed = ["--model_name_or_path", "random"] if add is chatglm_generation_arguments else flags()
    with pytest.raises(UserError, match=f"--{name} .*: expected"):
        add([*needed, f"--{name}={low - 1}"], "")
