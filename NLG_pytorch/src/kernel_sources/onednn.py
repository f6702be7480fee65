"""Products with a weight on a processor by oneDNN, whose kernels suit every make; MKL's were half as fast on AMD's."""

import functools

import torch


@functools.lru_cache
def is_there():
    """Tells whether this torch has oneDNN."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def suits(x):
    """Tells whether a product of ``x`` goes to oneDNN."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and is_there()


def product(x, transposed, bias=None):
    """Returns ``x @ transposed.T + bias`` of arrays of any strides: ``(count, in)``, ``(out, in)`` and ``(out,)``."""
    return torch.ops.mkldnn._linear_pointwise(x, transposed, bias, "none", [], "")


class Linear(torch.autograd.Function):
    """``x @ weight + bias``: ``(count, in)`` to ``(count, out)``."""

    @staticmethod
    def forward(context, x, weight, bias):
        context.save_for_backward(x if weight.requires_grad else None, weight)
        return product(x, weight.T, bias)

    @staticmethod
    def backward(context, gradient):
        x, weight = context.saved_tensors
        needs_x, needs_weight, needs_bias = context.needs_input_grad
        return (product(gradient, weight) if needs_x else None,
                product(x.T, gradient.T) if needs_weight else None, gradient.sum(dim=0) if needs_bias else None)
