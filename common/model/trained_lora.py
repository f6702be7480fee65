"""What the programs for other libraries need to know of a trained checkpoint: from its record, or from flags."""

import argparse
import math
from typing import NamedTuple

import numpy as np

from common.checks import printable, shortened
from common.errors import UserError
from common.model.checkpoint import check_shapes
from common.model.lora_arrays import LoraSettings, lora_shapes
from common.model.lora_file import LoraRecord, read_checkpoint
from common.model.model_cards import MODEL_CARDS, ModelCard, backbone_shapes
from common.model.weight_files import resolve_checkpoint, shorten

FLAGS = ("model_card", "lora_alpha", "lora_targets")


class TrainedLora(NamedTuple):
    """LoRA arrays and what they mean.

    Attributes:
        path: their file.
        card: the backbone's ModelCard.
        settings: the LoraSettings; dropout, which no file records, is 0.
        lora: ``{name: float32 array}`` of ``lora_shapes(card, settings)``.
        record: the file's LoraRecord, or one made from the flags, which names no backbone.
    """

    path: str
    card: ModelCard
    settings: LoraSettings
    lora: dict[str, np.ndarray]
    record: LoraRecord


def trained_lora_parser(program: str, description: str) -> argparse.ArgumentParser:
    """Returns a parser of CHECKPOINT, FOLDER and the flags that ``read_trained_lora`` takes."""
    parser = argparse.ArgumentParser(prog=program, description=description, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="file of a training: LoRA arrays, or these and their "
                        "backbone")
    parser.add_argument("folder", metavar="FOLDER", help="to write; new or empty")
    group = parser.add_argument_group("for a CHECKPOINT that does not record them, such as microsoft/LoRA's")
    group.add_argument("--model_card", choices=list(MODEL_CARDS), help="size of the backbone")
    group.add_argument("--lora_alpha", type=float, help="updates are scaled by alpha / rank")
    group.add_argument("--lora_targets", help="projections with an update: of q,k,v,o,fc,proj")
    return parser


def read_trained_lora(arguments: argparse.Namespace) -> TrainedLora:
    """Reads the LoRA arrays that a command line of ``trained_lora_parser`` names.

    Raises:
        UserError: as ``read_checkpoint``; there are no LoRA arrays, or they do not fit; a flag is missing where the
            file has no record, or differs from its record; the file holds a part of a backbone.
    """
    path = resolve_checkpoint(arguments.checkpoint)
    others, lora, recorded = read_checkpoint(path)
    if not lora:
        raise UserError(f"{path}: no lora_A or lora_B among its {len(others)} arrays, expected a LoRA checkpoint")
    record = _record_of(arguments, path, lora, recorded)
    if record.model_card not in MODEL_CARDS:
        raise UserError(f"{path}: was trained on {printable(record.model_card)}; expected one of "
                        f"{', '.join(MODEL_CARDS)}")
    card = MODEL_CARDS[record.model_card]
    settings = LoraSettings(record.lora_dim, record.lora_alpha, targets=record.lora_targets)
    check_shapes(lora, lora_shapes(card, settings), path)
    if others and others.keys() != backbone_shapes(card).keys():
        raise UserError(f"{path}: holds {len(others)} arrays that are neither LoRA's nor a whole backbone: "
                        f"{shorten(list(others))}; only what LoRA adds can be taken from it")
    return TrainedLora(path, card, settings, lora, record)


def _record_of(arguments, path, lora, recorded):
    """Returns the record of a file, with which the flags have to agree, or one made from the flags."""
    given = {name: getattr(arguments, name) for name in FLAGS}
    if given["lora_targets"] is not None:
        given["lora_targets"] = tuple(sorted(filter(None, given["lora_targets"].split(","))))
    if given["lora_alpha"] is not None and not 0 < given["lora_alpha"] < math.inf:
        raise UserError(f"--lora_alpha {given['lora_alpha']}: expected a number above 0")
    if recorded is None:
        missing = [f"--{name}" for name, value in given.items() if value is None]
        if missing:
            raise UserError(f"{path}: does not record how it was trained; give {', '.join(missing)} as in its training "
                            "(microsoft/LoRA's examples: --lora_alpha 32 --lora_targets q,v)")
        ranks = [array.shape[1] for name, array in lora.items() if name.endswith("lora_B") and array.ndim == 2]
        return LoraRecord(lora_dim=max(ranks, default=1), **given)
    own = {**{name: getattr(recorded, name) for name in FLAGS}, "lora_targets": tuple(sorted(recorded.lora_targets))}
    for name, value in given.items():
        if value not in (None, own[name]):
            raise UserError(f"{path}: records {name} {shortened(own[name])}, but --{name} says "
                            f"{getattr(arguments, name)}; leave the flag out")
    return recorded
