"""The checkpoints of training: a frozen GPT-2 backbone and, in separate files, the LoRA arrays trained on it."""

import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.numpy

from common.checks import parse_json, shortened
from common.errors import UserError
from common.files import atomic_write, sha256_of
from common.model.initial_weights import RANDOM, random_backbone
from common.model.lora_arrays import LoraSettings, lora_shapes
from common.model.model_cards import MODEL_CARDS, ModelCard, backbone_shapes
from common.model.weight_files import open_safetensors, read_arrays, resolve_checkpoint, say_once, shard_files, shorten
from common.paths import ROOT

METADATA_KEY = "lora_record"
RECORD_SHAPE = {"model_card": str, "lora_dim": int, "lora_alpha": float, "lora_targets": [str], "step": int,
                "backbone_path": str, "backbone_sha256": str}


@dataclass(frozen=True)
class LoraRecord:
    """What the metadata of a LoRA-only file records.

    Attributes:
        model_card: name of the backbone's ModelCard.
        lora_dim: rank r.
        lora_alpha: the update is scaled by ``lora_alpha / lora_dim``.
        lora_targets: the projections with an update.
        step: optimizer steps so far.
        backbone_path: the backbone's file, relative to the project's root if it is inside.
        backbone_sha256: its hash, see ``backbone_hash``.
    """

    model_card: str
    lora_dim: int
    lora_alpha: float
    lora_targets: tuple[str, ...] = ("q", "v")
    step: int = 0
    backbone_path: str = ""
    backbone_sha256: str = ""


def new_record(card: ModelCard, settings: LoraSettings, init_checkpoint: str | os.PathLike) -> LoraRecord:
    """Returns the LoraRecord, at step 0, of a training run that starts from ``init_checkpoint``.

    If ``init_checkpoint`` is LoRA-only, the backbone is the one that it records. The backbone's file is hashed once
    per process.

    Args:
        card: the ModelCard.
        settings: the LoraSettings.
        init_checkpoint: as for ``load_weights``.

    Raises:
        UserError: as ``resolve_checkpoint``, or the LoRA-only file records no backbone that can be found.
    """
    path = init_checkpoint if init_checkpoint == RANDOM else resolve_checkpoint(init_checkpoint)
    before = read_record(path)
    backbone = find_backbone(before, path) if before else path
    return LoraRecord(card.name, settings.rank, settings.alpha, tuple(settings.targets), 0,
                      _path_to_record(backbone), backbone_hash(backbone))


def _path_to_record(path):
    """Returns the path, relative to the project's root if it is inside, whether or not links are followed."""
    if path == RANDOM:
        return RANDOM
    forms = [Path(os.path.realpath(path)), Path(os.path.abspath(path))]
    return next((str(form.relative_to(ROOT)) for form in forms if form.is_relative_to(ROOT)), str(forms[0]))


def backbone_hash(path: str | os.PathLike) -> str:
    """Returns the SHA-256 of a checkpoint file or, for an index of shards, of the shards' hashes, one per line.

    Random weights have no file; ``random`` stands for their hash too.
    """
    if path == RANDOM:
        return RANDOM
    status = os.stat(path)
    return _hash_of(os.path.realpath(path), status.st_size, status.st_mtime_ns)


@functools.lru_cache
def _hash_of(path, _size, _mtime_ns):
    hashes = [sha256_of(shard) for shard in shard_files(path)]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def find_backbone(record: LoraRecord, lora_path: str | os.PathLike) -> str:
    """Returns the path of the backbone that a LoRA-only file was trained on.

    Raises:
        UserError: it does not exist, or its hash is not the recorded one.
    """
    recorded = record.backbone_path
    if recorded == RANDOM:
        return RANDOM
    path = os.path.join(ROOT, recorded)  # an absolute path stays as it is
    if not os.path.isfile(path):
        raise UserError(f"{lora_path}: holds LoRA arrays only, and its backbone {recorded or '(none recorded)'} does "
                        f"not exist; give the backbone as --init_checkpoint and this file as --lora_checkpoint")
    found = backbone_hash(path)
    if found != record.backbone_sha256:
        raise UserError(f"{lora_path}: was trained on {recorded} with sha256 {record.backbone_sha256}, but {path} has "
                        f"{found}; restore that file or, if you know that the weights are the same, give it as "
                        f"--init_checkpoint and this file as --lora_checkpoint")
    return path


def save_lora(path: str | os.PathLike, arrays: dict[str, np.ndarray], record: LoraRecord) -> None:
    """Writes a LoRA-only safetensors file atomically; the same arrays and record give the same bytes.

    Args:
        path: the file, by convention ``model.{step}.safetensors``.
        arrays: ``{name: array}`` with names like ``transformer.h.0.attn.c_attn.lora_A``; written as float32.
        record: the LoraRecord for the file's metadata.

    Raises:
        ValueError: there is no array, or one that is not LoRA's.
    """
    others = [name for name in arrays if not is_lora(name)]
    if others or not arrays:
        raise ValueError(f"{path}: expected LoRA arrays only, found {shorten(others) or 'nothing'}")
    packed = {name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()}
    metadata = {METADATA_KEY: json.dumps(dataclasses.asdict(record))}
    with atomic_write(path, "wb") as file:
        file.write(safetensors.numpy.save(packed, metadata))


def read_record(path: str | os.PathLike) -> LoraRecord | None:
    """Returns the LoraRecord in a file's metadata, or None if it has none.

    Raises:
        UserError: the file is damaged, or its record has other fields.
    """
    if not str(path).endswith(".safetensors"):
        return None
    with open_safetensors(path) as file:
        text = (file.metadata() or {}).get(METADATA_KEY)
    if text is None:
        return None
    where = f"{path}: the record of its LoRA settings"
    fields = parse_json(text, where, RECORD_SHAPE)
    unknown = sorted(fields.keys() - RECORD_SHAPE.keys())
    if unknown:
        raise UserError(f"{where}: has {shortened(unknown[0])}, which this version of the program does not know")
    return LoraRecord(**{**fields, "lora_targets": tuple(fields["lora_targets"])})


def read_lora(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], LoraRecord | None]:
    """Reads the LoRA arrays of a checkpoint.

    Returns:
        ``({name: float32 array}, LoraRecord or None)``, without the backbone that the file may also hold.

    Raises:
        UserError: as ``read_arrays``, or the file has no LoRA array.
    """
    path = resolve_checkpoint(path)
    backbone, lora = split_arrays(read_arrays(path))
    if not lora:
        raise UserError(f"{path}: no lora_A or lora_B among its {len(backbone)} arrays, expected a LoRA checkpoint")
    return lora, read_record(path)


def is_lora(name: str) -> bool:
    """Tells whether a name is that of a LoRA array, ``….lora_A`` or ``….lora_B``."""
    return name.endswith((".lora_A", ".lora_B"))


def split_arrays(arrays: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Splits ``{name: array}`` into ``(backbone, lora)``."""
    return ({name: array for name, array in arrays.items() if not is_lora(name)},
            {name: array for name, array in arrays.items() if is_lora(name)})


def check_shapes(found: dict[str, np.ndarray], expected: Mapping[str, tuple[int, ...]],
                 path: str | os.PathLike) -> None:
    """Checks that a checkpoint has exactly the arrays that a model needs.

    Args:
        found: ``{name: array}``.
        expected: ``{name: shape}``.
        path: the file, for the message.

    Raises:
        UserError: arrays are missing, unexpected or of another shape; the message counts them and names the first few.
    """
    shapes = {name: tuple(array.shape) for name, array in found.items()}
    differences = {
        "missing": [name for name in expected if name not in shapes],
        "unexpected": [name for name in shapes if name not in expected],
        "of another shape": [f"{name} {shapes[name]} instead of {tuple(shape)}" for name, shape in expected.items()
                             if name in shapes and shapes[name] != tuple(shape)],
    }
    if not any(differences.values()):
        return
    listing = "; ".join(f"{len(names)} {kind}: {shorten(names)}" for kind, names in differences.items() if names)
    hint = "".join(f"; these are the sizes of {name}: did you mean --model_card {name}?"
                   for name, card in MODEL_CARDS.items() if backbone_shapes(card) == shapes)
    raise UserError(f"{path}: {len(shapes)} arrays that do not fit the {len(expected)} expected: {listing}{hint}")


def check_record(record: LoraRecord, path: str | os.PathLike, settings: LoraSettings) -> None:
    """Checks that a LoRA file was trained with the LoraSettings of the flags; dropout may differ.

    The shapes show the rank only. Another alpha or other targets would scale the update wrongly, or add it to the
    wrong projection, without an error.

    Raises:
        UserError: a setting differs; the message has both values.
    """
    trained = (record.lora_dim, record.lora_alpha, sorted(record.lora_targets))
    flags = (settings.rank, settings.alpha, sorted(settings.targets))
    if trained != flags:
        raise UserError(f"{path}: was trained with {_as_flags(*trained)}, but the flags say {_as_flags(*flags)}; use "
                        "the flags of its training")


def _as_flags(rank, alpha, targets):
    return f"--lora_dim {rank} --lora_alpha {alpha:g} --lora_targets {','.join(targets)}"


def load_weights(
    init_checkpoint: str | os.PathLike, lora_checkpoint: str | os.PathLike | None, card: ModelCard,
    settings: LoraSettings,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray] | None, LoraRecord | None]:
    """Reads the weights that a command line names.

    Args:
        init_checkpoint: a backbone, a backbone with LoRA arrays, or a LoRA-only file that records its backbone;
            ``random`` for common.model.initial_weights.random_backbone.
        lora_checkpoint: a file whose LoRA arrays are used with that backbone, or None.
        card: the ModelCard whose shapes the backbone must have.
        settings: the LoraSettings that LoRA arrays must fit.

    Returns:
        ``(backbone, lora, record)``: the arrays ``{name: float32 array}`` and the LoraRecord of the LoRA arrays.
        ``lora`` is None if no file has LoRA arrays, ``record`` if their file records nothing.

    Raises:
        UserError: a file is missing or damaged, a LoRA-only file's backbone cannot be found, or shapes or the settings
            that a file records differ.
    """
    path = init_checkpoint if init_checkpoint == RANDOM else resolve_checkpoint(init_checkpoint)
    backbone, lora = split_arrays(_read_backbone(path, card))
    record = read_record(path) if lora else None
    lora_path = backbone_path = path
    if lora_checkpoint:
        if not backbone:
            raise UserError(f"{path}: holds LoRA arrays only, but so does --lora_checkpoint {lora_checkpoint}; give "
                            "the backbone as --init_checkpoint")
        if lora:
            say_once(f"the LoRA arrays of {path} are replaced by those of {lora_checkpoint}")
        lora_path = resolve_checkpoint(lora_checkpoint)
        lora, record = read_lora(lora_path)
        _warn_of_another_backbone(record, lora_path, backbone_path)
    if record and record.model_card != card.name:
        raise UserError(f"{lora_path}: was trained with --model_card {record.model_card}, but the flags say "
                        f"{card.name}; use the flags of its training")
    if not backbone and lora:
        if record is None:
            raise UserError(f"{path}: holds LoRA arrays only and does not say which backbone they belong to; give the "
                            "backbone as --init_checkpoint and this file as --lora_checkpoint")
        backbone_path = find_backbone(record, path)
        backbone, _ = split_arrays(_read_backbone(backbone_path, card))
    check_shapes(backbone, backbone_shapes(card), backbone_path)
    if record:
        check_record(record, lora_path, settings)
    if lora:
        expected = lora_shapes(card, settings)
        _check_rank(lora, expected, lora_path)
        check_shapes(lora, expected, lora_path)
    return backbone, lora or None, record


def _read_backbone(path, card):
    return random_backbone(card) if path == RANDOM else read_arrays(path)


def _warn_of_another_backbone(record, lora_path, backbone_path):
    if record and record.backbone_sha256 and record.backbone_sha256 != backbone_hash(backbone_path):
        say_once(f"{lora_path} was trained on {record.backbone_path} (sha256 {record.backbone_sha256}), and "
                 f"{backbone_path} is another file: results differ unless it holds the same weights")


def _check_rank(lora, expected, path):
    """Raises a UserError in terms of the flags if the rank is all that differs."""
    rows = {name: (lora[name].shape[0], shape[0]) for name, shape in expected.items()
            if name.endswith(".lora_A") and name in lora and lora[name].ndim == 2}
    differing = [pair for pair in rows.values() if pair[0] != pair[1]]
    if differing and lora.keys() == expected.keys():
        found, wanted = differing[0]
        raise UserError(f"{path}: has {found} rows in lora_A where the flags expect {wanted} (--lora_dim for each "
                        "target in the projection); give --lora_dim and --lora_targets as in training")
