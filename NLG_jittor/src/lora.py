"""LoRA layers with loralib's names, ``MergedLinear``, ``Linear``; dropout; which weights are trained."""

import jittor as jt
from jittor import nn

from common.model.lora_file import is_lora
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
        return kernels.lora_linear(x, self.weight, self.bias, self.lora_A, self.lora_B, self.enable_lora, self.scaling,
                                   dropout_of(self, self.lora_dropout, batch))


class HiddenDropout(nn.Module):
    """Dropout of a model's own, on hidden states or on weights of attention.

    Args:
        probability: share of the elements that are dropped in training.

    Attributes:
        stream: as in MergedLinear.
    """

    def __init__(self, probability):
        super().__init__()
        self.probability, self.stream = probability, 0

    def execute(self, x, batch):
        """``(count, width)`` to the same; needs the Batch whose tokens ``x`` holds."""
        return kernels.dropped_out(x, self.of(batch))

    def of(self, batch):
        """Returns the Dropout for a Batch, or None where nothing is dropped."""
        return dropout_of(self, self.probability, batch)


def dropout_of(layer, probability, batch):
    """Returns the Dropout of a layer for a Batch, or None where nothing is dropped."""
    if not layer.is_training() or probability == 0:
        return None
    return Dropout(probability, layer.stream, batch.step_key, batch.token_keys)


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
            self.lora_A = chatglm_kernels.lora_weight(r, in_features)
            self.lora_B = chatglm_kernels.lora_weight(out_features, r)

    def execute(self, x, batch=None):
        """``(count, in_features)`` to ``(count, out_features)``; dropout needs the Batch whose tokens ``x`` holds."""
        if self.r == 0:
            return chatglm_kernels.linear(x, self.weight, self.bias)
        return chatglm_kernels.lora_linear(x, self.weight, self.bias, self.lora_A, self.lora_B, self.scaling,
                                           dropout_of(self, self.lora_dropout, batch))


def number_layers(model):
    """Gives each layer of a model that can drop something its own dropout, whether it does or not."""
    layers = (module for module in model.modules() if isinstance(module, (MergedLinear, Linear, HiddenDropout)))
    for stream, layer in enumerate(layers):
        layer.stream = stream


class LoadedModule(nn.Module):
    """A whole model, whose weights come from numpy arrays and whose trained ones go back to them."""

    def load_arrays(self, arrays, is_trained=is_lora):
        """Copies ``{name: numpy array}`` into the parameters of those names; shapes must have been checked.

        Args:
            arrays: float32.
            is_trained: ``(name) -> bool``, which of them are trained; the others may be stored in 16 bits.
        """
        parameters = dict(self.named_parameters())
        for name, array in arrays.items():
            kernels.store(parameters[name], array, is_frozen=not is_trained(name))


def mark_as_trainable(model, is_trained):
    """Freezes every parameter of a model for whose name ``is_trained`` is false."""
    for name, parameter in model.named_parameters():
        if not is_trained(name):
            parameter.stop_grad()


def trained_state_dict(model, is_trained):
    """Returns ``{name: float32 numpy array}`` of the parameters of a model for whose names ``is_trained`` is true."""
    return {name: kernels.stored(parameter).copy() for name, parameter in model.named_parameters() if is_trained(name)}


def lora_state_dict(model):
    """Returns ``{name: float32 numpy array}`` of the LoRA parameters alone."""
    return trained_state_dict(model, is_lora)
