"""GPT-2 with LoRA: training on the positions that carry a loss, decoding with one shared cache per context.

Hidden states are ``(count, width)``, those of all tokens of a common.run.batching.Packed; attention alone sees padded
sequences, ``(batch, heads, length, head_width)``. In decoding, ``rows`` is contexts times beam, the beam of one context
on consecutive rows.
"""

import math

import jittor as jt
from jittor import nn

import device
import kernels
from lora import LoadedModule, MergedLinear, number_layers


def pad(x, packed):
    """``(count, width)`` to ``(batch, length, width)``, a sequence in each row and behind its end what comes next."""
    indices = packed.offsets[:-1].unsqueeze(1) + device.arange(packed.length).unsqueeze(0)
    return x[jt.clamp(indices, max_v=x.shape[0] - 1)]


def split_heads(fused, heads):
    """``(batch, seq, 3 * width)`` to queries, keys and values, each ``(batch, heads, seq, head_width)``."""
    batch, length, width = fused.shape
    parts = fused.reshape(batch, length, 3, heads, width // 3 // heads)
    return [parts[:, :, part].permute(0, 2, 1, 3) for part in range(3)]


def merge_heads(x):
    """``(batch, heads, seq, head_width)`` to ``(batch, seq, width)``."""
    batch, heads, length, head_width = x.shape
    return x.permute(0, 2, 1, 3).reshape(batch, length, heads * head_width)


class LayerNorm(nn.Module):
    """Layer normalisation over the last axis, variance in two passes."""

    def __init__(self, width, eps=1e-5):
        super().__init__()
        self.eps = eps
        self.weight = jt.ones((width,))
        self.bias = jt.zeros((width,))

    def execute(self, x):
        return kernels.layer_norm(x, self.weight, self.bias, self.eps)


class Attention(nn.Module):
    """Masked self-attention; LoRA on the fused query-key-value projection and on the output where enabled."""

    def __init__(self, card, lora):
        super().__init__()
        self.heads = card.heads
        self.c_attn = MergedLinear(card.width, 3 * card.width, **lora("q", "k", "v"))
        self.c_proj = MergedLinear(card.width, card.width, **lora("o"))

    def execute(self, x, packed):
        """Returns the output ``(count, width)`` and the fused queries, keys and values ``(count, 3 * width)``."""
        fused = self.c_attn(x, packed)
        return self.c_proj(kernels.causal_attention(fused, self.heads, packed), packed), fused

    def decode(self, x, prompt, generated, prompt_mask):
        """One token of every hypothesis.

        Args:
            x: ``(rows, 1, width)``.
            prompt: keys and values of the contexts, each ``(contexts, heads, prompt_length, head_width)``.
            generated: keys and values of the tokens generated so far, each ``(rows, heads, room, head_width)``, and
                the index of this token, which is written; positions behind it are free.
            prompt_mask: ``(contexts, 1, 1, prompt_length)``, 0 or MASKED where a context is shorter.

        Returns:
            The output ``(rows, 1, width)`` and ``generated``.
        """
        query, last_key, last_value = split_heads(self.c_attn(x), self.heads)
        key, value, step = generated
        key[:, :, step:step + 1], value[:, :, step:step + 1] = last_key, last_value
        rows, heads, room, head_width = key.shape
        contexts, _, prompt_length, _ = prompt[0].shape
        beam = rows // contexts
        by_context = query.reshape(contexts, beam, heads, head_width).permute(0, 2, 1, 3)
        prompt_scores = kernels.matmul_transposed(by_context, prompt[0]) + prompt_mask
        prompt_scores = prompt_scores.permute(0, 2, 1, 3).reshape(rows, heads, 1, prompt_length)
        generated_scores = kernels.matmul_transposed(query, key) + kernels.free_positions_mask(step, room)
        scores = jt.concat([prompt_scores, generated_scores], dim=3) * device.number(1.0 / math.sqrt(head_width))
        weights = kernels.softmax(scores, value.dtype)
        prompt_weights = weights[:, :, :, :prompt_length].reshape(contexts, beam, heads, prompt_length)
        from_prompt = (prompt_weights.permute(0, 2, 1, 3) @ prompt[1]).permute(0, 2, 1, 3)
        from_generated = weights[:, :, :, prompt_length:] @ value
        output = from_prompt.reshape(rows, heads, 1, head_width) + from_generated
        return self.c_proj(merge_heads(output)), (key, value, step)


class MLP(nn.Module):
    """The feed-forward half of a block."""

    def __init__(self, card, lora):
        super().__init__()
        self.c_fc = MergedLinear(card.width, 4 * card.width, **lora("fc"))
        self.c_proj = MergedLinear(4 * card.width, card.width, **lora("proj"))

    def execute(self, x, packed=None):
        return self.c_proj(kernels.gelu(self.c_fc(x, packed)), packed)


class Block(nn.Module):
    """One pre-norm transformer block (Radford et al. 2019, section 2.3)."""

    def __init__(self, card, lora):
        super().__init__()
        self.ln_1 = LayerNorm(card.width)
        self.attn = Attention(card, lora)
        self.ln_2 = LayerNorm(card.width)
        self.mlp = MLP(card, lora)

    def execute(self, x, packed):
        attended, fused = self.attn(self.ln_1(x), packed)
        x = x + attended
        return x + self.mlp(self.ln_2(x), packed), fused

    def decode(self, x, prompt, generated, prompt_mask):
        attended, key_value = self.attn.decode(self.ln_1(x), prompt, generated, prompt_mask)
        x = x + attended
        return x + self.mlp(self.ln_2(x)), key_value


class GPT2(nn.Module):
    """The transformer without its output layer."""

    def __init__(self, card, lora):
        super().__init__()
        self.wte = Embedding(card.vocabulary, card.width)
        self.wpe = Embedding(card.positions, card.width)
        self.heads = card.heads
        self.h = nn.ModuleList([Block(card, lora) for _ in range(card.layers)])
        self.ln_f = LayerNorm(card.width)

    def execute(self, packed):
        """Returns the hidden states ``(count, width)`` of a Packed and each layer's queries, keys and values."""
        x = self.wte(packed.input_ids) + self.wpe(packed.position_ids)
        layers = []
        for block in self.h:
            x, fused = block(x, packed)
            layers.append(fused)
        return self.ln_f(x), layers

    def split(self, fused):
        """As split_heads."""
        return split_heads(fused, self.heads)

    def decode(self, tokens, positions, prompt, generated, prompt_mask):
        """One token of every hypothesis: ``(rows,)`` ids and positions to ``(rows, width)`` and the new cache."""
        x = (self.wte(tokens) + self.wpe(positions)).unsqueeze(1)
        cache = []
        for layer, block in enumerate(self.h):
            x, key_value = block.decode(x, prompt[layer], generated[layer], prompt_mask)
            cache.append(key_value)
        return self.ln_f(x).squeeze(1), cache


class Embedding(nn.Module):
    """A table of ``(count, width)`` vectors."""

    def __init__(self, count, width):
        super().__init__()
        self.weight = kernels.embedding_weight(count, width)

    def execute(self, indices):
        return kernels.embedding(indices, self.weight)


class LanguageModel(LoadedModule):
    """What a decoder does with its ``transformer`` and its output layer, whose weight ``output_weight`` tells."""

    def logits(self, hidden):
        """``(count, width)`` hidden states to ``(count, vocabulary)`` logits, float32."""
        return kernels.logits(hidden, self.output_weight())

    def loss(self, batch, label_smoothing):
        """The sum over the positions that carry a loss of weight times label-smoothed cross-entropy,
        ``(1 - e) * nll + e * mean over vocabulary of -log p`` (Szegedy et al. 2016, section 7).

        Args:
            batch: Batch of arrays on the device.
            label_smoothing: e.
        """
        hidden, _ = self.transformer(batch)
        chosen = kernels.take_rows(hidden, batch.loss_positions)
        per_token = kernels.token_losses(chosen, self.output_weight(), batch.loss_targets, label_smoothing)
        return (per_token * batch.loss_weights).sum()

    def prompt(self, packed, lengths):
        """Reads the contexts.

        Args:
            packed: Packed of arrays on the device.
            lengths: ``(contexts,)`` the number of tokens in each.

        Returns:
            Logits ``(contexts, vocabulary)`` behind each context's last token, the cache, and the additive mask
            ``(contexts, 1, 1, prompt_length)`` over it.
        """
        hidden, fused = self.transformer(packed)
        cache = [self.transformer.split(pad(each, packed))[1:] for each in fused]
        contexts, length = len(lengths), packed.length
        last = hidden[packed.offsets[1:] - 1]
        is_padding = device.arange(length).unsqueeze(0) >= lengths.unsqueeze(1)
        return self.logits(last), cache, (is_padding.float() * kernels.MASKED).reshape(contexts, 1, 1, length)

    def decode(self, tokens, positions, prompt, generated, prompt_mask):
        """One step of every hypothesis: logits ``(rows, vocabulary)`` and the generated tokens' new cache."""
        hidden, generated = self.transformer.decode(tokens, positions, prompt, generated, prompt_mask)
        return self.logits(hidden), generated


class GPT2LMModel(LanguageModel):
    """GPT-2 with the output embedding tied to the input's.

    Args:
        card: ModelCard.
        lora: LoraSettings, or None for the plain model.
    """

    def __init__(self, card, lora=None):
        super().__init__()
        self.transformer = GPT2(card, lora.layer_arguments if lora else lambda *targets: {})
        number_layers(self)

    def output_weight(self):
        """Returns the output layer's weight ``(vocabulary, width)``."""
        return self.transformer.wte.weight
