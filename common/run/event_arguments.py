"""Command lines of the programs for events: bert_eae_ft.py and bert_eae_predict.py."""

import argparse

from common.data.event_sets import PHEE, RAMS
from common.errors import UserError
from common.model.bert_cards import BERT_CARDS, FROZEN, TRAINED
from common.model.bert_files import default_checkpoint, vocabulary_of
from common.model.initial_weights import RANDOM
from common.model.lora_arrays import BertLoraSettings
from common.model.weight_files import resolve_checkpoint
from common.run.arguments import (
    add_optimization,
    add_run,
    check_common,
    check_optimization,
    check_run,
    given_flags,
    make_parser,
    parse_flags,
)

# Those of BERT's users where GPT-2's programs have the original's.
DEFAULTS = {"train_batch_size": 32, "valid_batch_size": 64, "clip": 1.0, "lora_dropout": 0.1, "lr": 1e-3,
            "adam_epislon": 1e-8, "adam_beta2": 0.999, "correct_bias": True, "eval_interval": 1_000_000,
            "save_interval": 1_000_000}


def add_event_training(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of bert_eae_ft.py."""
    parser.add_argument("--train_data", required=True, help="events to train with")
    parser.add_argument("--valid_data", required=True, help="events to score after each epoch")
    parser.add_argument("--format", default=PHEE, choices=[PHEE, RAMS], help="of the files of events")
    parser.add_argument("--questions", default=None, nargs="+", metavar="FILE",
                        help="phee: files of lines role,question; by default arg_queries_stage*.csv beside the data")
    parser.add_argument("--roles", default=None, metavar="FILE",
                        help="rams: event_role_multiplicities.txt; by default beside the data or a folder above")
    parser.add_argument("--model_card", default="bert.minilm", choices=list(BERT_CARDS), help="size of the backbone")
    parser.add_argument("--init_checkpoint", default=None,
                        help="backbone: safetensors, torch file or Hugging Face folder; random: random weights; by "
                             "default the model card's own")
    parser.add_argument("--vocab", default=None, help="vocab.txt; by default the one beside the backbone")
    parser.add_argument("--seq_len", type=int, default=512, help="most word pieces of a query and its sentence")
    parser.add_argument("--lora_dim", type=int, default=16, help="rank of the updates; 0 trains all weights instead")
    parser.add_argument("--lora_alpha", type=float, default=16, help="updates are scaled by alpha / rank")
    parser.add_argument("--lora_targets", default="query,value",
                        help=f"projections with an update: of {','.join(BertLoraSettings.known_targets)}")
    parser.add_argument("--heads", default=TRAINED, choices=[TRAINED, FROZEN],
                        help="whether the start and end heads are trained, or stay at their random values")
    parser.add_argument("--backbone_dropout", type=float, default=0.1,
                        help="of hidden states and attention probabilities")
    parser.add_argument("--head_dropout", type=float, default=0.0, help="of what the heads read")
    parser.add_argument("--warmup_share", type=float, default=None,
                        help="share of all steps that warm up, in place of --warmup_step")
    parser.add_argument("--seed_argmax", action="store_true",
                        help="take start and end by themselves, over all positions, in place of the best span")
    add_optimization(parser)
    add_run(parser)
    parser.add_argument("--no_correct_bias", dest="correct_bias", action="store_false",
                        help="leave AdamW's moments uncorrected")
    parser.set_defaults(**DEFAULTS)


def event_training_arguments(argv: list[str], description: str) -> argparse.Namespace:
    """Parses the command line of training.

    Returns:
        The namespace of all flags, with ``card`` (BertCard), ``lora`` (BertLoraSettings) and ``precision`` beside them,
        and ``backbone_path`` and ``vocab_path``, the files that are used; the former may be ``random``.

    Raises:
        UserError: a value is out of range, or the model card's own files are not there.
    """
    parser = make_parser(description)
    add_event_training(parser)
    arguments = parse_flags(parser, argv)
    check_common(arguments, BERT_CARDS, BertLoraSettings, may_share=False)
    check_optimization(arguments)
    if arguments.warmup_share is not None and arguments.warmup_step:
        raise UserError("--warmup_share and --warmup_step: give one of them")
    if arguments.lora_dim == 0 and arguments.heads == FROZEN:
        raise UserError("--heads frozen goes with LoRA: --lora_dim 0 trains all weights")
    _check_files(arguments)
    return arguments


def flags_of_event_training(words: list[str]) -> tuple[dict, list[str]]:
    """Takes the flags of bert_eae_ft.py out of ``words``; returns ``({name: value}, rest)``."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    add_event_training(parser)
    return given_flags(parser, words)


def _check_files(arguments):
    """Finds the backbone and the vocabulary that are not named."""
    arguments.backbone_path = arguments.init_checkpoint or default_checkpoint(arguments.card)
    if arguments.backbone_path != RANDOM:
        arguments.backbone_path = resolve_checkpoint(arguments.backbone_path)
    arguments.vocab_path = arguments.vocab or vocabulary_of(arguments.card, arguments.backbone_path)


def add_event_prediction(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of bert_eae_predict.py."""
    parser.add_argument("sentence", nargs="?", default=None,
                        help='a sentence whose trigger is in brackets: "Then the patient [developed] jaundice ."')
    parser.add_argument("--checkpoint", required=True, help="file that bert_eae_ft.py wrote")
    parser.add_argument("--init_checkpoint", default=None, help="backbone, where it is not the recorded one")
    parser.add_argument("--vocab", default=None, help="vocab.txt; by default the one beside the backbone")
    parser.add_argument("--event_type", default=None, help="of the sentences; needed where the model knows several")
    parser.add_argument("--file", default=None, help="file of such sentences, one a line")
    parser.add_argument("--data", default=None, help="file of events, whose arguments are predicted")
    parser.add_argument("--format", default=PHEE, choices=[PHEE, RAMS], help="of --data")
    parser.add_argument("--output_file", default="predictions.jsonl", help="of --data, inside the work directory")
    parser.add_argument("--valid_batch_size", type=int, default=64, help="queries read at once")
    parser.add_argument("--seed_argmax", action="store_true",
                        help="take start and end by themselves, over all positions, in place of the best span")
    add_run(parser)


def event_prediction_arguments(argv: list[str], description: str) -> argparse.Namespace:
    """Parses the command line of prediction.

    Returns:
        The namespace of all flags, with ``precision``; ``card`` and ``lora`` are the checkpoint's, see
        common.run.event_prediction.load.

    Raises:
        UserError: a value is out of range, or none or several of a sentence, ``--file`` and ``--data`` are given.
    """
    parser = make_parser(description)
    add_event_prediction(parser)
    arguments = parse_flags(parser, argv)
    check_run(arguments, may_share=False)
    given = [name for name in ("sentence", "file", "data") if getattr(arguments, name) is not None]
    if len(given) != 1:
        raise UserError(f"found {' and '.join(given) or 'nothing'} to read; expected one of a sentence, --file and "
                        "--data")
    if arguments.data and arguments.event_type:
        raise UserError("--event_type goes with a sentence or --file: the events of --data have their types")
    return arguments
