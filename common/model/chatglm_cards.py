"""The sizes of ChatGLM2 that the programs know, its arrays by name and shape, and LoRA's on them."""

import math
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

LAYER = "transformer.encoder.layers."
QUERY_KEY_VALUE = "self_attention.query_key_value"
SEED = 0
AHEAD = 8


@dataclass(frozen=True)
class ChatGLMCard:
    """Sizes of one ChatGLM2.

    Attributes:
        name: what ``model_card`` takes.
        width: size of a hidden state.
        layers: number of blocks.
        heads: heads of queries, ``width // heads`` wide.
        groups: heads of keys and of values; each serves ``heads // groups`` heads of queries.
        inner_width: size of the gated half of the feed-forward layer.
        vocabulary: number of tokens, those that fill up the table included.
        pieces: of them, those of the SentencePiece model; the special tokens come next.
        folder: its folder under ``pretrained_checkpoints/``.
        positions: longest sequence.
    """

    name: str
    width: int
    layers: int
    heads: int
    groups: int
    inner_width: int
    vocabulary: int
    pieces: int
    folder: str
    positions: int = 8192

    @property
    def head_width(self) -> int:
        """The size of one head; the first half of it is rotated by the position."""
        return self.width // self.heads

    @property
    def fused_width(self) -> int:
        """The size of a token's queries, keys and values together."""
        return (self.heads + 2 * self.groups) * self.head_width


CHATGLM_CARDS = {
    card.name: card
    for card in (
        ChatGLMCard("chatglm2.nano", 128, 5, 4, 2, 344, 4608, 4600, "chatglm2-nano", positions=512),
        ChatGLMCard("chatglm2.6b", 4096, 28, 32, 2, 13696, 65024, 64789, "chatglm2-6b"),
    )
}


def chatglm_shapes(card: ChatGLMCard) -> dict[str, tuple[int, ...]]:
    """Returns ``{name: shape}`` of every array of a ChatGLM2, under the published names; weights are ``(out, in)``."""
    shapes: dict[str, tuple[int, ...]] = {
        "transformer.embedding.word_embeddings.weight": (card.vocabulary, card.width)}
    for layer in range(card.layers):
        block = f"{LAYER}{layer}."
        shapes[block + "input_layernorm.weight"] = (card.width,)
        shapes[f"{block}{QUERY_KEY_VALUE}.weight"] = (card.fused_width, card.width)
        shapes[f"{block}{QUERY_KEY_VALUE}.bias"] = (card.fused_width,)
        shapes[block + "self_attention.dense.weight"] = (card.width, card.width)
        shapes[block + "post_attention_layernorm.weight"] = (card.width,)
        shapes[block + "mlp.dense_h_to_4h.weight"] = (2 * card.inner_width, card.width)
        shapes[block + "mlp.dense_4h_to_h.weight"] = (card.width, card.inner_width)
    shapes["transformer.encoder.final_layernorm.weight"] = (card.width,)
    shapes["transformer.output_layer.weight"] = (card.vocabulary, card.width)
    return shapes


def chatglm_lora_shapes(card: ChatGLMCard, rank: int) -> dict[str, tuple[int, int]]:
    """Returns ``{name: shape}`` of every LoRA array: ``lora_A (rank, in)`` and ``lora_B (out, rank)`` of each layer's
    queries, keys and values, one update for the three of them."""
    shapes = {}
    for layer in range(card.layers):
        name = f"{LAYER}{layer}.{QUERY_KEY_VALUE}."
        shapes[name + "lora_A"] = (rank, card.width)
        shapes[name + "lora_B"] = (card.fused_width, rank)
    return shapes


def initial_chatglm_lora(card: ChatGLMCard, rank: int, seed: int) -> dict[str, np.ndarray]:
    """Returns the initial values ``{name: float32 array}``: A uniform within ``1 / sqrt(fan_in)``, B zero.

    Source: He et al. (2015), section 2.2, equation 14, with a slope of sqrt(5), as loralib and peft have it.
    """
    generator = np.random.RandomState(seed)
    arrays = {}
    for name, shape in chatglm_lora_shapes(card, rank).items():
        bound = 1.0 / math.sqrt(shape[1])
        arrays[name] = (generator.uniform(-bound, bound, shape).astype(np.float32) if name.endswith("lora_A")
                        else np.zeros(shape, np.float32))
    return arrays


def random_chatglm(card: ChatGLMCard) -> Iterator[tuple[str, np.ndarray]]:
    """Yields ``(name, float32 array)`` of random weights, the same at every call, AHEAD arrays at a time in memory.

    Weights are normal with standard deviation 0.02, those that end a residual branch divided by the square root of the
    number of branches; biases are 0 and gains 1 (Radford et al. 2019, section 2.3).
    """
    def drawn(index, name, shape):
        if name.endswith("bias"):
            return np.zeros(shape, np.float32)
        if "layernorm" in name:
            return np.ones(shape, np.float32)
        ends_branch = name.endswith(("attention.dense.weight", "dense_4h_to_h.weight"))
        array = np.random.default_rng((SEED, index)).standard_normal(shape, np.float32)
        array *= np.float32(0.02 / (math.sqrt(2 * card.layers) if ends_branch else 1.0))
        return array

    shapes = list(chatglm_shapes(card).items())
    # numpy draws without Python's lock: the 6e9 numbers of the published size take over a minute in one thread.
    with ThreadPoolExecutor(AHEAD) as pool:
        pending = deque()
        for index, (name, shape) in enumerate(shapes):
            pending.append((name, pool.submit(drawn, index, name, shape)))
            if len(pending) == AHEAD:
                name, array = pending.popleft()
                yield name, array.result()
        for name, array in pending:
            yield name, array.result()
