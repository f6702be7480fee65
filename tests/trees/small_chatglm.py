"""A small ChatGLM2 with random weights in the tree under test."""

import numpy as np

from common.model.chatglm_cards import ChatGLMCard, chatglm_lora_shapes, chatglm_shapes
from common.model.chatglm_weights import ChatGLMLora
from common.run.batching import Row

CARD = ChatGLMCard("chatglm2.test", 64, 3, 4, 2, 96, 112, 100, "chatglm2-test", positions=128)
LORA = ChatGLMLora(4, 8.0)
_draws = np.random.RandomState(3)
SEQUENCES = [_draws.randint(0, CARD.vocabulary, length).tolist() for length in (13, 1, 30)]
ROWS = [Row(_draws.randint(0, CARD.vocabulary, first).tolist(), _draws.randint(0, CARD.vocabulary, second).tolist())
        for first, second in ((6, 7), (15, 3), (4, 12), (9, 1))]


def random_arrays(shapes, seed):
    """Returns ``{name: float32 array}``, in which each array makes a difference."""
    generator = np.random.RandomState(seed)
    return {name: (generator.randn(*shape) * (0.1 if "layernorm" in name else 0.15)
                   + ("layernorm" in name)).astype(np.float32) for name, shape in shapes.items()}


def backbone():
    """Returns the arrays of the published names."""
    return random_arrays(chatglm_shapes(CARD), 1)


def lora_arrays(settings=LORA):
    """Returns LoRA's arrays, none of them zero."""
    return random_arrays(chatglm_lora_shapes(CARD, settings.rank), 2)


def model_of(settings=None, lora=None):
    """Returns the model with the backbone above and LoRA's arrays, which alone are trainable."""
    from chatglm2_ft import build_model

    return build_model(CARD, settings, backbone().items(), lora or {})
