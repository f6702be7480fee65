"""ChatGLM2's weights: a backbone read array by array, and the LoRA arrays on it, each checked to fit."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from common.checks import printable
from common.errors import UserError
from common.files import read_json
from common.model.chatglm_cards import (
    CHATGLM_CARDS,
    ChatGLMCard,
    chatglm_lora_shapes,
    chatglm_shapes,
    random_chatglm,
)
from common.model.checkpoint import check_shapes
from common.model.initial_weights import RANDOM
from common.model.lora_file import LoraRecord, read_checkpoint
from common.model.weight_files import INDEX, check_finite, resolve_checkpoint, shard_files, shorten, stream_file

TARGET = "query_key_value"
BUFFERS = ("transformer.rotary_pos_emb.inv_freq",)  # in the published files; the program computes it itself
SIZE_NAMES = ("transformer.embedding.word_embeddings.weight", "transformer.output_layer.weight")


@dataclass(frozen=True)
class ChatGLMLora:
    """The settings of LoRA on ChatGLM2's queries, keys and values, which have one update together.

    Attributes:
        rank: r.
        alpha: the update is scaled by ``alpha / rank``.
        dropout: probability, on the input of the update, in training.
    """

    rank: int
    alpha: float
    dropout: float = 0.0
    targets: tuple[str, ...] = (TARGET,)


def stream_backbone(checkpoint: str | os.PathLike, card: ChatGLMCard) -> Iterator[tuple[str, np.ndarray]]:
    """Yields ``(name, float32 array)`` of a backbone, one array at a time, after checking its shape and numbers.

    In memory are the arrays of one shard that are still to come, and one array in float32.

    Args:
        checkpoint: safetensors or torch's files, in one or in shards with their index, or a folder with them;
            ``random`` for random_chatglm.
        card: the ChatGLMCard.

    Raises:
        UserError: a file is missing or damaged, or the arrays are not those of the card.
    """
    if checkpoint == RANDOM:
        yield from random_chatglm(card)
        return
    path = resolve_checkpoint(checkpoint)
    shards, missing = shard_files(path), chatglm_shapes(card)
    if path.endswith(INDEX):
        check_names(read_json(path, {"weight_map": {str: str}})["weight_map"], missing, path)
    unexpected = []
    for shard in shards:
        for name, array in stream_file(shard):
            if name in BUFFERS:
                continue
            if name not in missing:
                unexpected.append(name)
                continue
            shape = missing.pop(name)
            if array.shape != shape:
                raise UserError(f"{shard}: {name} has shape {array.shape}, {card.name} expects "
                                f"{shape}{_hint(name, array)}")
            if not np.issubdtype(array.dtype, np.floating):
                raise UserError(f"{shard}: {name} has dtype {array.dtype}, expected floating-point weights")
            array = np.ascontiguousarray(array, np.float32)
            check_finite(name, array, shard, "it is damaged; copy or download it again")
            yield name, array
    check_names(unexpected, missing, path)


def check_names(found: Iterable[str], expected: Iterable[str], path: str) -> None:
    """Checks that names of arrays are those that a ChatGLM2 has.

    Raises:
        UserError: some are missing or unexpected; the message counts them and names the first few.
    """
    found, expected = list(found), list(expected)
    differences = {"missing": [name for name in expected if name not in set(found)],
                   "unexpected": [name for name in found if name not in {*expected, *BUFFERS}]}
    if any(differences.values()):
        raise UserError(f"{path}: arrays that do not fit a ChatGLM2: " + "; ".join(
            f"{len(names)} {kind}: {shorten(names)}" for kind, names in differences.items() if names))


def _hint(name, array):
    if name not in SIZE_NAMES:
        return ""
    cards = [card.name for card in CHATGLM_CARDS.values() if array.shape == (card.vocabulary, card.width)]
    return f"; these are the sizes of {cards[0]}: give its --model_card" if cards else ""


def read_chatglm_lora(path: str | os.PathLike, card: ChatGLMCard,
                      settings: ChatGLMLora | None = None) -> tuple[dict[str, np.ndarray], LoraRecord]:
    """Reads a LoRA file that training has written.

    Args:
        path: the file.
        card: the ChatGLMCard that it must be for.
        settings: what it must have been trained with, where that is fixed; dropout may differ.

    Returns:
        ``{name: float32 array}`` and its LoraRecord.

    Raises:
        UserError: it is damaged, holds something else, or belongs to another card or other settings.
    """
    others, lora, record = read_checkpoint(path)
    if others or not lora or record is None:
        raise UserError(f"{path}: expected a file that chatglm2_ft.py has written: LoRA arrays alone, with a record of "
                        "how they were trained")
    if record.model_card != card.name or record.lora_targets != (TARGET,):
        raise UserError(f"{path}: was trained on {','.join(map(printable, record.lora_targets))} of "
                        f"{printable(record.model_card)}, expected {TARGET} of {card.name}")
    if settings and (record.lora_dim, record.lora_alpha) != (settings.rank, settings.alpha):
        raise UserError(f"{path}: was trained with --lora_r {record.lora_dim} --lora_alpha {record.lora_alpha:g}, but "
                        f"the flags say --lora_r {settings.rank} --lora_alpha {settings.alpha:g}; use those of its "
                        "training")
    check_shapes(lora, chatglm_lora_shapes(card, record.lora_dim), path)
    return lora, record

