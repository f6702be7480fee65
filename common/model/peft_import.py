"""Makes a LoRA file of ours from a Hugging Face PEFT adapter of a GPT-2.

    python scripts/import_peft.py FOLDER OUT.safetensors --model_card gpt2.md [--init_checkpoint BACKBONE]

FOLDER holds adapter_config.json and adapter_model.safetensors (or .bin). An adapter's update of the query-key-value
projection is one product of B and A for all three targets. Ours is an update for each target, of the same rank and
scale everywhere, and that is always possible: a target gets its rows of B, of these the columns that are not zero, and
the rows of A that belong to them. So an adapter of export_peft.py becomes what it was, and any other of rank R becomes
three updates of rank R with the same A. Zeros fill up the smaller ranks. Where scales differ, B takes the ratio, the
one step that rounds. Whatever else an adapter holds is refused.
"""

import argparse
import collections
import math
import os
import re
from typing import Any, NamedTuple

import numpy as np

from common.checks import check_shape, printable, shortened
from common.errors import UserError
from common.files import read_json
from common.model.checkpoint import as_flags, new_record
from common.model.lora_arrays import PROJECTIONS, LoraSettings
from common.model.lora_file import save_lora
from common.model.model_cards import MODEL_CARDS, ModelCard, backbone_shapes
from common.model.peft_export import CONFIG, PREFIX, WEIGHTS
from common.model.weight_files import read_named_arrays, say_once, shorten
from common.paths import PRETRAINED

NAME = re.compile(re.escape(PREFIX) + r"((?:transformer\.)?(h\.\d+\.(?:" + "|".join(map(re.escape, PROJECTIONS)) +
                  r")))\.lora_([AB])\.weight")
# What an adapter's outputs do not depend on, or what this module reads.
KNOWN = {"peft_type", "task_type", "base_model_name_or_path", "revision", "inference_mode", "auto_mapping",
         "peft_version", "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "r",
         "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "lora_dropout", "fan_in_fan_out", "bias",
         "init_lora_weights", "eva_config", "megatron_core", "qalora_group_size", "ensure_weight_tying",
         "runtime_config"}
REFUSED = {
    "use_dora": "DoRA also scales each output of the updated weight, which no low-rank update does",
    "modules_to_save": "whole modules were trained besides the updates",
    "lora_bias": "the updates have biases of their own",
    "trainable_token_indices": "embeddings were trained besides the updates",
    "alora_invocation_tokens": "the update is on behind some tokens only",
    "layer_replication": "layers are repeated, so the model is no GPT-2 of these sizes",
}
PATTERNS = {"r": "rank_pattern", "lora_alpha": "alpha_pattern"}
PLAIN_STARTS = (True, False, "gaussian", "eva", "orthogonal")  # values of A and B that leave the backbone as it is
INSTEAD = ("; if PEFT can merge it, PeftModel.from_pretrained(...).merge_and_unload().save_pretrained(FOLDER) makes a "
           "FOLDER for --init_checkpoint")


class Update(NamedTuple):
    """One projection's update, ``scale * B @ A``; A ``(rank, in)``, B ``(out, rank)``."""

    a: np.ndarray
    b: np.ndarray
    alpha: float
    divisor: float  # the scale is alpha / divisor

    @property
    def scale(self) -> float:
        return self.alpha / self.divisor


def check_config(config: dict[str, Any], path: str) -> None:
    """Checks that an adapter is plain LoRA.

    Raises:
        UserError: it has something that no LoRA file can hold, or that this program does not know.
    """
    if config["peft_type"] != "LORA":
        raise UserError(f"{path}: peft_type is {shortened(config['peft_type'])}, expected 'LORA'{INSTEAD}")
    for name, kind in (("r", int), ("lora_alpha", float)):
        patterns = PATTERNS[name]
        check_shape({patterns: None, **config}, {name: kind, patterns: ({str: kind}, None)}, path)
        if min([config[name], *(config.get(patterns) or {}).values()]) <= 0:
            raise UserError(f"{path}: {name} or {patterns} has a number that is not above 0")
    for name, value in config.items():
        if value and (name in REFUSED or name not in KNOWN):
            reason = REFUSED.get(name, "this program does not know what that changes")
            raise UserError(f"{path}: {printable(name)} is {shortened(value)}: {reason}{INSTEAD}")
    if config.get("bias", "none") != "none":
        raise UserError(f"{path}: bias is {shortened(config['bias'])}: biases were trained besides the updates"
                        f"{INSTEAD}")
    if config.get("init_lora_weights", True) not in PLAIN_STARTS:
        raise UserError(f"{path}: init_lora_weights is {shortened(config['init_lora_weights'])}: such a start changes "
                        f"the backbone's weights too{INSTEAD}")


def looked_up(config: dict[str, Any], module: str, name: str, path: str) -> float:
    """Returns ``r`` or ``lora_alpha`` of a module as PEFT looks it up: of the first pattern that its name ends with."""
    patterns = config.get(PATTERNS[name]) or {}
    try:
        return next((value for pattern, value in patterns.items() if re.match(rf"(.*\.)?({pattern})$", module)),
                    config[name])
    except re.error as error:
        raise UserError(f"{path}: {PATTERNS[name]} holds {shortened(list(patterns))}, expected regular expressions: "
                        f"{error}") from error


def read_updates(folder: str | os.PathLike, card: ModelCard) -> tuple[dict[str, Update], dict[str, Any]]:
    """Reads an adapter.

    Args:
        folder: what PEFT's ``save_pretrained`` wrote.
        card: the ModelCard of its backbone.

    Returns:
        ``{name: Update}`` with names such as ``transformer.h.0.attn.c_attn.``, and the adapter's configuration.

    Raises:
        UserError: a file is missing or damaged, the adapter is not plain LoRA, or it does not fit the ModelCard.
    """
    path = os.path.join(folder, CONFIG)
    config = read_json(path, {"peft_type": str})
    check_config(config, path)
    weights = next((file for file in (os.path.join(folder, name) for name in (WEIGHTS, "adapter_model.bin"))
                    if os.path.isfile(file)), None)
    if weights is None:
        raise UserError(f"{folder}: has neither {WEIGHTS} nor adapter_model.bin")
    arrays = read_named_arrays(weights)
    matches = {name: NAME.fullmatch(name) for name in arrays}
    others = [name for name, match in matches.items() if not match]
    if others or not arrays:
        raise UserError(f"{weights}: holds {shorten(others) or 'no array'}; expected updates of "
                        f"{', '.join(PROJECTIONS)} alone, which is where a LoRA file of ours has updates")
    halves: dict[str, dict[str, np.ndarray]] = collections.defaultdict(dict)
    for name, (module, projection, half) in ((name, match.groups()) for name, match in matches.items()):
        halves[projection][half] = arrays[name]
        halves[projection]["module"] = module
    updates = {}
    for projection, found in halves.items():
        rank = looked_up(config, found["module"], "r", path)
        alpha = looked_up(config, found["module"], "lora_alpha", path)
        name = f"transformer.{projection}."
        check_update(found, rank, backbone_shapes(card).get(name + "weight"), f"{weights}: {projection}", card)
        updates[name] = Update(found["A"], found["B"], alpha, math.sqrt(rank) if config.get("use_rslora") else rank)
    return updates, config


def check_update(found: dict[str, Any], rank: float, weight_shape: tuple[int, ...] | None, where: str,
                 card: ModelCard) -> None:
    """Raises a UserError unless both halves are there, of the configuration's rank and of the model's shapes."""
    if weight_shape is None:
        raise UserError(f"{where}: {card.name} has {card.layers} layers; give the --model_card of the adapter's model")
    expected = {"A": (rank, weight_shape[0]), "B": (weight_shape[1], rank)}
    shapes = {half: found[half].shape if half in found else "missing" for half in expected}
    if shapes != expected:
        raise UserError(f"{where}: lora_A is {shapes['A']} and lora_B {shapes['B']}, expected {expected['A']} and "
                        f"{expected['B']} for {card.name} and the rank in {CONFIG}; give the --model_card of the "
                        "adapter's model")


def used_columns(updates: dict[str, Update]) -> dict[str, list[int]]:
    """Returns the columns of B that a target uses in any layer, for each target that uses one, in TARGETS' order.

    A projection whose B are all zero is not trained yet: its targets use all columns.
    """
    columns: dict[str, list[int]] = {}
    for projection, targets in PROJECTIONS.items():
        parts = [np.split(update.b, len(targets)) for name, update in updates.items()
                 if name.endswith(f"{projection}.")]
        if not parts:
            continue
        most = max(part[0].shape[1] for part in parts)
        used = np.zeros((len(targets), most), bool)
        for part in parts:
            used[:, :part[0].shape[1]] |= [block.any(axis=0) for block in part]
        used |= not used.any()
        columns.update({target: np.flatnonzero(row).tolist() for target, row in zip(targets, used) if row.any()})
    return columns


def as_our_lora(updates: dict[str, Update], card: ModelCard) -> tuple[dict[str, np.ndarray], LoraSettings]:
    """Returns ``{name: float32 array}`` of ``lora_shapes`` and the LoraSettings that make the same updates.

    Args:
        updates: of ``read_updates``; a projection that is missing in some layers gets zeros there.
        card: the ModelCard.
    """
    columns = used_columns(updates)
    rank = max(map(len, columns.values()))
    scale = collections.Counter(update.scale for update in updates.values()).most_common(1)[0][0]
    alpha = next(update.alpha * rank / update.divisor for update in updates.values() if update.scale == scale)
    settings = LoraSettings(rank, alpha, targets=tuple(columns))
    arrays = {}
    for layer in range(card.layers):
        for projection, targets in PROJECTIONS.items():
            enabled = [target for target in targets if target in columns]
            if not enabled:
                continue
            name = f"transformer.h.{layer}.{projection}."
            fan_in, fan_out = backbone_shapes(card)[name + "weight"]
            a = np.zeros((len(enabled), rank, fan_in), np.float32)
            b = np.zeros((len(enabled), fan_out // len(targets), rank), np.float32)
            if name in updates:
                update = updates[name]
                ratio = update.scale / scale
                parts = dict(zip(targets, np.split(update.b.astype(np.float64) * ratio, len(targets))))
                for position, target in enumerate(enabled):
                    chosen = [column for column in columns[target] if column < len(update.a)]
                    a[position, :len(chosen)] = update.a[chosen]
                    b[position, :, :len(chosen)] = parts[target][:, chosen]
            arrays[name + "lora_A"], arrays[name + "lora_B"] = a.reshape(-1, fan_in), b.reshape(-1, rank)
    return arrays, settings


def main(argv: list[str]) -> None:
    """Writes the LoRA file."""
    parser = argparse.ArgumentParser(prog="import_peft.py", description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="FOLDER", help="the adapter")
    parser.add_argument("output", metavar="OUT.safetensors", help="file to write")
    parser.add_argument("--model_card", required=True, choices=list(MODEL_CARDS), help="size of the backbone")
    parser.add_argument("--init_checkpoint", help="the backbone that the file is to record; by default the model "
                        "card's folder under pretrained_checkpoints/")
    arguments = parser.parse_args(argv)
    card = MODEL_CARDS[arguments.model_card]
    if not arguments.output.endswith(".safetensors") or os.path.lexists(arguments.output):
        raise UserError(f"{arguments.output}: expected a file that does not exist yet and whose name ends in "
                        ".safetensors")
    updates, config = read_updates(arguments.folder, card)
    arrays, settings = as_our_lora(updates, card)
    record = new_record(card, settings, arguments.init_checkpoint or PRETRAINED / card.folder)
    base_model = config.get("base_model_name_or_path")
    if base_model and os.path.basename(str(base_model).rstrip("/")) != card.folder:
        say_once(f"the adapter was trained on {base_model}: results are right only if {record.backbone_path} holds the "
                 "same weights")
    save_lora(arguments.output, arrays, record)
    print(f"{arguments.output}: use it with --model_card {card.name} --init_checkpoint {arguments.output} "
          f"{as_flags(settings.rank, settings.alpha, settings.targets)}")
