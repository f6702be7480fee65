"""The operations that are tuned for torch: what the models call as ``kernels.X``, the same names as in the other tree.

Arrays are float32, in ``fp64`` float64. In ``bf16`` and ``fp16`` a frozen weight is stored in 16 bits
(``frozen_weight``), a trained one is rounded to them at each product, and so are their outputs.
"""

import functools

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import device
from kernel_sources import cpu_dropout
from kernel_sources.attention import attention
from kernel_sources.products import product

MASKED = -1e9  # what is added to the scores of positions that must not be seen


def product_dtype():
    """Returns the dtype in which the factors of products are stored."""
    return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(device.precision(), device.real_dtype())


def frozen_weight(*shape):
    """Returns a parameter of zeros in the layout and the dtype that its products want.

    Columns lie one after another where there are few: cuBLAS was measured to take a quarter less time for such
    products.
    """
    if len(shape) == 2 and shape[0] >= shape[1]:
        return nn.Parameter(torch.zeros(shape[::-1], dtype=product_dtype()).T)
    return nn.Parameter(torch.zeros(shape, dtype=product_dtype()))


def embedding_weight(*shape):
    """Returns a parameter of zeros ``(count, width)``, the rows of which are looked up."""
    return nn.Parameter(torch.zeros(shape, dtype=product_dtype()))


def store(parameter, array, is_frozen):
    """Copies a numpy array into a parameter of its shape; one that is trained becomes one of real_dtype."""
    if not is_frozen:
        parameter.data = torch.empty(array.shape, dtype=device.real_dtype(), device=parameter.device)
    elif parameter.dtype == torch.float32:
        parameter.data = parameter.data.to(device.real_dtype())
    parameter.data.copy_(torch.from_numpy(array))


def stored(parameter):
    """Returns what a parameter holds, as a float32 numpy array."""
    return device.to_numpy(parameter.float())


def embedding(indices, weight):
    """Returns ``weight[indices]``, ``(*indices.shape, width)``, in real_dtype."""
    return F.embedding(indices, weight).to(device.real_dtype())


def take_rows(x, indices):
    """Returns rows ``indices`` of ``x (count, width)``; where one comes twice its gradients add up."""
    return x.index_select(0, indices)


def layer_norm(x, weight, bias, eps):
    """``(..., width)`` to the same: normalised over the last axis, variance in two passes."""
    return F.layer_norm(x, weight.shape, weight, bias, eps)


def gelu(x):
    """The tanh approximation of GELU (Hendrycks and Gimpel 2016, section 2), as GPT-2 was trained with."""
    return F.gelu(x, approximate="tanh")


def linear(x, weight, bias):
    """``x @ weight + bias``: ``(..., in)`` to ``(..., out)`` in the dtype of the products."""
    dtype = product_dtype()
    return product(x.reshape(-1, x.shape[-1]).to(dtype), weight.to(dtype), bias.to(dtype)).view(*x.shape[:-1], -1)


@functools.lru_cache
def placement(enable_lora, scaling, where, dtype):
    """Returns ``(projections, 1, enabled, 1)``: scaling where the enabled one is the projection itself, else 0."""
    return scaling * torch.eye(len(enable_lora), device=where, dtype=dtype)[:, None, list(enable_lora), None]


def dropped_out(x, dropout):
    """Drops elements of ``x (count, width)`` and divides the others by the share that is kept.

    Args:
        x: array; or weights of attention ``(batch, heads, length, length)``, of queries to keys.
        dropout: common.run.dropout.Dropout of arrays on the device, or None, which drops nothing. Of weights, its
            tokens are the queries, ``(batch, length)``, and its features ``key position * heads + head``.
    """
    if dropout is None:
        return x
    if x.is_cuda:
        from kernel_sources.dropout import Dropped  # Triton, which a torch for processors alone does not bring

        return Dropped.apply(x, dropout)
    return cpu_dropout.dropped_out(x, dropout)


def lora_linear(x, weight, bias, lora_A, lora_B, enable_lora, scaling, dropout):
    """Linear with LoRA's update on some of the projections that lie side by side in its output.

    ``x @ weight + bias + scaling * dropout(x) @ A.T @ B.T`` (Hu et al. 2021, section 4.1, equation 3), A and B of each
    projection that has an update.

    Args:
        x, weight, bias: as for linear.
        lora_A: ``(enabled * r, in)``.
        lora_B: ``(enabled * width, r)``, where ``width`` is that of one projection.
        enable_lora: one bool for each projection, whether it has an update.
        scaling: alpha / r.
        dropout: common.run.dropout.Dropout of the update's inputs, or None.
    """
    flat, r, enabled = x.reshape(-1, x.shape[-1]).to(weight.dtype), lora_B.shape[1], sum(enable_lora)
    result = product(flat, weight, bias)
    # scaling * lora_B as one (out, enabled * r) matrix, 0 where there is no update: one product for all projections.
    blocks = lora_B.view(enabled, -1, r).transpose(0, 1)
    spread = (placement(enable_lora, scaling, x.device, lora_B.dtype) * blocks).reshape(-1, enabled * r)
    update = dropped_out(flat, dropout) @ lora_A.T.to(flat.dtype)
    result.addmm_(update, spread.T.to(flat.dtype))
    return result.view(*x.shape[:-1], -1)


def causal_attention(fused, heads, packed):
    """Scaled dot-product attention in which a token sees itself and what comes before it in its sequence.

    Args:
        fused: ``(count, 3 * width)``, queries, keys and values side by side, each ``(heads, head_width)``.
        heads: number of heads.
        packed: Packed of arrays on the device.

    Returns:
        ``(count, width)``.
    """
    return attention(fused, heads, packed, is_causal=True)


def matmul_transposed(a, b):
    """Returns ``a @ b.T`` of the last two axes."""
    return a @ b.transpose(-1, -2)


@functools.lru_cache
def free_positions_mask(step, room):
    """Returns ``(1, 1, 1, room)``, MASKED behind index ``step``; made once, for each new array costs time."""
    return device.from_numpy(np.where(np.arange(room) > step, MASKED, 0.0).reshape(1, 1, 1, room))


def softmax(scores, dtype):
    """Softmax over the last axis, in ``dtype``."""
    return torch.softmax(scores, dim=-1).to(dtype)


def log_softmax(logits):
    """Log-probabilities of each row.

    On a CPU torch's own adds a row up in one float32 number, which over a vocabulary loses two digits; ``sum`` adds by
    pairs. A few rows at a time stay in its cache. On a GPU torch's own is exact, and one kernel.
    """
    if logits.is_cuda:
        return torch.log_softmax(logits, dim=1)
    result, parts = torch.empty_like(logits), max(len(logits) // 16, 1)
    for rows, shifted in zip(logits.tensor_split(parts), result.tensor_split(parts)):
        torch.sub(rows, rows.amax(dim=1, keepdim=True), out=shifted)
        shifted.sub_(shifted.exp().sum(dim=1, keepdim=True).log())
    return result


def top_k(x, count):
    """Returns the ``count`` highest values of each row and their indices, best first."""
    return x.topk(count, dim=1)


def logits(hidden, weight):
    """Returns ``hidden @ weight.T``: ``(count, width)`` to ``(count, vocabulary)``, in real_dtype."""
    return (hidden.to(product_dtype()) @ weight.to(product_dtype()).T).to(device.real_dtype())


class CrossEntropy(torch.autograd.Function):
    """Label-smoothed cross-entropy; its gradient is written over the log-probabilities, a step's largest array."""

    @staticmethod
    def forward(context, logits, targets, label_smoothing):
        log_probabilities = log_softmax(logits)
        context.save_for_backward(log_probabilities, targets)
        context.label_smoothing = label_smoothing
        nll = -log_probabilities.gather(1, targets[:, None].long()).squeeze(1)
        return (1.0 - label_smoothing) * nll - label_smoothing * log_probabilities.mean(dim=1)

    @staticmethod
    def backward(context, gradient):
        log_probabilities, targets = context.saved_tensors
        slopes = log_probabilities.exp_().sub_(context.label_smoothing / log_probabilities.shape[1])
        at_target = torch.full_like(slopes[:, :1], context.label_smoothing - 1.0)
        return slopes.scatter_add_(1, targets[:, None].long(), at_target).mul_(gradient[:, None]), None, None


def token_losses(hidden, weight, targets, label_smoothing):
    """Label-smoothed cross-entropy of ``logits(hidden, weight)``: ``(1 - e) * nll + e * mean of -log p``, the mean over
    the vocabulary.

    Takes ``(count, width)``, ``(vocabulary, width)``, ``(count,)``; returns ``(count,)``, float32.
    """
    return CrossEntropy.apply(logits(hidden, weight), targets, label_smoothing)


def fused(parameters, decays):
    """Makes the parameters views of one vector, so that each operation of an update is one kernel.

    Args:
        parameters: list of float32 parameters.
        decays: the weight decay of each.

    Returns:
        The arrays that an update works on, and what each of their elements decays by; two lists.
    """
    values = torch.cat([parameter.detach().reshape(-1) for parameter in parameters])
    pieces = values.split([parameter.numel() for parameter in parameters])
    for parameter, piece in zip(parameters, pieces):
        parameter.data = piece.view(parameter.shape)
    return [values], [torch.cat([torch.full_like(piece, decay) for piece, decay in zip(pieces, decays)])]


def zeros_like(arrays):
    """Returns a list of arrays of zeros."""
    return [torch.zeros_like(array) for array in arrays]


def elements_of(arrays):
    """Returns all elements of some arrays, one array after another, as one numpy array."""
    return np.concatenate([device.to_numpy(array).reshape(-1) for array in arrays])


def filled(arrays, values, elements):
    """Returns the arrays, of the shapes of ``values``, with the elements of elements_of, in place."""
    ends = np.cumsum([value.numel() for value in values])
    for array, piece in zip(arrays, np.split(elements, ends[:-1]), strict=True):
        array.copy_(torch.from_numpy(piece).view(array.shape))
    return arrays


def counter(value):
    """Returns a number that a captured step can change: a float64 scalar on the device."""
    return device.to_device(torch.tensor(value, dtype=torch.float64))


def changed(counter, value):
    """Returns the counter with a new value."""
    return counter.copy_(value)


def no_gradients(values):
    """Returns the sums of gradients, of arrays ``values``, before there is one."""
    return zeros_like(values)


def add_gradients(sums, loss, parameters, loss_scale=None):
    """Returns the sums of gradients with those of ``loss``, a scalar, which is scaled meanwhile."""
    gradients = torch.autograd.grad(loss if loss_scale is None else loss * loss_scale, parameters)
    gradient = torch.cat([gradient.reshape(-1) for gradient in gradients])
    sums[0] += gradient if loss_scale is None else gradient / loss_scale
    return sums


def cleared(sums):
    """Returns the sums of gradients, emptied."""
    return [sums[0].zero_()]


def packed(sums):
    """Returns the sums of gradients as one array ``(count,)``, the form in which processes add theirs up."""
    return sums[0]


def unpacked(array, sums):
    """Returns an array of ``packed`` as sums of gradients of the shapes of ``sums``."""
    return [array]


def pieces(*lists):
    """Yields the elements of lists of one array each, so many at once that what is computed on the way stays small."""
    size = 2**24 if lists[0][0].is_cuda else 2**18
    return zip(*(arrays[0].split(size) for arrays in lists))


def squared_norm(arrays):
    """Returns the sum of the squares of all elements, float64; not finite where one of them is not."""
    return sum((piece.double() ** 2).sum() for [piece] in pieces(arrays))


def clip_factor(squares, max_norm):
    """Returns what to multiply arrays by whose squares add up to ``squares``, for a norm of at most max_norm."""
    return torch.clamp(max_norm / (torch.sqrt(squares) + 1e-6), max=1.0)


def is_finite(number):
    """Tells whether a number on the device is finite."""
    return torch.isfinite(number)


def scaled(arrays, factor):
    """Returns every array times ``factor``, a number on the device."""
    return [arrays[0].mul_(factor)]


@torch.no_grad()
def adamw(values, remainders, gradients, first_moments, second_moments, decays, learning_rate, step_size, beta1, beta2,
          eps, is_good):
    """One update of AdamW (see optimizer.py), in place; none where ``is_good`` is false.

    Args:
        values, remainders, gradients, first_moments, second_moments: lists of arrays of the same shapes.
        decays: of fused.
        learning_rate, step_size, beta1, beta2, eps: numbers.
        is_good: True, or what is_finite returned.
    """
    arrays = pieces(values, remainders, gradients, first_moments, second_moments, decays)
    for value, remainder, gradient, first, second, decay in arrays:
        new_first = torch.add(beta1 * first, gradient, alpha=1.0 - beta1)
        new_second = torch.addcmul(beta2 * second, gradient, gradient, value=1.0 - beta2)
        change = remainder - step_size * new_first / (torch.sqrt(new_second) + eps)
        change.addcmul_(learning_rate * decay, value + change, value=-1.0)
        new_value = value + change
        change -= new_value - value
        for old, new in ((first, new_first), (second, new_second), (value, new_value), (remainder, change)):
            old.copy_(new if is_good is True else torch.where(is_good, new, old))
