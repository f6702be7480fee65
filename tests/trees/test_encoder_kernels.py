"""Operations of encoders and of weights that are trained, on the tree under test, against formulae in float64 numpy.

All but what is about float32 alone run in fp32 and in fp64 (conftest.py, agree).
"""

import math

import numpy as np
import pytest

from common.run.batching import converted
from common.run.dropout import Dropout, is_kept, step_key
from tests.oracles.make_bert_oracle import batch_of
from tests.trees.small_model import flat

import device
import encoder_kernels
import kernels

pytestmark = pytest.mark.usefixtures("on_device")


@pytest.fixture
def normal():
    generator = np.random.RandomState(0)
    return lambda *shape: generator.randn(*shape).astype(np.float32)


def run(function, arrays, gradient):
    """Returns ``function(*arrays)`` and the gradients of its product with ``gradient``, as numpy."""
    variables = [device.from_numpy(array) for array in arrays]
    for variable in variables:
        variable.requires_grad = True
    result = function(*variables)
    sums = kernels.no_gradients([device.from_numpy(np.zeros(sum(array.size for array in arrays)))])
    sums = kernels.add_gradients(sums, (result * device.from_numpy(gradient)).sum(), variables)
    found = flat(map(device.to_numpy, sums))
    ends = np.cumsum([array.size for array in arrays])
    return device.to_numpy(result), [part.reshape(array.shape)
                                     for part, array in zip(np.split(found, ends[:-1]), arrays)]


def queries_of(lengths):
    """A QueryBatch of sequences of these lengths, with a step's key."""
    return batch_of([[1] * length for length in lengths], [[0] * length for length in lengths], step_key=step_key(3, 4))


@pytest.mark.parametrize("lengths, heads, head_width", [
    ((1,), 3, 16), ((7, 1, 3), 3, 16), ((31, 65, 64), 2, 32), ((130, 33, 32), 3, 8), ((40, 96), 2, 64)])
@pytest.mark.parametrize("probability", [0.0, 0.1, 0.5])
def test_self_attention(lengths, heads, head_width, probability, normal, agree):
    count, width, batch = sum(lengths), heads * head_width, queries_of(lengths)
    fused, gradient = normal(count, 3 * width), normal(count, width)
    on_device = converted(batch, device.from_numpy)
    layout = encoder_kernels.layout_of(on_device)
    dropout = Dropout(probability, 5, on_device.step_key, on_device.token_keys) if probability else None
    result, [d_fused] = run(lambda x: encoder_kernels.self_attention(x, heads, layout, dropout), [fused], gradient)
    plain = Dropout(probability, 5, batch.step_key, batch.token_keys)
    kept = is_kept(plain, heads * max(lengths)).reshape(count, max(lengths), heads) * plain.kept_factor
    expected, slopes = zip(*(plain_attention(fused[start:end].astype(np.float64), gradient[start:end].astype(
        np.float64), kept[start:end, :end - start], heads) for start, end in zip(batch.offsets, batch.offsets[1:])))
    agree(result, np.concatenate(expected))
    agree(d_fused, np.concatenate(slopes))


def plain_attention(fused, gradient, kept, heads):
    """Attention of one sequence and its gradient; kept ``(queries, keys, heads)`` is what weights are multiplied by."""
    length = len(fused)
    query, key, value = fused.reshape(length, 3, heads, -1).transpose(1, 2, 0, 3)
    upper, kept = gradient.reshape(length, heads, -1).transpose(1, 0, 2), kept.transpose(2, 0, 1)
    factor = query.shape[2] ** -0.5
    scores = query @ key.swapaxes(1, 2) * factor
    weights = np.exp(scores - scores.max(2, keepdims=True))
    weights /= weights.sum(2, keepdims=True)
    slope = upper @ value.swapaxes(1, 2) * kept
    slope = weights * (slope - (weights * slope).sum(2, keepdims=True)) * factor
    slopes = np.stack([slope @ key, slope.swapaxes(1, 2) @ query, (weights * kept).swapaxes(1, 2) @ upper])
    output = (weights * kept) @ value
    return output.transpose(1, 0, 2).reshape(length, -1), slopes.transpose(2, 0, 1, 3).reshape(fused.shape)


def test_gelu(normal, agree):
    x = np.concatenate([3 * normal(30, 20), np.linspace(-14, 14, 20, dtype=np.float32)[None]])
    gradient = normal(*x.shape)
    result, [d_x] = run(encoder_kernels.gelu, [x], gradient)
    x = x.astype(np.float64)
    normal_below = np.vectorize(math.erfc)(-x / math.sqrt(2)) / 2
    agree(result, x * normal_below)
    agree(d_x, gradient * (normal_below + x * np.exp(-x ** 2 / 2) / math.sqrt(2 * math.pi)))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_span_losses(smoothing, normal, agree):
    lengths, gradient = (5, 1, 70), normal(3)
    batch, logits = queries_of(lengths), 3 * normal(sum(lengths), 2)
    targets = np.array([[4, 0], [0, 0], [33, 69]], np.int32)
    layout = encoder_kernels.layout_of(converted(batch, device.from_numpy))
    places = device.from_numpy(targets)
    result, [slopes] = run(lambda x: encoder_kernels.span_losses(x, places, layout, smoothing), [logits], gradient)
    expected, expected_slopes = np.zeros(3), np.zeros(logits.shape)
    for index, (start, end) in enumerate(zip(batch.offsets, batch.offsets[1:])):
        log_p = logits[start:end].astype(np.float64)
        log_p -= np.log(np.exp(log_p).sum(0))
        wanted = np.full(log_p.shape, smoothing / (end - start))
        wanted[targets[index], [0, 1]] += 1 - smoothing
        expected[index] = -(wanted * log_p).sum()
        expected_slopes[start:end] = gradient[index] * (np.exp(log_p) - wanted)
    agree(result, expected)
    agree(slopes, expected_slopes)


@pytest.mark.parametrize("eps", [1e-5, 1e-12])
def test_layer_norm_and_its_weights(eps, normal, agree):
    x, weight, bias, gradient = 1e-3 * normal(37, 48), normal(48), normal(48), normal(37, 48)
    result, [d_x, d_weight, d_bias] = run(lambda *arrays: kernels.layer_norm(*arrays, eps), [x, weight, bias], gradient)
    x, weight, gradient = (array.astype(np.float64) for array in (x, weight, gradient))
    scale = 1 / np.sqrt(x.var(1, keepdims=True) + eps)
    normed, slope = (x - x.mean(1, keepdims=True)) * scale, gradient * weight
    agree(result, normed * weight + bias)
    agree(d_x, scale * (slope - slope.mean(1, keepdims=True) - normed * (slope * normed).mean(1, keepdims=True)))
    agree(d_weight, (gradient * normed).sum(0))
    agree(d_bias, gradient.sum(0))


def test_linear_and_its_weights(normal, agree):
    x, weight, bias, gradient = normal(3, 5, 48), normal(48, 70), normal(70), normal(3, 5, 70)
    result, [d_x, d_weight, d_bias] = run(kernels.linear, [x, weight, bias], gradient)
    x, weight, gradient = (array.astype(np.float64) for array in (x, weight, gradient))
    agree(result, x @ weight + bias)
    agree(d_x, gradient @ weight.T)
    agree(d_weight, np.einsum("abi,abo->io", x, gradient))
    agree(d_bias, gradient.sum((0, 1)))


def test_embedding_and_its_weights(normal, agree):
    indices, weight, gradient = np.array([3, 1, 3, 0, 40] * 9, np.int32), normal(41, 300), normal(45, 300)
    places = device.from_numpy(indices)
    result, [d_weight] = run(lambda table: kernels.embedding(places, table), [weight], gradient)
    expected = np.zeros(weight.shape)
    np.add.at(expected, indices, gradient)
    agree(result, weight[indices])
    agree(d_weight, expected)


@pytest.mark.parametrize("smoothing, count", [(0.0, 1), (0.1, 150)])
def test_token_losses_and_their_weights(smoothing, count, normal, agree):
    vocabulary, width = 503, 48
    hidden, embedding, gradient = normal(count, width), normal(vocabulary, width), normal(count)
    targets = np.random.RandomState(1).randint(0, vocabulary, count).astype(np.int32)
    chosen = device.from_numpy(targets)
    result, [d_hidden, d_embedding] = run(lambda *arrays: kernels.token_losses(*arrays, chosen, smoothing),
                                          [hidden, embedding], gradient)
    hidden, embedding = hidden.astype(np.float64), embedding.astype(np.float64)
    log_p = hidden @ embedding.T
    log_p -= log_p.max(1, keepdims=True)
    log_p -= np.log(np.exp(log_p).sum(1, keepdims=True))
    wanted = np.full(log_p.shape, smoothing / vocabulary)
    wanted[np.arange(count), targets] += 1 - smoothing
    slope = gradient[:, None] * (np.exp(log_p) - wanted)
    agree(result, -(wanted * log_p).sum(1))
    agree(d_hidden, slope @ embedding, 1e-5)
    agree(d_embedding, slope.T @ hidden, 1e-5)


def test_norms_and_updates_of_many_arrays(normal, agree):
    """More than one operation takes at once in Jittor."""
    arrays = [normal(3, index + 1) for index in range(130)]
    values, decays = kernels.fused([device.from_numpy(array) for array in arrays], [0.1] * len(arrays))
    squares = float(device.to_numpy(kernels.squared_norm(values)).reshape(()))
    assert squares == pytest.approx(sum((array.astype(np.float64) ** 2).sum() for array in arrays), rel=1e-12)
    gradients = [value * 1.0 for value in values]
    remainders, *moments = (kernels.zeros_like(values) for _ in range(3))
    kernels.adamw(values, remainders, gradients, *moments, decays, 0.5, 0.1, 0.9, 0.99, 1e-6, is_good=True)
    before = flat(arrays).astype(np.float64)
    first, second = 0.1 * before, 0.01 * before ** 2
    for found, expected in ((values, (before - 0.1 * first / (np.sqrt(second) + 1e-6)) * (1 - 0.5 * 0.1)),
                            (moments[0], first), (moments[1], second)):
        agree(flat(map(device.to_numpy, found)), expected)


def test_updates_smaller_than_a_weights_last_place_add_up():
    """A float32 weight of 1 has no number that is 1e-8 lower; its remainder has it, and a hundred of them are 1e-6."""
    start, steps, rate, decay = np.full(7, 1.0, np.float32), 100, 1e-8, 0.1
    values, decays = kernels.fused([device.from_numpy(start)], [decay])
    remainders, firsts, seconds = (kernels.zeros_like(values) for _ in range(3))
    for _ in range(steps):
        gradients = [value * 0.0 + 1.0 for value in values]
        kernels.adamw(values, remainders, gradients, firsts, seconds, decays, rate, rate, 0.0, 0.0, 0.0, is_good=True)
    expected = 1.0
    for _ in range(steps):
        expected = (expected - rate) * (1.0 - rate * decay)
    value, remainder = (flat(map(device.to_numpy, arrays)).astype(np.float64) for arrays in (values, remainders))
    assert value + remainder == pytest.approx(expected, abs=1e-12)
    assert np.array_equal(value, np.full(7, expected).astype(np.float32)), "the nearest float32 number"
