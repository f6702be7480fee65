"""GPT-2's byte-level BPE, read from ``encoder.json`` and ``vocab.bpe``."""

import os

from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

from common.errors import UserError
from common.files import sha256_of
from common.vocabulary import VOCABULARY_SHA256


def load_tokenizer(vocab_folder: str | os.PathLike) -> Tokenizer:
    """Loads GPT-2's tokenizer.

    A special token's name in a text is ordinary text: no string encodes to id 50256, but that id decodes to
    ``<|endoftext|>``.

    Args:
        vocab_folder: folder that holds ``encoder.json`` and ``vocab.bpe``.

    Returns:
        ``tokenizers.Tokenizer``: ``encode(text).ids``, ``encode_batch(texts)``, ``decode(ids)``.

    Raises:
        UserError: a file is missing or is not GPT-2's.
    """
    paths = {name: os.path.join(os.fspath(vocab_folder), name) for name in VOCABULARY_SHA256}
    for name, path in paths.items():
        if not os.path.isfile(path):
            raise UserError(f"{path}: no such file; `bash scripts/setup.sh` puts GPT-2's vocabulary into vocab/")
        found, expected = sha256_of(path), VOCABULARY_SHA256[name]
        if found != expected:
            raise UserError(f"{path}: not GPT-2's vocabulary: sha256 is {found}, expected {expected}; "
                            f"delete the file and run `bash scripts/setup.sh`, which puts it there again")
    tokenizer = Tokenizer(BPE.from_file(paths["encoder.json"], paths["vocab.bpe"]))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = ByteLevelDecoder()
    return tokenizer
