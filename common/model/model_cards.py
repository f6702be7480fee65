"""The sizes of GPT-2 that the programs know, by the name that ``--model_card`` takes."""

from dataclasses import dataclass

from common.vocabulary import VOCABULARY_SIZE


@dataclass(frozen=True)
class ModelCard:
    """Sizes of one GPT-2.

    Attributes:
        name: what ``--model_card`` takes.
        width: size of a hidden state (``n_embd``).
        layers: number of blocks (``n_layer``).
        heads: attention heads per block (``n_head``); each is ``width // heads`` wide.
        folder: its folder under ``pretrained_checkpoints/``.
        positions: longest sequence (``n_positions``).
        vocabulary: number of tokens.
    """

    name: str
    width: int
    layers: int
    heads: int
    folder: str
    positions: int = 1024
    vocabulary: int = VOCABULARY_SIZE

    def backbone_shapes(self) -> dict[str, tuple[int, ...]]:
        """Returns ``{name: shape}`` of every array of the backbone; see the function of this name."""
        width = self.width
        shapes: dict[str, tuple[int, ...]] = {
            "transformer.wte.weight": (self.vocabulary, width),
            "transformer.wpe.weight": (self.positions, width),
        }
        for layer in range(self.layers):
            block = f"transformer.h.{layer}."
            for name, fan_in, fan_out in (("attn.c_attn", width, 3 * width), ("attn.c_proj", width, width),
                                          ("mlp.c_fc", width, 4 * width), ("mlp.c_proj", 4 * width, width)):
                shapes[f"{block}{name}.weight"] = (fan_in, fan_out)
                shapes[f"{block}{name}.bias"] = (fan_out,)
            for name in ("ln_1", "ln_2"):
                shapes[f"{block}{name}.weight"] = (width,)
                shapes[f"{block}{name}.bias"] = (width,)
        shapes["transformer.ln_f.weight"] = (width,)
        shapes["transformer.ln_f.bias"] = (width,)
        return shapes

    def projections(self) -> dict[str, tuple[str, int, int]]:
        """Returns every projection that can have an update, in the order of their dropout's streams.

        Returns:
            ``{prefix: (key, fan_in, fan_out)}``: the beginning of its arrays' names, its key in
            ``lora_arrays.PROJECTIONS``, and the widths of its input and of one target's output.
        """
        width = self.width
        return {f"transformer.h.{layer}.{key}.": (key, fan_in, fan_out) for layer in range(self.layers)
                for key, fan_in, fan_out in (("attn.c_attn", width, width), ("attn.c_proj", width, width),
                                             ("mlp.c_fc", width, 4 * width), ("mlp.c_proj", 4 * width, width))}


MODEL_CARDS = {
    card.name: card
    for card in (
        ModelCard("gpt2.nano", 192, 8, 3, "gpt2-nano", positions=512),
        ModelCard("gpt2.sm", 768, 12, 12, "gpt2"),
        ModelCard("gpt2.md", 1024, 24, 16, "gpt2-medium"),
        ModelCard("gpt2.lg", 1280, 36, 20, "gpt2-large"),
        ModelCard("gpt2.xl", 1600, 48, 25, "gpt2-xl"),
    )
}


def backbone_shapes(card: ModelCard) -> dict[str, tuple[int, ...]]:
    """Returns ``{name: shape}`` of every array of a backbone, a GPT-2's in Hugging Face's names and layout.

    Projections are stored ``(in, out)``; GPT-2's output embedding is tied to ``transformer.wte.weight`` and has no
    entry.
    """
    return card.backbone_shapes()
