"""Hugging Face's files of a GPT-2: config.json, weights, and the tokenizer's, as transformers reads them."""

import os
import re
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from common.data.tokenizer import load_tokenizer
from common.files import atomic_folder, atomic_write, write_json
from common.model.model_cards import ModelCard
from common.paths import ROOT
from common.vocabulary import END_OF_TEXT, END_OF_TEXT_TOKEN

VOCABULARY_FILES = {"encoder.json": "vocab.json", "vocab.bpe": "merges.txt"}  # OpenAI's names: Hugging Face's


def config_of(card: ModelCard) -> dict[str, Any]:
    """Returns the config.json that transformers needs for a GPT-2 of these sizes."""
    return {
        "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "activation_function": "gelu_new",
        "vocab_size": card.vocabulary, "n_positions": card.positions, "n_ctx": card.positions, "n_embd": card.width,
        "n_layer": card.layers, "n_head": card.heads, "layer_norm_epsilon": 1e-5, "initializer_range": 0.02,
        "attn_pdrop": 0.1, "embd_pdrop": 0.1, "resid_pdrop": 0.1, "bos_token_id": END_OF_TEXT,
        "eos_token_id": END_OF_TEXT,
    }


def save_arrays(path: str | os.PathLike, arrays: dict[str, np.ndarray]) -> None:
    """Writes a safetensors file as Hugging Face's libraries expect it, float32.

    Raises:
        OSError: the system refuses, a full disk for one.
    """
    packed = {name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()}
    try:
        safetensors.numpy.save_file(packed, path, {"format": "pt"})
    except safetensors.SafetensorError as error:  # of the system's error it has the number in its text alone
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), os.fspath(path)) from error


def write_model(folder: str | os.PathLike, weights: dict[str, np.ndarray], card: ModelCard) -> None:
    """Writes a model folder for ``from_pretrained`` of transformers' GPT2LMHeadModel and AutoTokenizer.

    Args:
        folder: a new or empty folder.
        weights: ``{name: array}`` of ``backbone_shapes(card)``.
        card: the ModelCard.

    Raises:
        UserError: the folder exists and is not empty, or ``vocab/`` does not hold GPT-2's vocabulary.
    """
    vocabulary = ROOT / "vocab"
    load_tokenizer(vocabulary)  # checks the files
    end = {"bos_token_id": END_OF_TEXT, "eos_token_id": END_OF_TEXT}
    with atomic_folder(folder) as new:
        write_json(os.path.join(new, "config.json"), config_of(card))
        write_json(os.path.join(new, "generation_config.json"), {**end, "pad_token_id": END_OF_TEXT})
        write_json(os.path.join(new, "tokenizer_config.json"),
                   {"tokenizer_class": "GPT2Tokenizer", "model_max_length": card.positions,
                    **{kind: END_OF_TEXT_TOKEN for kind in ("bos_token", "eos_token", "unk_token", "pad_token")}})
        for ours, theirs in VOCABULARY_FILES.items():
            with atomic_write(os.path.join(new, theirs), "wb") as file:
                file.write((vocabulary / ours).read_bytes())
        save_arrays(os.path.join(new, "model.safetensors"), weights)
