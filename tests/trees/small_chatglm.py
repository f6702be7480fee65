"""A small ChatGLM2 with random weights in the tree under test."""

import numpy as np

from common.model.chatglm_cards import ChatGLMCard, chatglm_lora_shapes, chatglm_shapes
from common.model.chatglm_weights import ChatGLMLora

CARD = ChatGLMCard("chatglm2.test", 64, 3, 4, 2, 96, 112, 100, "chatglm2-test", positions=128)
LORA = ChatGLMLora(4, 8.0)


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


def model_of(arrays, settings=None):
    """Returns the model with these arrays, LoRA's alone trainable."""
    import device
    from chatglm2 import ChatGLM2
    from lora import mark_only_lora_as_trainable

    model = ChatGLM2(CARD, settings)
    model.load_stream(arrays.items())
    mark_only_lora_as_trainable(model)
    return device.to_device(model)
