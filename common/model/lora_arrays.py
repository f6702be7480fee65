"""LoRA's weights as numpy arrays: their names and shapes, their initial values, and merging them into a backbone."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from common.errors import UserError
from common.model import bert_cards
from common.model.model_cards import ModelCard

# For each projection of a block: the targets whose outputs are concatenated in its output.
PROJECTIONS = {
    "attn.c_attn": ("q", "k", "v"),
    "attn.c_proj": ("o",),
    "mlp.c_fc": ("fc",),
    "mlp.c_proj": ("proj",),
}
TARGETS = tuple(target for targets in PROJECTIONS.values() for target in targets)
PROJECTIONS_OF_ALL = {**PROJECTIONS, **bert_cards.PROJECTIONS}


@dataclass(frozen=True)
class LoraSettings:
    """The settings of LoRA that a model's computation depends on.

    Attributes:
        rank: r.
        alpha: the update is scaled by ``alpha / rank``.
        dropout: probability, on the input of the update, in training.
        targets: the projections that have an update, some of ``known_targets``.
    """

    known_targets: ClassVar[tuple[str, ...]] = TARGETS

    rank: int = 4
    alpha: float = 32
    dropout: float = 0.0
    targets: tuple[str, ...] = ("q", "v")

    def __post_init__(self) -> None:
        unknown = [target for target in self.targets if target not in self.known_targets]
        if unknown or not self.targets:
            raise UserError(f"LoRA targets {','.join(self.targets) or '(none)'}: expected some of "
                            f"{','.join(self.known_targets)}")
        if len(set(self.targets)) < len(self.targets):
            raise UserError(f"LoRA targets {','.join(self.targets)}: a projection has one update; name each once")

    def layer_arguments(self, *targets: str) -> dict[str, Any]:
        """Returns the keyword arguments of a MergedLinear whose output is the outputs of ``targets``, concatenated."""
        return {"r": self.rank, "lora_alpha": self.alpha, "lora_dropout": self.dropout,
                "enable_lora": tuple(target in self.targets for target in targets)}


@dataclass(frozen=True)
class BertLoraSettings(LoraSettings):
    """LoraSettings of a BERT; a rank of 0 is for a model without updates, all of whose weights are trained."""

    known_targets: ClassVar[tuple[str, ...]] = bert_cards.TARGETS
    targets: tuple[str, ...] = ("query", "value")


def lora_shapes(card: ModelCard, settings: LoraSettings) -> dict[str, tuple[int, int]]:
    """Returns ``{name: shape}`` of every LoRA array; ``lora_A (k*r, in)``, ``lora_B (k*out, r)`` for k targets."""
    shapes: dict[str, tuple[int, int]] = {}
    for prefix, (key, fan_in, fan_out) in card.projections().items():
        count = sum(target in settings.targets for target in PROJECTIONS_OF_ALL[key])
        if count and settings.rank:
            shapes[prefix + "lora_A"] = (count * settings.rank, fan_in)
            shapes[prefix + "lora_B"] = (count * fan_out, settings.rank)
    return shapes


def initial_lora(card: ModelCard, settings: LoraSettings, seed: int) -> dict[str, np.ndarray]:
    """Returns the initial values ``{name: float32 array}``: A Kaiming-uniform with a = sqrt(5), B zero.

    Kaiming-uniform with that slope is uniform within ``1 / sqrt(fan_in)`` (He et al. 2015, section 2.2, equation 14).
    """
    generator = np.random.RandomState(seed)
    arrays = {}
    for name, shape in lora_shapes(card, settings).items():
        if name.endswith("lora_A"):
            bound = 1.0 / math.sqrt(shape[1])
            arrays[name] = generator.uniform(-bound, bound, shape).astype(np.float32)
        else:
            arrays[name] = np.zeros(shape, np.float32)
    return arrays


def blocks_of(prefix: str, lora: dict[str, np.ndarray],
              settings: LoraSettings) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """Takes the arrays of one projection apart.

    Args:
        prefix: the projection's, such as ``transformer.h.0.attn.c_attn.``.
        lora: ``{name: array}`` of the shapes of ``lora_shapes``.
        settings: the LoraSettings of ``lora``.

    Returns:
        For each target with an update: its index among the projection's targets, A ``(r, in)`` and B ``(out, r)``,
        where ``out`` is the width of one target.
    """
    lora_a, lora_b = lora[prefix + "lora_A"], lora[prefix + "lora_B"]
    indices = [index for index, target in enumerate(targets_of(prefix)) if target in settings.targets]
    a_blocks = lora_a.reshape(len(indices), settings.rank, lora_a.shape[1])
    b_blocks = lora_b.reshape(len(indices), -1, settings.rank)
    return list(zip(indices, a_blocks, b_blocks))


def targets_of(prefix: str) -> tuple[str, ...]:
    """Returns the targets of the projection that a prefix such as ``transformer.h.0.attn.c_attn.`` names."""
    return PROJECTIONS_OF_ALL[".".join(prefix.split(".")[-3:-1])]


def merge_lora(backbone: dict[str, np.ndarray], lora: dict[str, np.ndarray],
               settings: LoraSettings) -> dict[str, np.ndarray]:
    """Returns the backbone with ``W + alpha / r * (B A).T`` instead of every updated weight W.

    Source: Hu et al. (2021), "LoRA", section 4.1. Computed in float64, returned as float32.

    Args:
        backbone: ``{name: array}``; weights ``(in, out)``.
        lora: ``{name: array}`` of the shapes of ``lora_shapes``.
        settings: the LoraSettings of ``lora``.
    """
    merged = dict(backbone)
    for prefix in (name.removesuffix("lora_A") for name in lora if name.endswith("lora_A")):
        weight = backbone[prefix + "weight"].astype(np.float64)
        for index, a_block, b_block in blocks_of(prefix, lora, settings):
            update = (b_block.astype(np.float64) @ a_block.astype(np.float64)).T * (settings.alpha / settings.rank)
            width = update.shape[1]
            weight[:, index * width:(index + 1) * width] += update
        merged[prefix + "weight"] = weight.astype(np.float32)
    return merged
