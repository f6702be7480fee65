"""The files that training writes: what was trained alone, with a record of how it was trained and a checksum."""

import dataclasses
import hashlib
import json
import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import safetensors.numpy

from common.checks import check_shape, parse_json, printable, shortened
from common.errors import UserError
from common.files import atomic_write
from common.model.weight_files import (
    check_finite,
    open_safetensors,
    read_arrays,
    read_named_arrays,
    resolve_checkpoint,
    shorten,
)

METADATA_KEY = "lora_record"
CHECKSUM = "sha256"  # beside the record's own fields; files of before it was written have none
DIVERGED = "training has diverged; try a lower --lr, a longer --warmup_step or --clip 1"
RECORD_SHAPE = {"model_card": str, "lora_dim": int, "lora_alpha": float, "lora_targets": [str], "step": int,
                "backbone_path": str, "backbone_sha256": str}
OPTIONAL_SHAPE = {"heads": str, "task": dict}  # written where they say something


@dataclass(frozen=True)
class LoraRecord:
    """What the metadata of a LoRA-only file records.

    Attributes:
        model_card: name of the backbone's ModelCard.
        lora_dim: rank r; 0 where all weights were trained, which are in the file then.
        lora_alpha: the update is scaled by ``lora_alpha / lora_dim``.
        lora_targets: the projections with an update.
        step: optimizer steps so far.
        backbone_path: the backbone's file, relative to the project's root if it is inside.
        backbone_sha256: its hash, see ``backbone_hash``.
        heads: whether heads on the backbone, which are in the file then, were trained or stayed frozen; empty where the
            model has none.
        task: what a program needs to use the model, beyond its weights; a value of JSON.
    """

    model_card: str
    lora_dim: int
    lora_alpha: float
    lora_targets: tuple[str, ...] = ("q", "v")
    step: int = 0
    backbone_path: str = ""
    backbone_sha256: str = ""
    heads: str = ""
    task: dict[str, Any] = field(default_factory=dict)


def save_lora(path: str | os.PathLike, arrays: dict[str, np.ndarray], record: LoraRecord) -> None:
    """Writes a LoRA-only safetensors file atomically; the same arrays and record give the same bytes.

    Its metadata has the record and a checksum of both.

    Args:
        path: the file, by convention ``model.{step}.safetensors``.
        arrays: ``{name: array}`` with names like ``transformer.h.0.attn.c_attn.lora_A``; written as float32.
        record: the LoraRecord for the file's metadata.

    Raises:
        UserError: a number in an array is not finite; nothing is written.
        ValueError: there is no array, or one that is not LoRA's.
    """
    others = [name for name in arrays if not is_lora(name)]
    if others or not arrays:
        raise ValueError(f"{path}: expected LoRA arrays only, found {shorten(others) or 'nothing'}")
    save_trained(path, arrays, record)


def save_trained(path: str | os.PathLike, arrays: dict[str, np.ndarray], record: LoraRecord) -> None:
    """Writes a safetensors file of whatever a training changes, as ``save_lora`` does: all weights, or heads too.

    Args:
        path: the file.
        arrays: ``{name: array}``; written as float32.
        record: the LoraRecord for the file's metadata.

    Raises:
        UserError: a number in an array is not finite; nothing is written.
    """
    packed = {name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()}
    for name, array in packed.items():
        check_finite(name, array, path, DIVERGED)
    fields = {name: value for name, value in dataclasses.asdict(record).items() if value or name not in OPTIONAL_SHAPE}
    text = json.dumps({**fields, CHECKSUM: _checksum(fields, packed)}, allow_nan=False)
    with atomic_write(path, "wb") as file:
        file.write(safetensors.numpy.save(packed, {METADATA_KEY: text}))


def _checksum(fields, arrays):
    """Returns the SHA-256 of a record's fields, and of names, shapes and bytes of float32 arrays."""
    digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode())
    for name in sorted(arrays):
        digest.update(f"\n{name} {arrays[name].shape}\n".encode())
        digest.update(arrays[name].astype("<f4", copy=False).data)
    return digest.hexdigest()


def read_record(path: str | os.PathLike) -> LoraRecord | None:
    """Returns the LoraRecord in a file's metadata, or None if it has none.

    Raises:
        UserError: the file is damaged, or its record has other fields.
    """
    fields = _read_fields(path)
    return None if fields is None else _record_of(fields)


def _read_fields(path):
    """Returns what a safetensors file's metadata says of its LoRA arrays, or None."""
    if not str(path).endswith(".safetensors"):
        return None
    with open_safetensors(path) as file:
        text = (file.metadata() or {}).get(METADATA_KEY)
    if text is None:
        return None
    where = f"{path}: the record of its LoRA settings"
    fields = parse_json(text, where, RECORD_SHAPE)
    unknown = sorted(fields.keys() - RECORD_SHAPE.keys() - OPTIONAL_SHAPE.keys() - {CHECKSUM})
    check_shape(fields, {name: shape for name, shape in OPTIONAL_SHAPE.items() if name in fields}, where)
    if unknown:
        raise UserError(f"{where}: has {shortened(unknown[0])}, which this version of the program does not know")
    if min(fields["lora_dim"], fields["step"]) < 0:
        raise UserError(f"{where}: has a negative number")
    return fields


def _record_of(fields):
    known = {name: fields[name] for name in (*RECORD_SHAPE, *OPTIONAL_SHAPE) if name in fields}
    return LoraRecord(**{**known, "lora_targets": tuple(fields["lora_targets"])})


def read_checkpoint(
    path: str | os.PathLike,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], LoraRecord | None]:
    """Reads a checkpoint of any kind.

    Returns:
        ``(others, lora, record)``: ``{name: float32 array}`` of what is not LoRA's and of what is, and the LoraRecord
        of what was trained, or None.

    Raises:
        UserError: as ``read_arrays`` and ``read_record``, or the LoRA arrays are not those that were written.
    """
    path = resolve_checkpoint(path)
    fields = _read_fields(path)
    if fields and fields.get("heads"):
        raise UserError(f"{path}: was trained on {printable(fields['model_card'])} by bert_eae_ft.py, for "
                        "bert_eae_predict.py; expected a GPT-2's checkpoint")
    arrays = read_arrays(path)
    others, lora = split_arrays(arrays)
    if fields and not lora and fields["lora_dim"]:
        fields = None  # of a file that was made of another, without its LoRA arrays
    if fields:
        _check_sum(fields, lora if fields["lora_dim"] else arrays, path)
    return others, lora, _record_of(fields) if fields else None


def read_trained(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], LoraRecord]:
    """Reads a file of ``save_trained``.

    Returns:
        ``(arrays, record)``: ``{name: float32 array}`` as they were written, and the LoraRecord.

    Raises:
        UserError: as ``read_named_arrays`` and ``read_record``; the file has no record, or the arrays are not those
            that were written.
    """
    path = resolve_checkpoint(path)
    fields = _read_fields(path)
    if fields is None:
        raise UserError(f"{path}: does not record how it was trained; expected a file that a training wrote")
    arrays = read_named_arrays(path)
    _check_sum(fields, arrays, path)
    return arrays, _record_of(fields)


def _check_sum(fields, arrays, path):
    """Takes the checksum out of a record's fields and compares it; older files have none."""
    if CHECKSUM in fields and fields.pop(CHECKSUM) != _checksum(fields, arrays):
        raise UserError(f"{path}: is damaged: its checksum is not that of the arrays and settings in it; copy or train "
                        "it again")


def is_lora(name: str) -> bool:
    """Tells whether a name is that of a LoRA array, ``….lora_A`` or ``….lora_B``."""
    return name.endswith((".lora_A", ".lora_B"))


def split_arrays(arrays: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Splits ``{name: array}`` into ``(backbone, lora)``."""
    return ({name: array for name, array in arrays.items() if not is_lora(name)},
            {name: array for name, array in arrays.items() if is_lora(name)})
