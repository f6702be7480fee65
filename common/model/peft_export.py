"""Writes a trained checkpoint as an adapter of Hugging Face PEFT: adapter_config.json and adapter_model.safetensors.

    python scripts/export_peft.py CHECKPOINT FOLDER

peft.PeftModel.from_pretrained(model, FOLDER) then adds the updates to transformers' GPT-2. PEFT has one A and one B for
the whole query-key-value projection. So k of its targets become one update of rank k * r and alpha k * alpha: A is the
same, and B has the block of each target, with zeros where a target's rows meet another target's columns.
"""

import os
from pathlib import PurePath
from typing import Any

import numpy as np

from common.files import atomic_folder, check_new_folder, write_json
from common.model.downloading import CARDS, REPOSITORY_OWNER
from common.model.huggingface_files import save_arrays
from common.model.initial_weights import RANDOM
from common.model.lora_arrays import PROJECTIONS, LoraSettings, blocks_of, targets_of
from common.model.lora_file import LoraRecord
from common.model.trained_lora import read_trained_lora, trained_lora_parser
from common.model.weight_files import FOLDER_FILES

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."


def adapter_arrays(lora: dict[str, np.ndarray], settings: LoraSettings) -> dict[str, np.ndarray]:
    """Returns ``{PEFT's name: array}``: for each projection A ``(k * r, in)`` and B ``(out, k * r)``.

    Args:
        lora: ``{name: array}`` of ``lora_shapes``.
        settings: the LoraSettings of ``lora``.
    """
    arrays = {}
    for prefix in (name.removesuffix("lora_A") for name in lora if name.endswith("lora_A")):
        blocks = blocks_of(prefix, lora, settings)
        width, rank = blocks[0][2].shape
        adapter_b = np.zeros((len(targets_of(prefix)) * width, len(blocks) * rank), np.float32)
        for position, (index, _, b_block) in enumerate(blocks):
            adapter_b[index * width:(index + 1) * width, position * rank:(position + 1) * rank] = b_block
        arrays[f"{PREFIX}{prefix}lora_A.weight"] = lora[prefix + "lora_A"]
        arrays[f"{PREFIX}{prefix}lora_B.weight"] = adapter_b
    return arrays


def adapter_config(settings: LoraSettings, base_model: str | None) -> dict[str, Any]:
    """Returns what adapter_config.json holds; PEFT has defaults for all else.

    Args:
        settings: the LoraSettings.
        base_model: a name on the Hugging Face hub or a folder, or None where it is not known.
    """
    counts = {projection: sum(target in settings.targets for target in targets)
              for projection, targets in PROJECTIONS.items()}
    counts = {projection: count for projection, count in counts.items() if count}
    ranks = {projection: count * settings.rank for projection, count in counts.items()}
    alphas = {projection: whole(count * settings.alpha) for projection, count in counts.items()}
    first = next(iter(counts))
    return {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base_model, "inference_mode": True,
        "target_modules": list(counts), "r": ranks[first], "lora_alpha": alphas[first],
        "rank_pattern": {name: rank for name, rank in ranks.items() if rank != ranks[first]},
        "alpha_pattern": {name: alpha for name, alpha in alphas.items() if alpha != alphas[first]},
        "lora_dropout": settings.dropout, "bias": "none", "fan_in_fan_out": True,
    }


def whole(number: float) -> float:
    """Returns an int where a number is whole: PEFT says that alpha is one."""
    return int(number) if number == int(number) else number


def base_model_of(record: LoraRecord) -> str | None:
    """Returns what transformers can load as the backbone of a record: a name on the hub or a path, None if neither."""
    path = PurePath(record.backbone_path)
    if record.backbone_path in ("", RANDOM):
        return None
    if path.parent.parent == PurePath("pretrained_checkpoints") and path.parent.name in CARDS:
        return f"{REPOSITORY_OWNER}/{path.parent.name}"
    return str(path.parent if path.name in FOLDER_FILES else path)


def main(argv: list[str]) -> None:
    """Writes the adapter."""
    arguments = trained_lora_parser("export_peft.py", __doc__).parse_args(argv)
    check_new_folder(arguments.folder)
    trained = read_trained_lora(arguments)
    with atomic_folder(arguments.folder) as new:
        save_arrays(os.path.join(new, WEIGHTS), adapter_arrays(trained.lora, trained.settings))
        write_json(os.path.join(new, CONFIG), adapter_config(trained.settings, base_model_of(trained.record)))
    print(f"{arguments.folder}: a PEFT adapter for {trained.card.folder} with the updates of {trained.path}")
