"""The weights that a command line names: a frozen GPT-2 backbone and the LoRA arrays on it, checked to fit."""

import functools
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from common.checks import printable
from common.errors import UserError
from common.files import sha256_of
from common.model.initial_weights import RANDOM, random_backbone
from common.model.lora_arrays import LoraSettings, lora_shapes
from common.model.lora_file import LoraRecord, read_checkpoint, read_record
from common.model.model_cards import MODEL_CARDS, ModelCard, backbone_shapes
from common.model.weight_files import resolve_checkpoint, say_once, shard_files, shorten
from common.paths import ROOT


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
    backbone = find_backbone(before, path) if before and before.lora_dim else path
    return LoraRecord(card.name, settings.rank, settings.alpha, tuple(settings.targets), 0,
                      path_to_record(backbone), backbone_hash(backbone))


def path_to_record(path):
    """Returns the path as a record has it, relative to the project's root if it is inside, links followed or not."""
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
        raise UserError(f"{lora_path}: holds LoRA arrays only, and its backbone "
                        f"{printable(recorded) or '(none recorded)'} does not exist; give the backbone as "
                        "--init_checkpoint and this file as --lora_checkpoint")
    found = backbone_hash(path)
    if found != record.backbone_sha256:
        raise UserError(f"{lora_path}: was trained on {printable(recorded)} with sha256 "
                        f"{printable(record.backbone_sha256)}, but {printable(path)} has {found}; restore that file "
                        "or, if you know that the weights are the same, give it as --init_checkpoint and this file as "
                        "--lora_checkpoint")
    return path


def steps_before(init_checkpoint: str | os.PathLike, lora_checkpoint: str | os.PathLike | None) -> int:
    """Returns how many training steps are behind the LoRA arrays that a run starts from, as their file records it.

    Args:
        init_checkpoint, lora_checkpoint: as for ``load_weights``.

    Raises:
        UserError: as ``read_record``, or there is no such file.
    """
    path = lora_checkpoint or init_checkpoint
    record = None if path == RANDOM else read_record(resolve_checkpoint(path))
    return record.step if record else 0


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
        raise UserError(f"{path}: was trained with {as_flags(*trained)}, but the flags say {as_flags(*flags)}; use the "
                        "flags of its training")


def as_flags(rank: int, alpha: float, targets: Sequence[str]) -> str:
    """Returns the flags that give a program exactly these settings."""
    shown = f"{alpha:g}" if float(f"{alpha:g}") == alpha else repr(alpha)
    return printable(f"--lora_dim {rank} --lora_alpha {shown} --lora_targets {','.join(targets)}")


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
    backbone, lora, record = (random_backbone(card), {}, None) if path == RANDOM else read_checkpoint(path)
    lora_path = backbone_path = path
    if lora_checkpoint:
        if not backbone:
            raise UserError(f"{path}: holds LoRA arrays only, but so does --lora_checkpoint {lora_checkpoint}; give "
                            "the backbone as --init_checkpoint")
        if lora:
            say_once(f"the LoRA arrays of {path} are replaced by those of {lora_checkpoint}")
        lora_path = resolve_checkpoint(lora_checkpoint)
        lora, record = _lora_on(backbone, backbone_path, lora_path)
    if record and record.model_card != card.name:
        raise UserError(f"{lora_path}: was trained with --model_card {printable(record.model_card)}, but the flags say "
                        f"{card.name}; use the flags of its training")
    if not backbone and lora:
        if record is None:
            raise UserError(f"{path}: holds LoRA arrays only and does not say which backbone they belong to; give the "
                            "backbone as --init_checkpoint and this file as --lora_checkpoint")
        backbone_path = find_backbone(record, path)
        backbone = random_backbone(card) if backbone_path == RANDOM else read_checkpoint(backbone_path)[0]
    check_shapes(backbone, backbone_shapes(card), backbone_path)
    if lora:
        _check_lora(lora, record, lora_path, card, settings)
    return backbone, lora or None, record


def _lora_on(backbone, backbone_path, lora_path):
    """Reads the LoRA arrays of a file and their record; what else it holds must be of the backbone that they go on."""
    others, lora, record = read_checkpoint(lora_path)
    if not lora and record:
        raise UserError(f"{lora_path}: holds all weights, of a training with --lora_dim 0; give it alone, as "
                        "--init_checkpoint")
    if not lora:
        raise UserError(f"{lora_path}: no lora_A or lora_B among its {len(others)} arrays, expected a LoRA checkpoint")
    foreign = [name for name, array in others.items() if not np.array_equal(array, backbone.get(name))]
    if foreign:
        raise UserError(f"{lora_path}: holds {len(foreign)} arrays that are neither LoRA's nor those of "
                        f"{backbone_path}: {shorten(foreign)}; a file with its own backbone goes alone, as "
                        "--init_checkpoint")
    if record and record.backbone_sha256 and record.backbone_sha256 != backbone_hash(backbone_path):
        say_once(f"{lora_path} was trained on {printable(record.backbone_path)} (sha256 "
                 f"{printable(record.backbone_sha256)}), and {backbone_path} is another file: results differ unless it "
                 "holds the same weights")
    return lora, record


def _check_lora(lora, record, path, card, settings):
    """Checks that LoRA arrays fit the LoraSettings of the flags, by their record as far as there is one."""
    if record:
        check_record(record, path, settings)
    expected = lora_shapes(card, settings)
    _check_rank(lora, expected, path)
    check_shapes(lora, expected, path)
    if record is None:
        say_once(f"{path} does not say how it was trained: taken as "
                 f"{as_flags(settings.rank, settings.alpha, settings.targets)}; another alpha, or other targets of "
                 "the same shapes, could not be noticed")


def _check_rank(lora, expected, path):
    """Raises a UserError in terms of the flags if the rank is all that differs."""
    rows = {name: (lora[name].shape[0], shape[0]) for name, shape in expected.items()
            if name.endswith(".lora_A") and name in lora and lora[name].ndim == 2}
    differing = [pair for pair in rows.values() if pair[0] != pair[1]]
    if differing and lora.keys() == expected.keys():
        found, wanted = differing[0]
        raise UserError(f"{path}: has {found} rows in lora_A where the flags expect {wanted} (--lora_dim for each "
                        "target in the projection); give --lora_dim and --lora_targets as in training")
