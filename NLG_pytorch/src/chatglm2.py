"""ChatGLM2 with LoRA on its queries, keys and values: training on packed rows, decoding with one cache per context.

Shapes are those of model.py. Query heads come in groups; the heads of a group share one head of keys and of values, so
caches are ``(batch, groups, length, head_width)``.
"""

import math

import torch
from torch import nn

from common.model.lora_file import is_lora

import chatglm_kernels
import device
import kernels
from lora import Linear, number_layers
from model import Embedding, LanguageModel


class RMSNorm(nn.Module):
    """Root mean square normalisation over the last axis, eps 1e-5."""

    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return chatglm_kernels.rms_norm(x, self.weight)


class SelfAttention(nn.Module):
    """Causal self-attention with rotary positions; LoRA on the fused projection of queries, keys and values."""

    def __init__(self, card, lora):
        super().__init__()
        self.heads, self.groups, self.head_width = card.heads, card.groups, card.head_width
        self.query_key_value = Linear(card.width, card.fused_width, bias=True, **lora)
        self.dense = Linear(card.width, card.width)

    def rotated(self, x, turns, batch=None):
        """Returns the fused queries, keys and values ``(count, fused_width)``, those with a position rotated by it."""
        fused = self.query_key_value(x, batch)
        return chatglm_kernels.rotate(fused, turns, self.heads + self.groups, self.head_width)

    def forward(self, x, turns, batch):
        """Returns the output ``(count, width)`` and what ``rotated`` returns."""
        fused = self.rotated(x, turns, batch)
        return self.dense(chatglm_kernels.grouped_attention(fused, self.heads, self.groups, batch)), fused

    def split(self, fused):
        """``(batch, seq, fused_width)`` to queries ``(batch, groups, seq * heads of a group, head_width)`` and to keys
        and values, each ``(batch, groups, seq, head_width)``."""
        batch, length, _ = fused.shape
        parts = fused.reshape(batch, length, self.heads + 2 * self.groups, self.head_width)
        query = parts[:, :, :self.heads].reshape(batch, length, self.groups, -1, self.head_width)
        query = query.permute(0, 2, 1, 3, 4).reshape(batch, self.groups, -1, self.head_width)
        key, value = (parts[:, :, start:start + self.groups].permute(0, 2, 1, 3)
                      for start in (self.heads, self.heads + self.groups))
        return query, key, value

    def decode(self, x, turns, prompt, generated, prompt_mask):
        """One token of every hypothesis; as model.Attention.decode, with ``x (rows, width)``."""
        query, last_key, last_value = self.split(self.rotated(x, turns).unsqueeze(1))
        key, value, step = generated
        key[:, :, step:step + 1], value[:, :, step:step + 1] = last_key, last_value
        rows, groups, room, head_width = key.shape
        contexts, _, prompt_length, _ = prompt[0].shape
        beam, shared = rows // contexts, self.heads // groups

        def by_context(x):
            x = x.reshape(contexts, beam, groups, shared, -1).permute(0, 2, 1, 3, 4)
            return x.reshape(contexts, groups, beam * shared, -1)

        def by_row(x):
            x = x.reshape(contexts, groups, beam, shared, -1).permute(0, 2, 1, 3, 4)
            return x.reshape(rows, groups, shared, -1)

        prompt_scores = by_row(kernels.matmul_transposed(by_context(query), prompt[0]) + prompt_mask)
        generated_scores = kernels.matmul_transposed(query, key) + kernels.free_positions_mask(step, room)
        scores = torch.cat([prompt_scores, generated_scores], dim=3) * (1.0 / math.sqrt(head_width))
        weights = kernels.softmax(scores, value.dtype)
        from_prompt = by_row(by_context(weights[:, :, :, :prompt_length]) @ prompt[1])
        output = from_prompt + weights[:, :, :, prompt_length:] @ value
        return self.dense(output.reshape(rows, -1)), (key, value, step)


class MLP(nn.Module):
    """The gated feed-forward half of a block."""

    def __init__(self, card):
        super().__init__()
        self.dense_h_to_4h = Linear(card.width, 2 * card.inner_width)
        self.dense_4h_to_h = Linear(card.inner_width, card.width)

    def forward(self, x):
        return self.dense_4h_to_h(chatglm_kernels.swiglu(self.dense_h_to_4h(x)))


class Block(nn.Module):
    """One pre-norm transformer block (Du et al. 2022, section 2.1, with the norm before each half)."""

    def __init__(self, card, lora):
        super().__init__()
        self.input_layernorm = RMSNorm(card.width)
        self.self_attention = SelfAttention(card, lora)
        self.post_attention_layernorm = RMSNorm(card.width)
        self.mlp = MLP(card)

    def forward(self, x, turns, batch):
        attended, fused = self.self_attention(self.input_layernorm(x), turns, batch)
        x = x + attended
        return x + self.mlp(self.post_attention_layernorm(x)), fused

    def decode(self, x, turns, prompt, generated, prompt_mask):
        attended, key_value = self.self_attention.decode(self.input_layernorm(x), turns, prompt, generated, prompt_mask)
        x = x + attended
        return x + self.mlp(self.post_attention_layernorm(x)), key_value


class WordEmbeddings(nn.Module):
    """The input embedding, under its published name."""

    def __init__(self, card):
        super().__init__()
        self.word_embeddings = Embedding(card.vocabulary, card.width)

    def forward(self, indices):
        return self.word_embeddings(indices)


class Encoder(nn.Module):
    """The blocks and the norm behind them."""

    def __init__(self, card, lora):
        super().__init__()
        self.layers = nn.ModuleList([Block(card, lora) for _ in range(card.layers)])
        self.final_layernorm = RMSNorm(card.width)


class Transformer(nn.Module):
    """The model under its published names."""

    def __init__(self, card, lora):
        super().__init__()
        self.positions, self.head_width = card.positions, card.head_width
        self.embedding = WordEmbeddings(card)
        self.encoder = Encoder(card, lora)
        self.output_layer = Linear(card.width, card.vocabulary)

    def turns(self, positions):
        """``(count,)`` positions to what rotates their tokens, ``(count, head_width / 2)``."""
        return kernels.take_rows(chatglm_kernels.rotary_table(self.positions, self.head_width), positions)

    def forward(self, packed):
        """Returns the hidden states ``(count, width)`` of a Packed and, but in training, each layer's fused queries,
        keys and values."""
        x, turns, layers = self.embedding(packed.input_ids), self.turns(packed.position_ids), []
        for block in self.encoder.layers:
            x, fused = block(x, turns, packed)
            if not self.training:  # where they would only take memory
                layers.append(fused)
        return self.encoder.final_layernorm(x), layers

    def split(self, fused):
        """As SelfAttention.split."""
        return self.encoder.layers[0].self_attention.split(fused)

    def decode(self, tokens, positions, prompt, generated, prompt_mask):
        """One token of every hypothesis: ``(rows,)`` ids and positions to ``(rows, width)`` and the new cache."""
        x, turns, cache = self.embedding(tokens), self.turns(positions), []
        for layer, block in enumerate(self.encoder.layers):
            x, key_value = block.decode(x, turns, prompt[layer], generated[layer], prompt_mask)
            cache.append(key_value)
        return self.encoder.final_layernorm(x), cache


class ChatGLM2(LanguageModel):
    """ChatGLM2 with an output layer of its own.

    Args:
        card: ChatGLMCard.
        lora: ChatGLMLora, or None for the plain model.
    """

    def __init__(self, card, lora=None):
        super().__init__()
        arguments = {"r": lora.rank, "lora_alpha": lora.alpha, "lora_dropout": lora.dropout} if lora else {}
        self.transformer = Transformer(card, arguments)
        number_layers(self)

    def output_weight(self):
        """Returns the output layer's weight ``(vocabulary, width)``."""
        return self.transformer.output_layer.weight

    def load_stream(self, arrays):
        """Copies pairs of a name and a numpy array, one by one, so that no second copy of all weights is made."""
        parameters = dict(self.named_parameters())
        for name, array in arrays:
            kernels.store(parameters[name], array, is_frozen=not is_lora(name))
            device.synchronise()  # the array is gone before the next one comes
