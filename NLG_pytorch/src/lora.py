"""LoRA layers with loralib's names: ``MergedLinear``, ``mark_only_lora_as_trainable``, ``lora_state_dict``."""

import torch
from torch import nn

import device


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
    """

    def __init__(self, in_features, out_features, r=0, lora_alpha=1, lora_dropout=0.0, enable_lora=(False,)):
        super().__init__()
        # Columns one after another where there are few: cuBLAS was measured to take a quarter less time for such a product.
        rows_first = in_features < out_features
        weight = torch.zeros((in_features, out_features) if rows_first else (out_features, in_features),
                             dtype=device.product_type())
        self.weight = nn.Parameter(weight if rows_first else weight.T)
        self.bias = nn.Parameter(torch.zeros(out_features, dtype=device.product_type()))
        self.r = r if any(enable_lora) else 0
        self.lora_dropout = lora_dropout
        self.enable_lora = tuple(enable_lora)
        if self.r > 0:
            enabled = sum(enable_lora)
            self.scaling = lora_alpha / r
            self.lora_A = nn.Parameter(torch.zeros(enabled * r, in_features))
            self.lora_B = nn.Parameter(torch.zeros(enabled * (out_features // len(enable_lora)), r))

    def forward(self, x):
        """``(..., in_features)`` to ``(..., out_features)``, in the type of the products."""
        flat = x.reshape(-1, x.shape[-1]).to(self.weight.dtype)
        if self.r == 0:
            return torch.addmm(self.bias, flat, self.weight).view(*x.shape[:-1], -1)
        columns = [column for column, has_update in enumerate(self.enable_lora) if has_update]
        probability = self.lora_dropout if self.training else 0.0
        return LoraLinear.apply(flat, self.weight, self.bias, self.lora_A, self.lora_B, columns, self.scaling,
                                probability).view(*x.shape[:-1], -1)


class LoraLinear(torch.autograd.Function):
    """A linear layer with LoRA's update on some projections, whose small products run beside the large ones.

    Args:
        x: ``(rows, in)``.
        weight, bias: ``(in, out)`` and ``(out,)``, frozen.
        lora_A: ``(enabled * r, in)``.
        lora_B: ``(enabled * width, r)``, where ``width`` is that of one projection.
        columns: which projections have an update.
        scaling: alpha / r.
        probability: share of the update's inputs that are dropped.
    """

    @staticmethod
    def forward(context, x, weight, bias, lora_A, lora_B, columns, scaling, probability):
        count, width = len(columns), len(lora_B) // len(columns)
        with device.beside():
            dropped, kept = torch.native_dropout(x, probability, True) if probability else (x, None)
            reduced = dropped @ lora_A.T.to(x.dtype)
            spread = x.new_zeros(len(bias), reduced.shape[1])  # scaling * lora_B, each projection's in its own columns
            for column, b, part in zip(columns, lora_B.chunk(count), spread.chunk(count, dim=1)):
                torch.mul(b, scaling, out=part[column * width:(column + 1) * width])
        result = torch.addmm(bias, x, weight)
        device.join()
        context.save_for_backward(weight, lora_A, lora_B, dropped, kept, reduced)
        context.columns, context.scaling, context.probability = columns, scaling, probability
        return result.addmm_(reduced, spread.T)

    @staticmethod
    def backward(context, gradient):
        weight, lora_A, lora_B, dropped, kept, reduced = context.saved_tensors
        count, width = len(context.columns), len(lora_B) // len(context.columns)
        with device.beside():
            a, b = lora_A.to(gradient.dtype), lora_B.to(gradient.dtype)
            d_reduced, d_b = torch.empty_like(reduced), torch.empty_like(b)
            for index, column in enumerate(context.columns):
                dy = gradient[:, column * width:(column + 1) * width]
                t, d_t = (array.chunk(count, dim=1)[index] for array in (reduced, d_reduced))
                d_t.addmm_(dy, b.chunk(count)[index], beta=0, alpha=context.scaling)
                d_b.chunk(count)[index].addmm_(dy.T, t, beta=0)
            d_a = d_reduced.T @ dropped
            update = d_reduced @ a if context.needs_input_grad[0] else None
            # scaled in float32, lest it overflow in fp16
            d_a, d_b = d_a.to(lora_A.dtype), context.scaling * d_b.to(lora_B.dtype)
        d_x = gradient @ weight.T if context.needs_input_grad[0] else None
        device.join()
        if d_x is not None:
            d_x.addcmul_(update, kept, value=1.0 / (1.0 - context.probability)) if kept is not None else d_x.add_(update)
        return d_x, None, None, d_a, d_b, None, None, None


def mark_only_lora_as_trainable(model):
    """Freezes every parameter whose name has no ``lora_`` in it."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)


def lora_state_dict(model):
    """Returns ``{name: float32 numpy array}`` of the LoRA parameters alone."""
    return {
        name: parameter.detach().cpu().numpy().copy()
        for name, parameter in model.named_parameters()
        if "lora_" in name
    }
