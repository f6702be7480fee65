"""Command lines: the original's flags, each working or refused with a sentence."""

import re

import pytest

from common.data.decoding import parse_arguments
from common.errors import UserError
from common.paths import ROOT
from common.run.arguments import (
    alignment_arguments,
    beam_arguments,
    flags_of_beam,
    flags_of_training,
    training_arguments,
)
from common.run.ranges import RANGES

NEEDED = ["--train_data", "t", "--valid_data", "v", "--init_checkpoint", "c"]

# Every flag of the original training program's command line.
ORIGINAL = """--train_batch_size 8 --grad_acc 2 --valid_batch_size 4 --seq_len 512 --model_card gpt2.md --platform local
 --clip 0.5 --lr 0.0002 --weight_decay 0.01 --correct_bias --adam_epislon 1e-6 --adam_beta1 0.9 --adam_beta2 0.999
 --no_decay_bias --scheduler linear --warmup_step 500 --max_epoch 5 --max_step 100 --i_steps 0 --i_lrs 0.00025
 --eval_interval 2000 --save_interval 1000 --log_interval 100 --eval_epoch 1 --obj clm --lora_dim 4 --lora_alpha 32
 --lora_dropout 0.1 --label_smooth 0.1 --roll_interval -1 --roll_lr 0.00001 --roll_step 100 --work_dir w
 --random_seed 110""".split()


def test_every_original_flag_is_taken():
    arguments = training_arguments(NEEDED + ORIGINAL, "")
    assert arguments.lora.rank == 4 and arguments.lora.targets == ("q", "v") and arguments.card.layers == 24


@pytest.mark.parametrize("flags, sentence", [
    (["--platform", "azure"], "only local works"), (["--roll_lr", "0.1"], "does nothing with them"),
    (["--scheduler", "dev_perf"], "keeps the rate constant"), (["--seq_len", "2048"], "the positions of gpt2.md"),
    (["--lora_dim", "-1"], "expected at least 0"),
    (["--lora_targets", "q,x"], "expected some of q,k,v,o,fc,proj"), (["--label_smooth", "1"], "less than 1"),
    (["--lr", "-1"], "expected at least 0"), (["--max_epoch", "0"], "at least 1"),
    (["--lora_targets", "q,q"], "name each once"), (["--lora_checkpoint", ""], "--lora_checkpoint '': is empty"),
    (["--lora_dim", "1025"], "at most 1024, the width of gpt2.md"),
    (["--grad_acc", "4"], "more than the 3 steps of --max_step, so that the weights would never be updated"),
    (["--scheduler", "cycle", "--i_steps", "0,10", "--i_lrs", "1"], "the same number of points"),
    (["--scheduler", "cycle", "--i_steps", "0,x", "--i_lrs", "1,2"], "comma-separated numbers")])
def test_refusals(flags, sentence):
    with pytest.raises(UserError, match=sentence):
        training_arguments([*NEEDED, "--max_step", "3", *flags], "")


def test_precisions_are_flags_that_exclude_each_other():
    base = [*NEEDED, "--max_step", "3"]
    assert training_arguments(base, "").precision == "fp32"
    for name in ("tf32", "bf16", "fp16", "fp64"):
        assert training_arguments([*base, f"--{name}"], "").precision == name
        assert beam_arguments(["--data", "d", "--init_checkpoint", "c", f"--{name}"], "").precision == name
    for pair in (["--bf16", "--fp16"], ["--fp64", "--tf32"]):
        with pytest.raises(SystemExit) as end:
            training_arguments([*base, *pair], "")
        assert end.value.code == 2


def test_training_without_an_end_is_refused():
    with pytest.raises(UserError, match="would have no end"):
        training_arguments(NEEDED, "")


def test_unknown_flags_and_abbreviations_end_with_status_2():
    for word in ("--learning_rate", "--train_batch"):
        with pytest.raises(SystemExit) as end:
            training_arguments([*NEEDED, "--max_step", "3", word, "1"], "")
        assert end.value.code == 2


def test_end_tokens_are_added_to_gpt2s_own():
    base = ["--data", "d", "--init_checkpoint", "c"]
    assert beam_arguments([*base, "--eos_token_id", "628"], "").eos_token_id == [50256, 628]
    assert beam_arguments(base, "").eos_token_id == [50256]


@pytest.mark.parametrize("flags, sentence", [
    (["--eval_len", "512"], "leaves no room"), (["--beam", "50258"], "at most 50257, the size of the vocabulary"),
    (["--eos_token_id", "60000"], "no such token"), (["--min_length", "65"], "at most --eval_len 64"),
    (["--output_file", "."], "the name of a file"), (["--output_file", "a/"], "the name of a file"),
    (["--output_file", ""], "is empty")])
def test_refusals_of_beam_search(flags, sentence):
    with pytest.raises(UserError, match=sentence):
        beam_arguments(["--data", "d", "--init_checkpoint", "c", *flags], "")


OF_ALIGNMENT = ("steps", "contexts")  # flags of align.py alone
# For each flag that is a number: the lowest and the highest that is taken, and what is refused just outside.
INTEGERS = {"seq_len": (2, 1024), "lora_dim": (0, 1024), "random_seed": (0, 2**31 - 1), "train_batch_size": (1, 2**15),
            "valid_batch_size": (1, 2**15), "grad_acc": (1, 9), "warmup_step": (0, 2**31 - 1),
            **dict.fromkeys(("max_epoch", "max_step", "log_interval", "eval_interval", "save_interval", "eval_epoch",
                             "keep_last", "batch_size", *OF_ALIGNMENT), (1, 2**31 - 1)),
            "eval_len": (1, 511), "min_length": (0, 64), "beam": (1, 50257), "no_repeat_ngram_size": (0, 2**31 - 1),
            "eos_token_id": (0, 50256)}
NUMBERS = {"lora_alpha": ("1e-9", "3e38", "0", "-1", "4e38"), "clip": ("0", "3e38", "-1e-9", "4e38"),
           **dict.fromkeys(("lr", "weight_decay", "state_minutes"), ("0", "3e38", "-1e-9", "4e38")),
           **dict.fromkeys(("label_smooth", "lora_dropout", "adam_beta1", "adam_beta2"), ("0", ".999", "-1e-9", "1")),
           "adam_epislon": ("1e-30", "1", "0", "-1", "1e-31"), "length_penalty": ("-100", "100", "-101", "1e6"),
           "repetition_penalty": ("1e-6", "1e6", "0", "-1", "1e7")}

OF_EVENTS = {"backbone_dropout", "head_dropout", "warmup_share"}  # test_event_arguments.py has these


def parsed(flags):
    """The namespace of the program that takes the first of the flags."""
    words = [f"--{name}={value}" for name, value in flags]
    if flags[0][0] in OF_ALIGNMENT:
        return alignment_arguments([*NEEDED, "--max_step", "9", "--test_data", "t", "--output", "o", *words], "")
    if flags[0][0] in flags_of_beam(words)[0] and flags[0][0] not in flags_of_training(words)[0]:
        return beam_arguments(["--data", "d", "--init_checkpoint", "c", *words], "")
    return training_arguments([*NEEDED, *([] if flags[0][0] == "max_step" else ["--max_step", "9"]), *words], "")


def test_every_number_has_a_range():
    training = training_arguments([*NEEDED, "--max_step", "3", "--max_epoch", "1"], "")
    beam = beam_arguments(["--data", "d", "--init_checkpoint", "c"], "")
    flags = {**vars(parsed([(OF_ALIGNMENT[0], 1)])), **vars(beam), **vars(training)}
    found = {name for name, value in flags.items() if type(value) in (int, float) or isinstance(value, list)}
    refused = {"roll_interval", "roll_lr", "roll_step"}  # whatever they are
    assert set(RANGES) - OF_EVENTS == found - refused
    assert set(RANGES) - OF_EVENTS == {*INTEGERS, *NUMBERS, "i_steps", "i_lrs"}, "the tests below have every range"


def test_help_says_the_range(capsys):
    with pytest.raises(SystemExit):
        training_arguments(["--help"], "")
    text = " ".join(capsys.readouterr().out.split())
    assert "steps between log lines; at least 1 and at most 2147483647 (default: 100)" in text
    assert "--lr LR at least 0 and at most 3e+38 (default: 1e-05)" in text


@pytest.mark.parametrize("name", INTEGERS)
def test_integers_up_to_their_bounds(name):
    low, high = INTEGERS[name]
    assert all(getattr(parsed([(name, value)]), name) in (value, [50256, value]) for value in (low, high))
    for value in (low - 1, high + 1, -5, 10**400):
        with pytest.raises(UserError, match=f"--{name} .*(expected|leaves no room|more than the 9 steps)"):
            parsed([(name, value)])


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_up_to_their_bounds(name):
    low, high, *outside = NUMBERS[name]
    assert all(getattr(parsed([(name, value)]), name) == float(value) for value in (low, high))
    for value in (*outside, "nan", "inf", "-inf", "1e999"):
        with pytest.raises(UserError, match=re.escape(f"--{name} {float(value)}: expected ")):
            parsed([(name, value)])


@pytest.mark.parametrize("steps, rates, sentence", [
    ("-5,10", "0.1,0.1", "--i_steps -5: expected at least 0"), ("0,10", "0.1,-0.1", "--i_lrs -0.1: expected at least"),
    ("0,10", "0.1,nan", "--i_lrs nan: expected at least 0 and at most 3e.38")])
def test_points_of_a_cycle_lie_in_their_range(steps, rates, sentence):
    with pytest.raises(UserError, match=sentence):
        training_arguments([*NEEDED, "--scheduler", "cycle", f"--i_steps={steps}", f"--i_lrs={rates}"], "")


def test_the_last_point_of_a_cycle_is_the_last_step(capsys):
    cycle = [*NEEDED, "--scheduler", "cycle", "--i_steps", "0,20", "--i_lrs", "0,1"]
    assert training_arguments(cycle, "").max_step == 20 and not capsys.readouterr().err
    assert training_arguments([*cycle, "--max_step", "30"], "").max_step == 20
    assert capsys.readouterr().err == "note: --max_step 30 becomes 20, the last of --i_steps\n"


def test_flags_are_sorted_by_the_program_that_takes_them():
    words = ["--lr", "0.1", "--beam", "3", "--seq_len", "64"]
    assert flags_of_training(words) == ({"lr": 0.1, "seq_len": 64}, ["--beam", "3"])
    assert flags_of_beam(words) == ({"beam": 3, "seq_len": 64}, ["--lr", "0.1"])


def test_the_document_lists_the_defaults_that_the_programs_have():
    """docs/semantics.md, "Defaults of the flags"; only paths are written there in words."""
    table = (ROOT / "docs/semantics.md").read_text(encoding="utf-8").split("### Defaults of the flags")[1]
    rows = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in table.splitlines()
            if line.startswith("|") and "`--" in line]
    defaults = {"gpt2_ft": vars(training_arguments(["--train_data", "a", "--valid_data", "a", "--init_checkpoint", "a",
                                                    "--max_step", "1"], "")),
                "gpt2_beam": vars(beam_arguments(["--data", "a", "--init_checkpoint", "a"], "")),
                "gpt2_decode": vars(parse_arguments(["--sample_file", "a", "--input_file", "a", "--output_ref_file",
                                                     "a", "--output_pred_file", "a"]))}
    assert len(rows) == 12
    program = ""
    for names, flag, here, _ in rows:
        program = names.split("`")[0] or program
        found = str(defaults[program][flag.removeprefix("--")])
        assert {".": "the current folder"}.get(found, found.removesuffix(".0")) == here, flag
