"""Command lines: the original's flags, each working or refused with a sentence."""

import pytest

from common.errors import UserError
from common.run.arguments import beam_arguments, flags_of_beam, flags_of_training, training_arguments

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
    (["--lora_dim", "0"], "full fine-tuning is not offered"),
    (["--lora_targets", "q,x"], "expected some of q,k,v,o,fc,proj"), (["--label_smooth", "1"], "less than 1"),
    (["--lr", "-1"], "expected 0 or more"), (["--max_epoch", "0"], "1 or more"),
    (["--scheduler", "cycle", "--i_steps", "0,10", "--i_lrs", "1"], "the same number of points"),
    (["--scheduler", "cycle", "--i_steps", "0,x", "--i_lrs", "1,2"], "comma-separated numbers")])
def test_refusals(flags, sentence):
    with pytest.raises(UserError, match=sentence):
        training_arguments([*NEEDED, "--max_step", "3", *flags], "")


def test_precisions_are_flags_that_exclude_each_other():
    base = [*NEEDED, "--max_step", "3"]
    assert training_arguments(base, "").precision == "fp32"
    for name in ("tf32", "bf16", "fp16"):
        assert training_arguments([*base, f"--{name}"], "").precision == name
        assert beam_arguments(["--data", "d", "--init_checkpoint", "c", f"--{name}"], "").precision == name
    with pytest.raises(SystemExit) as end:
        training_arguments([*base, "--bf16", "--fp16"], "")
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
    (["--eval_len", "512"], "leaves no room"), (["--repetition_penalty", "0"], "more than 0"),
    (["--beam", "0"], "1 or more"), (["--eos_token_id", "60000"], "no such token")])
def test_refusals_of_beam_search(flags, sentence):
    with pytest.raises(UserError, match=sentence):
        beam_arguments(["--data", "d", "--init_checkpoint", "c", *flags], "")


def test_flags_are_sorted_by_the_program_that_takes_them():
    words = ["--lr", "0.1", "--beam", "3", "--seq_len", "64"]
    assert flags_of_training(words) == ({"lr": 0.1, "seq_len": 64}, ["--beam", "3"])
    assert flags_of_beam(words) == ({"beam": 3, "seq_len": 64}, ["--lr", "0.1"])
