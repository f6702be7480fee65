"""Each kernel of the Jittor tree, forward and backward, against its formula in float64 numpy, in fp32 and in fp64."""

import jittor_setup  # noqa: F401  decides the environment before Jittor is imported

import jittor as jt
import numpy as np
import pytest

from common.run.batching import pack
from common.run.dropout import Dropout, is_kept, step_key, token_keys
from tests import DEVICE

import device
import kernels
from kernel_sources import functions
from kernel_sources.attention import Attention

pytestmark = pytest.mark.usefixtures("on_device")
ROWS, IN, WIDTH, RANK = 37, 48, 32, 4


@pytest.fixture
def normal():
    generator = np.random.RandomState(0)
    return lambda *shape: generator.randn(*shape).astype(np.float32)


def double(*arrays):
    return [array.astype(np.float64) for array in arrays]


def variables(*arrays):
    return [device.from_numpy(array) for array in arrays]


def test_linear(normal, agree):
    x, weight, bias, gradient = normal(3, 5, IN), normal(IN, WIDTH), normal(WIDTH), normal(3, 5, WIDTH)
    function = functions.Linear()
    agree(function(*variables(x, weight, bias)), np.matmul(*double(x, weight)) + bias)
    agree(function.grad(device.from_numpy(gradient))[0], np.matmul(*double(gradient, weight.T)))


@pytest.mark.parametrize("columns, probability", [([0, 2], 0.25), ([1], 0.0), ([0, 1, 2], 0.5)])
def test_lora_linear(columns, probability, normal, agree):
    x, weight, bias, gradient = normal(ROWS, IN), normal(IN, 3 * WIDTH), normal(3 * WIDTH), normal(ROWS, 3 * WIDTH)
    lora_a, lora_b, scaling = normal(len(columns) * RANK, IN), normal(len(columns) * WIDTH, RANK), 8.0
    mask, dropout = 1.0, None
    if probability:
        keys = step_key(1, 2), token_keys(np.arange(ROWS) // 5, np.arange(ROWS) % 5)
        mask = is_kept(Dropout(probability, 3, *keys), IN) / (1 - probability)
        dropout = Dropout(probability, 3, *variables(*keys))
    function = functions.LoraLinear()
    result = function(*variables(x, weight, bias, lora_a, lora_b), columns, scaling, dropout)
    d_x, _, _, d_a, d_b, *_ = function.grad(device.from_numpy(gradient))
    x, weight, gradient, lora_a, lora_b = double(x, weight, gradient, lora_a, lora_b)
    expected, expected_d_x = x @ weight + bias, gradient @ weight.T
    for index, column in enumerate(columns):
        a, b = lora_a[index * RANK:(index + 1) * RANK], lora_b[index * WIDTH:(index + 1) * WIDTH]
        part = slice(column * WIDTH, (column + 1) * WIDTH)
        expected[:, part] += scaling * (x * mask) @ a.T @ b.T
        expected_d_x += scaling * gradient[:, part] @ b @ a * mask
        agree(d_a.numpy()[index * RANK:(index + 1) * RANK], scaling * (gradient[:, part] @ b).T @ (x * mask))
        agree(d_b.numpy()[index * WIDTH:(index + 1) * WIDTH], scaling * gradient[:, part].T @ (x * mask @ a.T))
    agree(result, expected)
    agree(d_x, expected_d_x)


@pytest.mark.parametrize("mean", [0.0, 300.0])
def test_layer_norm(mean, normal, agree):
    x, weight, bias, gradient = normal(ROWS, IN) + np.float32(mean), normal(IN), normal(IN), normal(ROWS, IN)
    function = functions.LayerNorm()
    result = function(*variables(x, weight, bias), 1e-5)
    d_x = function.grad(device.from_numpy(gradient))[0]
    x, weight, gradient = double(x, weight, gradient)
    scale = 1 / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    normed, slope = (x - x.mean(1, keepdims=True)) * scale, gradient * weight
    tolerance = 2e-6 if mean == 0 else 1e-4  # at a mean of 300 float32 knows the inputs themselves to 2e-5 only
    agree(result, normed * weight + bias, tolerance)
    agree(d_x, scale * (slope - slope.mean(1, keepdims=True) - normed * (slope * normed).mean(1, keepdims=True)),
          tolerance)


def test_gelu(normal, agree):
    x, gradient = 3 * normal(ROWS, IN), normal(ROWS, IN)
    function = functions.Gelu()
    result, d_x = function(device.from_numpy(x)), function.grad(device.from_numpy(gradient))
    x = x.astype(np.float64)
    inner = np.sqrt(2 / np.pi) * (x + 0.044715 * x ** 3)
    agree(result, 0.5 * x * (1 + np.tanh(inner)))
    slope = 0.5 * (1 + np.tanh(inner)) + 0.5 * x / np.cosh(inner) ** 2 * np.sqrt(2 / np.pi) * (1 + 0.134145 * x ** 2)
    agree(d_x, gradient * slope)


@pytest.mark.parametrize("lengths, head_width", [((1,), 16), ((7, 1, 3), 16), ((31, 65, 64), 16), ((130, 33, 32), 8),
                                                 ((40, 96), 64)])
def test_attention(lengths, head_width, normal, agree):
    heads, count = 3, sum(lengths)
    width = heads * head_width
    fused, gradient = normal(count, 3 * width), normal(count, width)
    packed = pack([[0] * length for length in lengths])
    function = Attention()
    result = function(device.from_numpy(fused), heads, device.from_numpy(packed.offsets), packed.length, True, None)
    d_fused = function.grad(device.from_numpy(gradient))[0]
    expected, slopes = zip(*(plain_attention(*arrays, heads) for arrays in zip(
        *(np.split(array.astype(np.float64), np.cumsum(lengths)[:-1]) for array in (fused, gradient)))))
    agree(result, np.concatenate(expected))
    agree(d_fused, np.concatenate(slopes))


def plain_attention(fused, gradient, heads):
    """Causal attention of one sequence and its gradient."""
    length = len(fused)

    def split(array, parts):
        return array.reshape(length, parts, heads, -1).transpose(1, 2, 0, 3)

    query, key, value = split(fused, 3)
    (upper,) = split(gradient, 1)
    factor = query.shape[2] ** -0.5
    scores = query @ key.swapaxes(1, 2) * factor
    scores[:, np.triu(np.ones((length, length), bool), 1)] = -np.inf
    weights = np.exp(scores - scores.max(2, keepdims=True))
    weights /= weights.sum(2, keepdims=True)
    slope = upper @ value.swapaxes(1, 2)
    slope = weights * (slope - (weights * slope).sum(2, keepdims=True)) * factor
    slopes = np.stack([slope @ key, slope.swapaxes(1, 2) @ query, weights.swapaxes(1, 2) @ upper])
    return (weights @ value).transpose(1, 0, 2).reshape(length, -1), slopes.transpose(2, 0, 1, 3).reshape(fused.shape)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("count", [1, 150])  # 150 rows do not fit into one chunk on a processor
def test_token_losses(smoothing, count, normal, agree):
    vocabulary = 503
    hidden, embedding, gradient = normal(count, IN), normal(vocabulary, IN), normal(count)
    targets = np.random.RandomState(1).randint(0, vocabulary, count).astype(np.int32)
    function = functions.TokenLosses()
    arrays = variables(hidden, embedding, targets)
    arrays[1].stop_grad()  # of one that is trained: tests/trees/test_encoder_kernels.py
    losses = function(*arrays, smoothing)
    d_hidden = function.grad(device.from_numpy(gradient))[0]
    hidden, embedding = double(hidden, embedding)
    logits = hidden @ embedding.T
    logs = logits - logits.max(1, keepdims=True)
    logs -= np.log(np.exp(logs).sum(1, keepdims=True))
    chosen = np.eye(vocabulary)[targets]
    agree(losses, -(1 - smoothing) * (logs * chosen).sum(1) - smoothing * logs.mean(1))
    slope = np.exp(logs) - (1 - smoothing) * chosen - smoothing / vocabulary
    agree(d_hidden, gradient[:, None] * slope @ embedding, 1e-5)


def test_no_gradient_is_computed_where_none_is_asked_for(normal, monkeypatch):
    inputs, asked, run = variables(normal(3, IN), normal(50, IN), np.array([1, 2, 3], np.int32)), [], functions.run
    inputs[1].stop_grad()

    def observed(*words, **numbers):
        asked.append(numbers["gradient"])
        return run(*words, **numbers)

    monkeypatch.setattr(functions, "run", observed)
    expected = functions.TokenLosses()(*inputs, 0.0).numpy()
    with jt.no_grad():
        np.testing.assert_array_equal(functions.TokenLosses()(*inputs, 0.0).numpy(), expected)
    assert asked == [True, False]


def test_rows(normal, agree):
    x, gradient, indices = normal(ROWS, IN), normal(4, IN), np.array([3, 1, 3, 0], np.int32)
    function = functions.TakeRows()
    agree(function(*variables(x, indices)), x[indices])
    expected = np.zeros(x.shape)
    np.add.at(expected, indices, gradient)
    agree(function.grad(device.from_numpy(gradient))[0], expected)
    agree(kernels.embedding(*variables(indices.reshape(2, 2), x)), x[indices].reshape(2, 2, IN))


def test_logits(normal, agree):
    hidden, embedding = normal(ROWS, IN), normal(101, IN)
    agree(kernels.logits(*variables(hidden, embedding)), np.matmul(*double(hidden, embedding.T)))


def test_adamw(normal, agree):
    shapes, rate, decays = [(3, 4), (5,)], 0.5, [0.2, 0.4]
    p, g, m, v = ([normal(*shape) for shape in shapes] for _ in range(4))
    v = [np.abs(each) for each in v]
    values, gradients, firsts, seconds = (variables(*arrays) for arrays in (p, g, m, v))
    remainders = kernels.zeros_like(values)
    for is_good in (False, True):
        assert all(np.array_equal(found.numpy(), array) for found, array in zip(values, p))
        kernels.adamw(values, remainders, gradients, firsts, seconds, decays, rate, 0.1, 0.9, 0.99, 1e-6, is_good)
    p, g, m, v = (double(*arrays) for arrays in (p, g, m, v))
    for index, decay in enumerate(decays):
        first, second = 0.9 * m[index] + 0.1 * g[index], 0.99 * v[index] + 0.01 * g[index] ** 2
        expected = (p[index] - 0.1 * first / (np.sqrt(second) + 1e-6)) * (1 - rate * decay), first, second
        for found, array in zip((values[index], firsts[index], seconds[index]), expected):
            agree(found, array)


def test_norm_and_scale(normal, agree):
    arrays = [normal(300, 40), normal(7)]
    norm = kernels.squared_norm(variables(*arrays))
    assert norm.numpy()[0] == pytest.approx(sum((array.astype(np.float64) ** 2).sum() for array in arrays), rel=1e-12)
    for found, array in zip(kernels.scaled(variables(*arrays), device.from_numpy(np.array([0.3]))), arrays):
        agree(found, 0.3 * array.astype(np.float64))


def to_bfloat16(array):
    """Rounds to the nearest bfloat16, ties to even, as float32."""
    bits = array.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


ROUNDING = {"bf16": to_bfloat16, "fp16": lambda array: array.astype(np.float16).astype(np.float32)}


@pytest.mark.parametrize("allowed", ["fp32"], indirect=True)
@pytest.mark.parametrize("precision", ROUNDING)
def test_half_precision_rounds_both_operands_and_sums_in_float32(precision, normal, agree):
    """Also numbers too small for fp16, which become subnormal or 0, and one that becomes infinite."""
    device.set_up(DEVICE, 1, precision)
    rounded = ROUNDING[precision]
    x, weight, bias, gradient = normal(ROWS, IN), normal(IN, WIDTH), normal(WIDTH), normal(ROWS, WIDTH)
    weight[0] *= np.float32(1e-6)
    weight[1] *= np.float32(1e-9)
    function = functions.Linear()
    result = function(device.from_numpy(x), kernels.frozen(weight), device.from_numpy(bias))
    agree(result, np.matmul(*double(rounded(x), rounded(weight))) + bias)
    agree(function.grad(device.from_numpy(gradient))[0], np.matmul(*double(rounded(gradient), rounded(weight).T)))
    if DEVICE == "cpu":
        many = np.array([[1e-8, 6.1e-5, 5e-8, 3.1e38 if precision == "bf16" else 7e4, -0.0, 65503.0]], np.float32)
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(kernels.frozen(many).numpy(), rounded(many))


def test_dropout_and_its_gradient(normal, agree):
    keys = step_key(1, 2), token_keys(np.arange(ROWS), np.zeros(ROWS, np.int32))
    mask = is_kept(Dropout(0.3, 1, *keys), IN) / 0.7
    x, gradient, function = normal(ROWS, IN), normal(ROWS, IN), functions.Dropped()
    agree(function(device.from_numpy(x), Dropout(0.3, 1, *variables(*keys))), x * mask)
    agree(function.grad(device.from_numpy(gradient))[0], gradient * mask)


def test_softmax(normal, agree):
    x = normal(3, 5, 300)
    shifted = x.astype(np.float64) - x.max(axis=-1, keepdims=True)
    expected = np.exp(shifted) / np.exp(shifted).sum(axis=-1, keepdims=True)
    agree(kernels.softmax(device.from_numpy(x), device.real_dtype()), expected)
    rows = device.from_numpy(x.reshape(15, 300))
    agree(kernels.log_softmax(rows), np.log(expected).reshape(15, 300))


@pytest.mark.parametrize("square, expected", [(100.0, 0.3 / (10 + 1e-6)), (0.04, 1.0)])
def test_clip_factor(square, expected, agree):
    squares = jt.array(np.array([square]), dtype="float64")
    agree(kernels.clip_factor(squares, 0.3), np.array([expected]))
