"""The operations that are tuned for Jittor: what the models call as ``kernels.X``, the same names as in the other tree.

Jittor would compute in many small operations what is one call of torch's; here it is one kernel, with its gradient
(kernel_sources/). Arrays are float32, in ``fp64`` float64, and indices int32. In ``bf16`` and ``fp16`` both operands
of a product with a weight are rounded to 16 bits, and a GPU stores such weights in 16 bits where they are frozen
(``frozen``); sums are float32.
"""

import functools
import operator

import jittor as jt
import numpy as np
from jittor import nn

from common.run import processes

import device
from kernel_sources import functions
from kernel_sources.attention import Attention
from kernel_sources.launch import run, scratch

MASKED = -1e9  # what is added to the scores of positions that must not be seen


def frozen_weight(*shape):
    """Returns a parameter of zeros, which ``store`` gives the layout and the dtype that its products want."""
    return jt.zeros(shape)


def embedding_weight(*shape):
    """Returns a parameter of zeros ``(count, width)``, the rows of which are looked up."""
    return jt.zeros(shape)


def frozen(array):
    """Returns a weight ``(rows, columns)`` as products want it: rounded, and on a GPU stored, in their precision."""
    return functions.rounded(device.from_numpy(array))


def store(parameter, array, is_frozen):
    """Copies a numpy array into a parameter of its shape."""
    parameter.assign(frozen(array) if is_frozen and array.ndim == 2 else device.from_numpy(array))


def stored(parameter):
    """Returns what a parameter holds, as a float32 numpy array."""
    array = parameter.numpy()
    if array.dtype != np.uint16:
        return array.astype(np.float32)
    if device.precision() == "fp16":
        return array.view(np.float16).astype(np.float32)
    return (array.astype(np.uint32) << 16).view(np.float32)


def embedding(indices, weight):
    """Returns ``weight[indices]``, ``(*indices.shape, width)``, float32."""
    if weight.dtype != "uint16":
        return functions.TakeRows.apply(weight, indices.reshape(-1)).reshape(*indices.shape, weight.shape[1])
    result, = run('take_weights(in0_p, in1_p, out0_p, in0->num, in1_shape1, (int)data["precision"]);',
                  [indices, weight], [(*indices.shape, weight.shape[1])])
    return result


def take_rows(x, indices):
    """Returns rows ``indices`` of ``x (count, width)``; where one comes twice its gradients add up."""
    return functions.TakeRows.apply(x, indices)


def layer_norm(x, weight, bias, eps):
    """``(..., width)`` to the same: normalised over the last axis, variance in two passes."""
    return functions.LayerNorm.apply(x, weight, bias, eps)


def gelu(x):
    """The tanh approximation of GELU (Hendrycks and Gimpel 2016, section 2), as GPT-2 was trained with."""
    return functions.Gelu.apply(x)


def linear(x, weight, bias):
    """``x @ weight + bias``: ``(..., in)`` to ``(..., out)``, float32."""
    return functions.Linear.apply(x, weight, bias)


def dropped_out(x, dropout):
    """Drops elements of ``x (count, width)`` and divides the others by the share that is kept.

    Args:
        x: array.
        dropout: common.run.dropout.Dropout of arrays on the device, or None, which drops nothing.
    """
    return x if dropout is None else functions.Dropped.apply(x, dropout)


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
    columns = [column for column, has_update in enumerate(enable_lora) if has_update]
    return functions.LoraLinear.apply(x, weight, bias, lora_A, lora_B, columns, scaling, dropout)


def causal_attention(fused, heads, packed):
    """Scaled dot-product attention in which a token sees itself and what comes before it in its sequence.

    Args:
        fused: ``(count, 3 * width)``, queries, keys and values side by side, each ``(heads, head_width)``.
        heads: number of heads.
        packed: Packed of arrays on the device.

    Returns:
        ``(count, width)``.
    """
    return Attention.apply(fused, heads, packed.offsets, packed.length, True, None)


def matmul_transposed(a, b):
    """Returns ``a @ b.T`` of the last two axes."""
    return nn.bmm_transpose(a, b)


@functools.lru_cache
def free_positions_mask(step, room):
    """Returns ``(1, 1, 1, room)``, MASKED behind index ``step``; made once, for each new array costs time."""
    mask = np.where(np.arange(room) > step, MASKED, 0.0)
    return device.from_numpy(mask.reshape(1, 1, 1, room)).stop_grad()


def softmax(scores, dtype):
    """Softmax over the last axis, in ``dtype``."""
    return functions.softmax_rows(scores, False) if dtype == "float64" else nn.softmax(scores, dim=-1)


def log_softmax(logits):
    """Log-probabilities of each row; the sum over the vocabulary runs in float64."""
    if logits.dtype == "float64":
        return functions.softmax_rows(logits, True)
    shifted = logits - logits.max(dim=1, keepdims=True)
    return shifted - shifted.exp().float64().sum(1).float32().log().reshape(-1, 1)


def top_k(x, count):
    """Returns the ``count`` highest values of each row and their indices, best first.

    Repeated argmax: Jittor's topk sorts the whole row, a hundred times slower for a vocabulary.
    """
    rows = jt.arange(x.shape[0])
    values, indices = [], []
    for _ in range(count):
        index, value = jt.argmax(x, dim=1)
        values.append(value)
        indices.append(index)
        x = x.clone()
        x[rows, index] = 2.0 * MASKED
    return jt.stack(values, dim=1), jt.stack(indices, dim=1)


def logits(hidden, weight):
    """Returns ``hidden @ weight.T``: ``(count, width)`` to ``(count, vocabulary)``, float32."""
    weight = functions.rounded(weight)
    result, _ = run(
        "weight_product(in0_p, in1_p, out0_p, in0_shape0, in0_shape1, in1_shape0, true, 0.f, "
        '(int)data["precision"], (real*)out1_p);', [hidden, weight],
        [(hidden.shape[0], weight.shape[0]), scratch(hidden.shape)])
    return result


def token_losses(hidden, weight, targets, label_smoothing):
    """Label-smoothed cross-entropy of ``logits(hidden, weight)``: ``(1 - e) * nll + e * mean of -log p``, the mean over
    the vocabulary.

    Takes ``(count, width)``, ``(vocabulary, width)``, ``(count,)``; returns ``(count,)``, float32.
    """
    return functions.TokenLosses.apply(hidden, weight, targets, label_smoothing)


def fused(parameters, decays):
    """Returns the arrays that an update works on, and what each of them decays by; two lists.

    Jittor has no views of one vector; an operation with many outputs takes their place.

    Args:
        parameters: list of float32 parameters.
        decays: the weight decay of each.
    """
    return parameters, decays


def groups(arrays):
    """Yields parts of a list, each for one operation: what all of them make is not in memory at once."""
    for start in range(0, len(arrays), 64):
        yield arrays[start:start + 64]


def zeros_like(arrays):
    """Returns a list of arrays of zeros."""
    return [jt.zeros_like(array) for array in arrays]


def elements_of(arrays):
    """Returns all elements of some arrays, one array after another, as one numpy array; none of None."""
    return np.concatenate([np.zeros(0, np.float32), *(array.numpy().reshape(-1) for array in arrays or ())])


def filled(arrays, values, elements):
    """Returns the arrays, of the shapes of ``values``, with the elements of elements_of; None where there are none."""
    if not elements.size:
        return None
    ends = np.cumsum([int(np.prod(value.shape)) for value in values])
    pieces = [jt.array(piece.reshape(value.shape))
              for value, piece in zip(values, np.split(elements, ends[:-1]), strict=True)]
    for array, piece in zip(arrays or (), pieces):
        array.update(piece)
    return arrays or pieces


def counter(value):
    """Returns a number that steps change."""
    return value


def changed(counter, value):
    """Returns the counter with a new value."""
    return value


def no_gradients(values):
    """Returns the sums of gradients, of arrays ``values``, before there is one."""
    return None


def add_gradients(sums, loss, parameters, loss_scale=None):
    """Returns the sums of gradients with those of ``loss``, a scalar, which is scaled meanwhile."""
    gradients = jt.grad(loss if loss_scale is None else loss * loss_scale, parameters)
    if loss_scale is not None:
        gradients = scaled(gradients, device.from_numpy(np.array([1.0 / loss_scale])))
    return gradients if sums is None else [total + gradient for total, gradient in zip(sums, gradients)]


def cleared(sums):
    """Returns the sums of gradients, emptied."""
    return None


def packed(sums):
    """Returns the sums of gradients as one array ``(count,)``, the form in which processes add theirs up."""
    places = np.cumsum([0, *(total.numel() for total in sums)])
    source = "".join(f"scale(in{i}_p, in{len(sums)}_p, out0_p + {place}, in{i}->num);\n"
                     for i, place in enumerate(places[:-1]))
    array, = run(source, [*sums, device.from_numpy(np.ones(1))], [(int(places[-1]),)])
    return array


def unpacked(array, sums):
    """Returns an array of ``packed`` as sums of gradients of the shapes of ``sums``."""
    places = np.cumsum([0, *(total.numel() for total in sums)])
    source = "".join(f"scale(in0_p + {place}, in1_p, out{i}_p, out{i}->num);\n" for i, place in enumerate(places[:-1]))
    return run(source, [array, device.from_numpy(np.ones(1))], [total.shape for total in sums])


def squared_norm(arrays):
    """Returns the sum of the squares of all elements, float64; not finite where one of them is not."""
    parts = []
    for some in groups(arrays):
        source = "".join(f"add_squares(in{i}_p, in{i}->num, out0_p, out1_p);\n" for i in range(len(some)))
        parts.append(run("set_zero(out0_p, 8);\n" + source, some, [((1,), "float64"), ((512,), "float64")])[0])
    return functools.reduce(operator.add, parts)


def clip_factor(squares, max_norm):
    """Returns what to multiply arrays by whose squares add up to ``squares``, for a norm of at most max_norm.

    On a GPU Jittor's own square root of float64 is that of float32.
    """
    factor, = run('clip_factor(in0_p, out0_p, data["max_norm"]);', [squares], [(1,)], max_norm=max_norm)
    return factor


def is_finite(number):
    """Tells whether a number on the device is finite.

    On the host: under Jittor's compiler flags isfinite is true of everything.
    """
    return bool(np.isfinite(number.numpy()).all())


def scaled(arrays, factor):
    """Returns every array times ``factor``, a number on the device."""
    results = []
    for some in groups(arrays):
        count = len(some)
        source = "".join(f"scale(in{i}_p, in{count}_p, out{i}_p, in{i}->num);\n" for i in range(count))
        results += run(source, [*some, factor], [array.shape for array in some])
    return results


def adamw(values, remainders, gradients, first_moments, second_moments, decays, learning_rate, step_size, beta1, beta2,
          eps, is_good):
    """One update of AdamW (see optimizer.py), in place; none where ``is_good`` is false.

    Args:
        values, remainders, gradients, first_moments, second_moments: lists of arrays of the same shapes.
        decays: of fused.
        learning_rate, step_size, beta1, beta2, eps: numbers.
        is_good: True, or what is_finite returned.
    """
    if not is_good:
        return
    parts = list(groups(list(zip(values, remainders, gradients, first_moments, second_moments, decays))))
    for some in parts:
        count, (values, remainders, gradients, first_moments, second_moments, decays) = len(some), zip(*some)
        arrays = [*values, *remainders, *first_moments, *second_moments]
        source = "".join(
            f"adamw({', '.join(f'in{part * count + i}_p' for part in range(5))}, "
            f"{', '.join(f'out{part * count + i}_p' for part in range(4))}, in{i}->num, data[\"beta1\"], "
            f"data[\"beta2\"], data[\"eps\"], data[\"step_size\"], data[\"kept{i}\"]);\n" for i in range(count))
        made = run(source, [*arrays, *gradients], [variable.shape for variable in arrays], beta1=beta1, beta2=beta2,
                   eps=eps, step_size=step_size,
                   **{f"kept{i}": 1.0 - learning_rate * decay for i, decay in enumerate(decays)})
        for variable, new in zip(arrays, made):
            variable.update(new)
        # Before the next ones: else all old and all new arrays are in memory at once. Of several processes a small
        # update, for which they wait for each other, comes about once the next step is written down.
        if processes.count() == 1 or len(parts) > 1:
            jt.sync(arrays)
