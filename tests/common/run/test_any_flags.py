"""Whatever a command line says, it becomes a namespace, a sentence or argparse's usage, and no other error."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from common.run.arguments import beam_arguments, training_arguments
from common.run.ranges import RANGES

NEEDED = {training_arguments: ["--train_data", "t", "--valid_data", "v", "--init_checkpoint", "c", "--max_step", "9"],
          beam_arguments: ["--data", "d", "--init_checkpoint", "c"]}
TRAINING = ["lr", "clip", "train_batch_size", "valid_batch_size", "grad_acc", "label_smooth", "lora_dropout",
            "lora_dim", "lora_alpha", "weight_decay", "adam_beta1", "adam_beta2", "adam_epislon", "warmup_step",
            "max_epoch", "max_step", "log_interval", "eval_interval", "save_interval", "eval_epoch", "seq_len",
            "random_seed", "i_steps", "i_lrs", "state_minutes", "keep_last", "world_size", "local_rank"]
BEAM = ["batch_size", "eval_len", "min_length", "beam", "length_penalty", "no_repeat_ngram_size",
        "repetition_penalty", "eos_token_id", "seq_len", "lora_dim", "lora_alpha", "random_seed"]
CHOICES = {"scheduler": ["linear", "cycle", "cosine", "constant", "inv_sqrt", "x"], "lora_targets": ["q,v", "x", ""],
           "model_card": ["gpt2.sm", "gpt2.nano", "gpt2"], "device": ["cpu", "0", "cuda:1"], "obj": ["clm", "jlm", "?"]}
ODD_NUMBERS = [0.5, 1, 512, 1e-9, 2**31, 10**400]
NUMBER = st.one_of(st.integers(-3, 3), st.integers(), st.floats(), st.sampled_from(ODD_NUMBERS)).map(
    str) | st.sampled_from(["", "x", "1e3", "0x10", "1,2", "3,1", "0,5,5", "١", " 7", "1_0", "-0"])


def flags(names):
    """Lists of words: flags with numbers that may be in range, out of it, or none."""
    number = st.tuples(st.sampled_from(names), NUMBER)
    choice = st.sampled_from([(name, value) for name, values in CHOICES.items() for value in values])
    return st.lists(number | choice, max_size=4).map(lambda pairs: [f"--{name}={value}" for name, value in pairs])


def parsed(parse, words):
    """Returns the namespace, or None where the command line is refused in an orderly way."""
    try:
        return parse([*NEEDED[parse], *words], "")
    except UserError as error:
        assert ("--" in str(error) or str(error).startswith("LoRA targets")) and "\n" not in str(error)
    except SystemExit as end:
        assert end.code == 2
    return None


@pytest.mark.parametrize("parse, names", [(training_arguments, TRAINING), (beam_arguments, BEAM)])
def test_any_value_of_any_flag(parse, names, capsys):
    @given(flags(names))
    @settings(max_examples=150, deadline=None)
    def check(words):
        arguments = parsed(parse, words)
        if arguments is None:
            return
        for name, value in vars(arguments).items():
            for number in value if isinstance(value, list) else [value]:
                if isinstance(number, float):
                    assert math.isfinite(number), (name, words)
                if name in RANGES and isinstance(number, int | float):
                    assert number in RANGES[name], (name, words)
        assert arguments.seq_len <= arguments.card.positions and arguments.lora.rank <= arguments.card.width

    check()
    capsys.readouterr()


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12), max_size=3))
@settings(max_examples=100, deadline=None)
def test_any_words(words):
    for parse in NEEDED:
        parsed(parse, words)
