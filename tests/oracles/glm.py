"""Writes glm.npz beside it: what a small ChatGLM2 with LoRA must compute, by other people's code in float64.

    .venv_pytorch/bin/python -m tests.oracles.glm

The model is transformers' GlmForCausalLM, which computes the same under other names; LoRA is peft's. Both trees are
compared with this file, each in its own environment; a test makes the numbers again and compares.
"""

import io
from pathlib import Path

import numpy as np

from common.files import atomic_write
from tests.trees.small_chatglm import CARD, LORA, ROWS, SEQUENCES, backbone, lora_arrays

PATH = Path(__file__).resolve().parent / "glm.npz"
NAMES = {"input_layernorm": "input_layernorm", "self_attention.dense": "self_attn.o_proj",
         "post_attention_layernorm": "post_attention_layernorm", "mlp.dense_h_to_4h": "mlp.gate_up_proj",
         "mlp.dense_4h_to_h": "mlp.down_proj", "transformer.embedding.word_embeddings": "model.embed_tokens",
         "transformer.encoder.final_layernorm": "model.norm", "transformer.output_layer": "lm_head"}


def glm_model(card, arrays):
    """Returns the GlmForCausalLM, float64, with a ChatGLM2's arrays ``{published name: array}``."""
    import torch
    from transformers import GlmConfig, GlmForCausalLM

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
    for name, rows in zip("qkv", np.split(array, ends(card))):
        yield f"model.layers.{layer}.self_attn.{name}_proj.{kind}", rows


def ends(card):
    """Returns where queries and keys end among the rows of the fused projection."""
    return [card.heads * card.head_width, (card.heads + card.groups) * card.head_width]


def logits():
    """Returns the logits of SEQUENCES one after another, ``(count, vocabulary)``."""
    import torch

    model = glm_model(CARD, backbone())
    with torch.no_grad():
        return np.concatenate([model(torch.tensor([each])).logits[0].numpy() for each in SEQUENCES])


def loss_and_gradients():
    """Returns the loss of ROWS, the mean over their targets, and its gradients ``{name of a LoRA array: array}``.

    peft updates queries, keys and values each by itself: with one A and the parts of one B it computes the same.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(glm_model(CARD, backbone()), LoraConfig(
        r=LORA.rank, lora_alpha=LORA.alpha, lora_dropout=0.0, target_modules=["q_proj", "k_proj", "v_proj"]))
    arrays, layers = lora_arrays(), [layer.self_attn for layer in model.base_model.model.model.layers]
    names = [f"transformer.encoder.layers.{number}.self_attention.query_key_value." for number in range(CARD.layers)]
    projections = [(layer.q_proj, layer.k_proj, layer.v_proj) for layer in layers]
    for name, of_layer in zip(names, projections):
        for projection, part in zip(of_layer, np.split(arrays[name + "lora_B"], ends(CARD))):
            projection.lora_A.default.weight.data = torch.from_numpy(arrays[name + "lora_A"].astype(np.float64))
            projection.lora_B.default.weight.data = torch.from_numpy(part.astype(np.float64))
    losses = []
    for row in ROWS:
        ids = torch.tensor(row.context + row.completion)
        logs = model(ids[None]).logits[0].log_softmax(1)
        losses.append(-logs[range(len(row.context) - 1, len(ids) - 1), ids[len(row.context):]])
    loss = torch.cat(losses).mean()
    loss.backward()
    gradients = {}
    for name, of_layer in zip(names, projections):
        gradients[name + "lora_A"] = sum(each.lora_A.default.weight.grad for each in of_layer).numpy()
        gradients[name + "lora_B"] = torch.cat([each.lora_B.default.weight.grad for each in of_layer]).numpy()
    return loss.item(), gradients


def compute():
    """Returns all of the file's arrays by name."""
    loss, gradients = loss_and_gradients()
    return {"logits": logits(), "loss": np.array(loss),
            **{f"gradients/{name}": array for name, array in gradients.items()}}


if __name__ == "__main__":
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **compute())
    with atomic_write(PATH, "wb") as file:
        file.write(buffer.getvalue())
