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
            # (projections, 1, enabled, 1): scaling where the enabled one is the projection itself, else 0.
            placement = self.scaling * torch.eye(len(enable_lora))[:, None, list(enable_lora), None]
            self.register_buffer("placement", placement, persistent=False)

    def spread_lora_B(self):
        """Returns ``scaling * lora_B`` as one ``(out_features, enabled * r)`` matrix, 0 where there is no update."""
        r, enabled = self.r, sum(self.enable_lora)
        blocks = self.lora_B.view(enabled, -1, r).transpose(0, 1)
        return (self.placement * blocks).reshape(-1, enabled * r)

    def forward(self, x):
        """``(..., in_features)`` to ``(..., out_features)``, in the type of the products."""
        flat = x.reshape(-1, x.shape[-1]).to(self.weight.dtype)
        result = torch.addmm(self.bias, flat, self.weight)
        if self.r > 0:
            update = nn.functional.dropout(flat, self.lora_dropout, self.training) @ self.lora_A.T.to(flat.dtype)
            result.addmm_(update, self.spread_lora_B().T.to(flat.dtype))
        return result.view(*x.shape[:-1], -1)


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
