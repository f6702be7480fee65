"""ChatGLM2's arrays in transformers' GlmForCausalLM, which computes the same."""

import numpy as np
import torch
from transformers import GlmConfig, GlmForCausalLM

NAMES = {"input_layernorm": "input_layernorm", "self_attention.dense": "self_attn.o_proj",
         "post_attention_layernorm": "post_attention_layernorm", "mlp.dense_h_to_4h": "mlp.gate_up_proj",
         "mlp.dense_4h_to_h": "mlp.down_proj", "transformer.embedding.word_embeddings": "model.embed_tokens",
         "transformer.encoder.final_layernorm": "model.norm", "transformer.output_layer": "lm_head"}


def glm_model(card, arrays):
    """Returns the GlmForCausalLM, float64, with a ChatGLM2's arrays ``{published name: array}``."""
    config = GlmConfig(vocab_size=card.vocabulary, hidden_size=card.width, intermediate_size=card.inner_width,
                       num_hidden_layers=card.layers, num_attention_heads=card.heads, num_key_value_heads=card.groups,
                       head_dim=card.head_width, attention_bias=True, partial_rotary_factor=0.5, rms_norm_eps=1e-5,
                       tie_word_embeddings=False, pad_token_id=0, max_position_embeddings=card.positions,
                       attn_implementation="eager")
    model = GlmForCausalLM(config).eval().double()
    model.load_state_dict({name: torch.from_numpy(array.astype(np.float64))
                           for published, array in arrays.items()
                           for name, array in renamed(card, published, array)})
    return model


def renamed(card, published, array):
    """Yields transformers' names of a published array, and their arrays: queries, keys and values are apart there."""
    module, _, kind = published.rpartition(".")
    if module in NAMES:
        yield f"{NAMES[module]}.{kind}", array
        return
    layer, _, part = module.removeprefix("transformer.encoder.layers.").partition(".")
    if part != "self_attention.query_key_value":
        yield f"model.layers.{layer}.{NAMES[part]}.{kind}", array
        return
    queries = card.heads * card.head_width
    for name, rows in zip("qkv", np.split(array, [queries, queries + card.groups * card.head_width])):
        yield f"model.layers.{layer}.self_attn.{name}_proj.{kind}", rows
