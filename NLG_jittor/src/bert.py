"""BERT with LoRA, and two heads that find where a span starts and ends.

Hidden states are ``(count, width)``, those of all tokens of a common.run.batching.Packed. Query, key and value are one
projection, as GPT-2's; common.model.bert_cards has the names of all arrays.
"""

from jittor import nn

from common.model.bert_cards import LAYER_NORM_EPS

import encoder_kernels
import kernels
from lora import HiddenDropout, LoadedModule, MergedLinear, number_layers
from model import Embedding, LayerNorm


class BertEmbeddings(nn.Module):
    """The sum of a token's three embeddings, normalised (Devlin et al. 2019, section 3)."""

    def __init__(self, card, dropout):
        super().__init__()
        self.word = Embedding(card.vocabulary, card.width)
        self.position = Embedding(card.positions, card.width)
        self.token_type = Embedding(card.token_types, card.width)
        self.norm = LayerNorm(card.width, LAYER_NORM_EPS)
        self.dropout = HiddenDropout(dropout)

    def execute(self, batch):
        x = self.word(batch.input_ids) + self.position(batch.position_ids) + self.token_type(batch.token_type_ids)
        return self.dropout(self.norm(x), batch)


class BertAttention(nn.Module):
    """Self-attention in both directions, its output added to its input and normalised."""

    def __init__(self, card, lora, dropout):
        super().__init__()
        self.heads = card.heads
        self.query_key_value = MergedLinear(card.width, 3 * card.width, **lora("query", "key", "value"))
        self.weights_dropout = HiddenDropout(dropout)
        self.output = MergedLinear(card.width, card.width, **lora("output"))
        self.dropout = HiddenDropout(dropout)
        self.norm = LayerNorm(card.width, LAYER_NORM_EPS)

    def execute(self, x, batch, layout):
        fused = self.query_key_value(x, batch)
        attended = encoder_kernels.self_attention(fused, self.heads, layout, self.weights_dropout.of(batch))
        return self.norm(x + self.dropout(self.output(attended, batch), batch))


class BertFeedForward(nn.Module):
    """The feed-forward half of a layer, its output added to its input and normalised."""

    def __init__(self, card, lora, dropout):
        super().__init__()
        self.intermediate = MergedLinear(card.width, 4 * card.width, **lora("intermediate"))
        self.output = MergedLinear(4 * card.width, card.width, **lora("layer_output"))
        self.dropout = HiddenDropout(dropout)
        self.norm = LayerNorm(card.width, LAYER_NORM_EPS)

    def execute(self, x, batch):
        hidden = self.output(encoder_kernels.gelu(self.intermediate(x, batch)), batch)
        return self.norm(x + self.dropout(hidden, batch))


class BertLayer(nn.Module):
    """One post-norm transformer layer (Vaswani et al. 2017, section 3.1)."""

    def __init__(self, card, lora, dropout):
        super().__init__()
        self.attention = BertAttention(card, lora, dropout)
        self.feed_forward = BertFeedForward(card, lora, dropout)

    def execute(self, x, batch, layout):
        return self.feed_forward(self.attention(x, batch, layout), batch)


class BertModel(nn.Module):
    """The transformer without a head."""

    def __init__(self, card, lora, dropout):
        super().__init__()
        self.embeddings = BertEmbeddings(card, dropout)
        self.layers = nn.ModuleList([BertLayer(card, lora, dropout) for _ in range(card.layers)])

    def execute(self, batch, layout):
        """Returns the hidden states ``(count, width)`` of a Packed of arrays on the device with ``token_type_ids``."""
        x = self.embeddings(batch)
        for layer in self.layers:
            x = layer(x, batch, layout)
        return x


class BertSpanModel(LoadedModule):
    """BERT with two heads, start and end, on dropped-out hidden states.

    Args:
        card: BertCard.
        lora: LoraSettings, or None for the plain model.
        backbone_dropout: probability on hidden states and on the weights of attention, in training.
        head_dropout: probability on the hidden states that the heads read, in training.
    """

    def __init__(self, card, lora=None, backbone_dropout=0.0, head_dropout=0.0):
        super().__init__()
        self.bert = BertModel(card, lora.layer_arguments if lora else lambda *targets: {}, backbone_dropout)
        self.dropout = HiddenDropout(head_dropout)
        self.heads = MergedLinear(card.width, 2)
        number_layers(self)

    def logits(self, batch, layout):
        """Returns ``(count, 2)``: how likely a span starts, and ends, at each token of a batch."""
        hidden = self.bert(batch, layout)
        return kernels.linear(self.dropout(hidden, batch), self.heads.weight, self.heads.bias)

    def loss(self, batch, label_smoothing):
        """The sum over the queries of weight times ``encoder_kernels.span_losses``.

        Args:
            batch: common.run.event_batches.QueryBatch of arrays on the device.
            label_smoothing: e.
        """
        layout = encoder_kernels.layout_of(batch)
        losses = encoder_kernels.span_losses(self.logits(batch, layout), batch.targets, layout, label_smoothing)
        return (losses * batch.loss_weights).sum()
