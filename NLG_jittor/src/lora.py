"""LoRA layers with loralib's names: linear layers, ``mark_only_lora_as_trainable`` and ``lora_state_dict``."""

import jittor as jt
from jittor import nn

from common.run.dropout import Dropout

import chatglm_kernels
import kernels


class MergedLinear(nn.Module):
    """A linear layer whose output is several projections side by side, some of them with a low-rank update.

    Computes ``x @ W + b + scaling * dropout(x) @ A.T @ B.T`` (Hu et al. 2021, section 4.1, equation 3) with ``A`` and
    ``B`` of every enabled projection stacked: rows ``i*r .. (i+1)*r`` of ``lora_A`` and rows
    ``i*width .. (i+1)*width`` of ``lora_B`` belong to the i-th enabled one. The weight is stored ``(in, out)``, as
    GPT-2 stores it.

    Args:
        in_features: size of the last axis of the input.
        out_features: size of the last axis of the output, a multiple of ``len(enable_lora)``.
        r: rank of each update; 0 leaves the plain layer.
        lora_alpha: the update is scaled by ``lora_alpha / r``.
        lora_dropout: share of the inputs of the update that are dropped in training.
        enable_lora: one bool for each projection.

    Attributes:
        stream: number of the layer among the model's, which decides its dropout; see number_layers.
    """

    def __init__(self, in_features, out_features, r=0, lora_alpha=1, lora_dropout=0.0, enable_lora=(False,)):
        super().__init__()
        self.weight = kernels.frozen_weight(in_features, out_features)
        self.bias = kernels.frozen_weight(out_features)
        self.r = r if any(enable_lora) else 0
        self.lora_dropout, self.stream = lora_dropout, 0
        self.enable_lora = tuple(enable_lora)
        if self.r > 0:
            enabled = sum(enable_lora)
            self.scaling = lora_alpha / r
            self.lora_A = jt.zeros((enabled * r, in_features))
            self.lora_B = jt.zeros((enabled * (out_features // len(enable_lora)), r))

    def execute(self, x, batch=None):
        """``(..., in_features)`` to ``(..., out_features)``; dropout needs the Batch whose tokens ``x`` holds."""
        if self.r == 0:
            return kernels.linear(x, self.weight, self.bias)
        dropout = None
        if self.is_training() and self.lora_dropout > 0:
            dropout = Dropout(self.lora_dropout, self.stream, batch.step_key, batch.token_keys)
        return kernels.lora_linear(x, self.weight, self.bias, self.lora_A, self.lora_B, self.enable_lora, self.scaling,
                                   dropout)


class Linear(nn.Module):
    """A linear layer with one low-rank update of its whole output, or without.

    Computes ``x @ W.T + b + scaling * dropout(x) @ A.T @ B.T``. The weight is stored ``(out, in)``, as ChatGLM2's is.

    Args:
        in_features, out_features, r, lora_alpha, lora_dropout: as in MergedLinear.
        bias: whether there is a bias.

    Attributes:
        stream: as in MergedLinear.
    """

    def __init__(self, in_features, out_features, r=0, lora_alpha=1, lora_dropout=0.0, bias=False):
        super().__init__()
        self.weight = chatglm_kernels.weight(out_features, in_features)
        self.bias = chatglm_kernels.weight(out_features) if bias else None
        self.r, self.lora_dropout, self.stream = r, lora_dropout, 0
        if r > 0:
            self.scaling = lora_alpha / r
            self.lora_A = jt.zeros((r, in_features))
            self.lora_B = jt.zeros((out_features, r))

    def execute(self, x, batch=None):
        """``(count, in_features)`` to ``(count, out_features)``; dropout needs the Batch whose tokens ``x`` holds."""
        if self.r == 0:
            return chatglm_kernels.linear(x, self.weight, self.bias)
        dropout = None
        if self.is_training() and self.lora_dropout > 0:
            dropout = Dropout(self.lora_dropout, self.stream, batch.step_key, batch.token_keys)
        return chatglm_kernels.lora_linear(x, self.weight, self.bias, self.lora_A, self.lora_B, self.scaling, dropout)


def number_layers(model):
    """Gives each layer of a model that can have an update its own dropout, whether it has one or not."""
    layers = (module for module in model.modules() if isinstance(module, (MergedLinear, Linear)))
    for stream, layer in enumerate(layers):
        layer.stream = stream


def mark_only_lora_as_trainable(model):
    """Freezes every parameter whose name has no ``lora_`` in it."""
    for name, parameter in model.named_parameters():
        if "lora_" not in name:
            parameter.stop_grad()


def lora_state_dict(model):
    """Returns ``{name: float32 numpy array}`` of the LoRA parameters alone."""
    return {name: parameter.numpy().copy() for name, parameter in model.named_parameters()
            if "lora_" in name}
