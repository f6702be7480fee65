"""Products with a weight; on a processor by oneDNN, whose kernels suit every make: MKL's were half as fast on AMD's."""

import torch

HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def product(x, weight, bias):
    """Returns ``x @ weight + bias`` of arrays ``(count, in)``, ``(in, out)`` and ``(out,)`` of one dtype."""
    if HAS_ONEDNN and x.device.type == "cpu" and x.dtype == torch.float32:
        return OneDnnLinear.apply(x, weight, bias)
    return torch.addmm(bias, x, weight)


def by_onednn(x, transposed, bias=None):
    """Returns ``x @ transposed.T + bias`` of arrays of any strides: ``(count, in)``, ``(out, in)`` and ``(out,)``."""
    return torch.ops.mkldnn._linear_pointwise(x, transposed, bias, "none", [], "")


class OneDnnLinear(torch.autograd.Function):
    """``x @ weight + bias`` with its gradient, which torch's call of oneDNN has not."""

    @staticmethod
    def forward(context, x, weight, bias):
        context.save_for_backward(x if weight.requires_grad else None, weight)
        return by_onednn(x, weight.T, bias)

    @staticmethod
    def backward(context, gradient):
        x, weight = context.saved_tensors
        needs_x, needs_weight, needs_bias = context.needs_input_grad
        return (by_onednn(gradient, weight) if needs_x else None,
                by_onednn(x.T, gradient.T) if needs_weight else None, gradient.sum(dim=0) if needs_bias else None)
