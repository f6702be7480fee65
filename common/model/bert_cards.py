"""The BERTs that the programs for events know: sizes, names and shapes of arrays, projections that can have an update.

Arrays have names and a layout of our own while a program runs: query, key and value are one projection, and projections
are stored ``(in, out)``, as GPT-2's. Files of backbones have Hugging Face's names; common.model.bert_files translates.
"""

import math
from dataclasses import dataclass

import numpy as np

from common.model.model_cards import ModelCard

# For each projection of a layer: the targets whose outputs are concatenated in its output. Those of Hugging Face's
# modules that all end in "dense" have names of their own: attention.output, intermediate and output.
PROJECTIONS = {
    "attention.query_key_value": ("query", "key", "value"),
    "attention.output": ("output",),
    "feed_forward.intermediate": ("intermediate",),
    "feed_forward.output": ("layer_output",),
}
TARGETS = tuple(target for targets in PROJECTIONS.values() for target in targets)
LAYER_NORM_EPS = 1e-12
HEAD_NAMES = ("heads.weight", "heads.bias")
TRAINED, FROZEN = "trained", "frozen"  # what --heads takes


@dataclass(frozen=True)
class BertCard(ModelCard):
    """Sizes of one BERT; ``token_types`` is the number of segment embeddings."""

    positions: int = 512
    vocabulary: int = 30522
    token_types: int = 2

    def backbone_shapes(self) -> dict[str, tuple[int, ...]]:
        """Returns ``{name: shape}`` of every array, the pooler of the first token left out, which spans do not need."""
        width = self.width
        shapes: dict[str, tuple[int, ...]] = {
            "bert.embeddings.word.weight": (self.vocabulary, width),
            "bert.embeddings.position.weight": (self.positions, width),
            "bert.embeddings.token_type.weight": (self.token_types, width),
            "bert.embeddings.norm.weight": (width,),
            "bert.embeddings.norm.bias": (width,),
        }
        for layer in range(self.layers):
            block = f"bert.layers.{layer}."
            for half in ("attention", "feed_forward"):
                for key, targets in PROJECTIONS.items():
                    if key.startswith(half):
                        _, fan_in, fan_out = self.projections()[f"{block}{key}."]
                        shapes[f"{block}{key}.weight"] = (fan_in, len(targets) * fan_out)
                        shapes[f"{block}{key}.bias"] = (len(targets) * fan_out,)
                shapes[f"{block}{half}.norm.weight"] = (width,)
                shapes[f"{block}{half}.norm.bias"] = (width,)
        return shapes

    def projections(self) -> dict[str, tuple[str, int, int]]:
        """See ModelCard.projections."""
        width = self.width
        return {f"bert.layers.{layer}.{key}.": (key, fan_in, fan_out) for layer in range(self.layers)
                for key, fan_in, fan_out in (
                    ("attention.query_key_value", width, width), ("attention.output", width, width),
                    ("feed_forward.intermediate", width, 4 * width), ("feed_forward.output", 4 * width, width))}


BERT_CARDS = {
    card.name: card
    for card in (
        BertCard("bert.minilm", 384, 6, 12, "minilm"),
        BertCard("bert.base", 768, 12, 12, "bert-base-uncased"),
    )
}


def head_shapes(card: BertCard) -> dict[str, tuple[int, ...]]:
    """Returns ``{name: shape}`` of the two heads, start and end, as one layer ``(in, out)``."""
    return dict(zip(HEAD_NAMES, ((card.width, 2), (2,))))


def initial_heads(card: BertCard, seed: int) -> dict[str, np.ndarray]:
    """Returns the heads' first values ``{name: float32 array}``, uniform within ``1 / sqrt(width)``.

    That is what a linear layer of torch starts with (He et al. 2015, section 2.2, with a = sqrt(5)).
    """
    generator, bound = np.random.RandomState([seed, 1]), 1.0 / math.sqrt(card.width)
    return {name: generator.uniform(-bound, bound, shape).astype(np.float32)
            for name, shape in head_shapes(card).items()}


def is_trained(name: str, rank: int, heads: str) -> bool:
    """Tells whether an array is trained.

    Args:
        name: of the array, in a model.
        rank: ``--lora_dim``; with 0 the whole backbone is trained.
        heads: ``--heads``, TRAINED or FROZEN.
    """
    if name in HEAD_NAMES:
        return heads == TRAINED
    return rank == 0 or name.endswith((".lora_A", ".lora_B"))
