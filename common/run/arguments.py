"""Command lines of training and beam search: the original program's flags, each one working or refused."""

import argparse
import os

from common.errors import UserError, note
from common.model.lora_arrays import LoraSettings
from common.model.model_cards import MODEL_CARDS
from common.precisions import DEFAULT_PRECISION, EXPLANATIONS, PRECISIONS
from common.run.launching import add_launcher_flags, take_launcher_flags
from common.run.ranges import RANGES, check_ranges
from common.vocabulary import END_OF_TEXT

PRECISION_FLAGS = [name for name in PRECISIONS if name != DEFAULT_PRECISION]


def make_parser(description):
    """Returns a parser whose help has the defaults."""
    return argparse.ArgumentParser(description=description, allow_abbrev=False,
                                   formatter_class=argparse.ArgumentDefaultsHelpFormatter)


def parse_flags(parser, argv):
    """Parses a command line; the help says each number's range."""
    for action in parser._actions:
        if action.dest in RANGES:
            action.help = "; ".join(filter(None, [action.help, str(RANGES[action.dest])]))
    return parser.parse_args(argv)


def add_common(parser):
    """Adds the flags of all programs of GPT-2."""
    parser.add_argument("--model_card", default="gpt2.md", choices=list(MODEL_CARDS), help="size of the backbone")
    parser.add_argument("--init_checkpoint", required=True,
                        help="backbone: safetensors, torch file or Hugging Face folder; random: random weights")
    parser.add_argument("--seq_len", type=int, default=512, help="longest row in tokens")
    parser.add_argument("--lora_dim", type=int, default=4, help="rank of the updates; 0 trains all weights instead")
    parser.add_argument("--lora_alpha", type=float, default=32, help="updates are scaled by alpha / rank")
    parser.add_argument("--lora_targets", default="q,v", help="projections with an update: of q,k,v,o,fc,proj")
    add_run(parser)


def add_run(parser):
    """Adds the flags of every program that runs a model."""
    parser.add_argument("--work_dir", default=".", help="folder for what is written")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda", "0"],
                        help="auto: a GPU if there is one; 0, the original's default, is auto")
    parser.add_argument("--platform", default="local", help="accepted where it is local")
    parser.add_argument("--random_seed", type=int, default=110)
    add_launcher_flags(parser)
    precision = parser.add_mutually_exclusive_group()
    for name in PRECISION_FLAGS:
        precision.add_argument(f"--{name}", action="store_true", help=EXPLANATIONS[name])


def add_training(parser):
    """Adds the flags of GPT-2's training."""
    parser.add_argument("--train_data", required=True, help="encoded rows (JSON lines)")
    parser.add_argument("--valid_data", required=True, help="encoded rows (JSON lines)")
    parser.add_argument("--obj", default="clm", choices=["clm", "jlm"], help="loss on the completion, or on all")
    parser.add_argument("--lora_checkpoint", default=None, help="LoRA file to start from")
    parser.add_argument("--roll_interval", type=int, default=-1)
    parser.add_argument("--roll_lr", type=float, default=0.00001)
    parser.add_argument("--roll_step", type=int, default=100)
    add_optimization(parser)


def add_optimization(parser):
    """Adds the flags of every training."""
    parser.add_argument("--train_batch_size", type=int, default=8)
    parser.add_argument("--valid_batch_size", type=int, default=4)
    parser.add_argument("--grad_acc", type=int, default=1, help="batches added up for one update")
    parser.add_argument("--clip", type=float, default=0.0, help="largest joint norm of the gradients; 0 is off")
    parser.add_argument("--label_smooth", type=float, default=0.0)
    parser.add_argument("--lora_dropout", type=float, default=0.0)
    parser.add_argument("--lr", type=float, default=1e-5)
    parser.add_argument("--weight_decay", type=float, default=0.01)
    parser.add_argument("--correct_bias", action="store_true", help="correct AdamW's moments for their start at 0")
    parser.add_argument("--adam_epislon", type=float, default=1e-6)
    parser.add_argument("--adam_beta1", type=float, default=0.9)
    parser.add_argument("--adam_beta2", type=float, default=0.98)
    parser.add_argument("--no_decay_bias", action="store_true", help="no weight decay for biases and layer norms")
    parser.add_argument("--scheduler", default="linear",
                        choices=["cosine", "inv_sqrt", "dev_perf", "constant", "linear", "cycle"])
    parser.add_argument("--warmup_step", type=int, default=0)
    parser.add_argument("--max_epoch", type=int, default=None)
    parser.add_argument("--max_step", type=int, default=None, help="by default all batches of max_epoch epochs")
    parser.add_argument("--i_steps", default="0", help="cycle: comma-separated steps")
    parser.add_argument("--i_lrs", default="0.00025", help="cycle: the learning rates at those steps")
    parser.add_argument("--log_interval", type=int, default=100, help="steps between log lines")
    parser.add_argument("--eval_interval", type=int, default=2000, help="steps between validation passes")
    parser.add_argument("--save_interval", type=int, default=500, help="steps between checkpoints")
    parser.add_argument("--eval_epoch", type=int, default=1, help="epochs between validation passes at an epoch's end")
    parser.add_argument("--no_shuffle", action="store_true", help="take the rows in file order")
    parser.add_argument("--overwrite", action="store_true", help="write into a work directory that has a run's files")
    parser.add_argument("--resume", action="store_true",
                        help="go on from the newest state in the work directory, or start where there is none")
    parser.add_argument("--state_minutes", type=float, default=5.0,
                        help="minutes of training between states to resume from; 0: only upon Ctrl-C and SIGTERM")
    parser.add_argument("--keep_last", type=int, default=2, help="how many states are kept until training has ended")
    parser.add_argument("--tensorboard", action="store_true",
                        help="write the log's numbers to event files in the work directory too")


def _add_search(parser):
    parser.add_argument("--batch_size", type=int, default=32, help="distinct contexts searched at once")
    parser.add_argument("--eval_len", type=int, default=64, help="most tokens generated")
    parser.add_argument("--min_length", type=int, default=0, help="no end before so many tokens")
    parser.add_argument("--beam", type=int, default=10)
    parser.add_argument("--length_penalty", type=float, default=1.0, help="scores are divided by length to this power")
    parser.add_argument("--no_repeat_ngram_size", type=int, default=4, help="0 is off")
    parser.add_argument("--repetition_penalty", type=float, default=1.0)
    parser.add_argument("--eos_token_id", type=int, action="append", default=[END_OF_TEXT], help="one more end token")


def _add_beam(parser):
    _add_search(parser)
    parser.add_argument("--data", required=True, help="encoded rows (JSON lines)")
    parser.add_argument("--output_file", default="predict.jsonl", help="inside the work directory")
    parser.add_argument("--lora_checkpoint", default=None,
                        help="LoRA file on top of the backbone; one that records its backbone can be the "
                             "--init_checkpoint itself")


def _add_alignment(parser):
    parser.add_argument("--output", required=True, help="file to write, *.npz")
    parser.add_argument("--test_data", required=True, help="encoded rows (JSON lines), whose contexts are decoded")
    parser.add_argument("--steps", type=int, default=100, help="how many steps of the run are trained")
    parser.add_argument("--contexts", type=int, default=20, help="how many distinct contexts are decoded")
    parser.add_argument("--checkpoint", default=None,
                        help="LoRA file that is decoded with; by default the last weights of --inputs, or else of the "
                             "steps just trained")
    parser.add_argument("--inputs", default=None,
                        help="the other framework's file: each operation is computed once more, from its inputs there")


def refuse(condition, sentence):
    """Raises UserError with a sentence where a condition holds."""
    if condition:
        raise UserError(sentence)


def check_run(arguments, may_share=True):
    """Checks the flags of every program that runs a model, and adds ``precision``.

    Args:
        may_share: whether several processes may share the run.

    Raises:
        UserError: a value is out of range.
    """
    check_ranges(vars(arguments))
    take_launcher_flags(arguments, may_share)
    arguments.device = "auto" if arguments.device == "0" else arguments.device
    refuse(arguments.platform != "local",
           f"--platform {arguments.platform}: only local works; cluster platforms of the original are not offered")
    arguments.precision = next((name for name in PRECISION_FLAGS if getattr(arguments, name)), DEFAULT_PRECISION)


def check_common(arguments, cards=MODEL_CARDS, settings=LoraSettings, may_share=True):
    """Checks the flags of a program for one kind of model, and adds ``card``, ``lora`` and ``precision``.

    Args:
        cards: ``{name: ModelCard}`` that ``--model_card`` chooses from.
        settings: LoraSettings, or a class of its kind.
        may_share: as for check_run.

    Raises:
        UserError: a value is out of range.
    """
    check_run(arguments, may_share)
    arguments.card = cards[arguments.model_card]
    refuse(arguments.seq_len > arguments.card.positions,
           f"--seq_len {arguments.seq_len}: expected at most {arguments.card.positions}, the positions of "
           f"{arguments.model_card}")
    refuse(arguments.lora_dim > arguments.card.width,
           f"--lora_dim {arguments.lora_dim}: expected at most {arguments.card.width}, the width of "
           f"{arguments.model_card}; an update of its matrices has no higher rank")
    arguments.lora = settings(arguments.lora_dim, arguments.lora_alpha, getattr(arguments, "lora_dropout", 0.0),
                              tuple(filter(None, arguments.lora_targets.split(","))))


def _points(text, flag, kind):
    try:
        points = [kind(point) for point in text.split(",")]
    except ValueError:
        raise UserError(f"--{flag} {text!r}: expected comma-separated numbers, such as 0,500,1000") from None
    check_ranges({flag: points})
    return points


def check_training(arguments):
    """Checks the flags of GPT-2's training."""
    refuse((arguments.roll_interval, arguments.roll_lr, arguments.roll_step) != (-1, 0.00001, 100),
           "--roll_interval, --roll_lr and --roll_step: the original program reads them and does nothing with them; "
           "use --scheduler cycle with --i_steps and --i_lrs for a rate that goes up again")
    check_optimization(arguments)


def check_optimization(arguments):
    """Checks the flags of every training; ``i_steps`` and ``i_lrs`` become lists.

    Raises:
        UserError: a value is out of range, or a flag of the original has no effect here.
    """
    refuse(arguments.scheduler in ("inv_sqrt", "dev_perf"),
           f"--scheduler {arguments.scheduler}: the original program names it and keeps the rate constant; use "
           "--scheduler constant for that")
    arguments.i_steps = _points(arguments.i_steps, "i_steps", int)
    arguments.i_lrs = _points(arguments.i_lrs, "i_lrs", float)
    if arguments.scheduler == "cycle":
        refuse(len(arguments.i_steps) != len(arguments.i_lrs) or len(arguments.i_steps) < 2
               or sorted(set(arguments.i_steps)) != arguments.i_steps,
               "--scheduler cycle: --i_steps and --i_lrs need the same number of points, two or more, in rising steps")
        last = arguments.i_steps[-1]
        if arguments.max_step not in (None, last):
            note(f"--max_step {arguments.max_step} becomes {last}, the last of --i_steps")
        arguments.max_step = last
    refuse(arguments.max_epoch is None and arguments.max_step is None,
           "neither --max_epoch nor --max_step is given: training would have no end")
    refuse(arguments.max_step is not None and arguments.grad_acc > arguments.max_step,
           f"--grad_acc {arguments.grad_acc}: more than the {arguments.max_step} steps of --max_step, so that the "
           "weights would never be updated")


def _check_search(arguments):
    refuse(arguments.eval_len >= arguments.seq_len,
           f"--eval_len {arguments.eval_len} leaves no room for a context in --seq_len {arguments.seq_len}")
    refuse(arguments.min_length > arguments.eval_len,
           f"--min_length {arguments.min_length}: expected at most --eval_len {arguments.eval_len}")
    refuse(arguments.beam > arguments.card.vocabulary,
           f"--beam {arguments.beam}: expected at most {arguments.card.vocabulary}, the size of the vocabulary")
    for token in arguments.eos_token_id:
        refuse(token >= arguments.card.vocabulary, f"--eos_token_id {token}: no such token; expected less than "
                                                   f"{arguments.card.vocabulary}")


def given_flags(parser, words):
    """Returns ``({name: value}, rest)`` of the flags that stand in ``words``; nothing is required."""
    parser._defaults.clear()
    for action in parser._actions:
        action.required, action.default = False, argparse.SUPPRESS
    namespace, rest = parser.parse_known_args(words)
    return vars(namespace), rest


def flags_of_training(words):
    """Takes the flags of gpt2_ft.py out of ``words``; returns ``({name: value}, rest)``."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    add_training(parser)
    add_common(parser)
    return given_flags(parser, words)


def flags_of_beam(words):
    """Takes the flags of gpt2_beam.py out of ``words``; returns ``({name: value}, rest)``."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    _add_beam(parser)
    add_common(parser)
    return given_flags(parser, words)


def flags_of_programs(parser, words):
    """Sorts the words that a driver does not know by the program that takes them.

    Args:
        parser: the driver's, which ends with a usage error where a word is no flag of either program.
        words: list of strings.

    Returns:
        The flags of gpt2_ft.py and those of gpt2_beam.py, each ``{name: value}``; a flag may be in both.
    """
    train, rest_of_train = flags_of_training(words)
    beam, rest_of_beam = flags_of_beam(words)
    foreign = [word for word in rest_of_train if word.startswith("--") and word in rest_of_beam]
    if foreign or (words and not words[0].startswith("--")):
        parser.error(f"no such flag: {(foreign or words)[0]}; src/gpt2_ft.py --help and src/gpt2_beam.py --help list "
                     "the flags that this program hands on")
    return train, beam


def training_arguments(argv, description):
    """Parses the command line of training.

    Returns:
        The namespace of all flags, with ``card`` (ModelCard), ``lora`` (LoraSettings) and ``precision`` (one of
        common.precisions) beside them; ``i_steps`` and ``i_lrs`` are lists.

    Raises:
        UserError: a value is out of range, or a flag of the original has no effect here.
    """
    parser = make_parser(description)
    add_training(parser)
    add_common(parser)
    arguments = parse_flags(parser, argv)
    check_common(arguments)
    check_training(arguments)
    return arguments


def beam_arguments(argv, description):
    """Parses the command line of beam search.

    Returns:
        The namespace of all flags, with ``card``, ``lora`` and ``precision``; ``eos_token_id`` is a list with 50256
        in it.

    Raises:
        UserError: a value is out of range.
    """
    parser = make_parser(description)
    _add_beam(parser)
    add_common(parser)
    arguments = parse_flags(parser, argv)
    check_common(arguments)
    _check_search(arguments)
    refuse(os.path.basename(arguments.output_file) in ("", ".", ".."),
           f"--output_file {arguments.output_file}: expected the name of a file in the work directory")
    return arguments


def alignment_arguments(argv, description):
    """Parses the command line of a dump for the comparison of frameworks: its own flags, and those of training.

    Returns:
        The namespace of all flags, as training_arguments and beam_arguments return theirs.

    Raises:
        UserError: a value is out of range, or a flag of the original has no effect here.
    """
    parser = make_parser(description)
    _add_alignment(parser)
    _add_search(parser)
    add_training(parser)
    add_common(parser)
    arguments = parse_flags(parser, argv)
    check_common(arguments, may_share=False)
    check_training(arguments)
    _check_search(arguments)
    return arguments
