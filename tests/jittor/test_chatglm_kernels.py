"""Each of ChatGLM2's kernels in the Jittor tree, forward and backward, against its formula in float64 numpy."""

import jittor_setup  # noqa: F401  decides the environment before Jittor is imported

import jittor as jt
import numpy as np
import pytest

from common.model.rotary import rotary_numbers
from common.run.dropout import Dropout, is_kept, step_key, token_keys

from kernel_sources import chatglm_functions as functions

pytestmark = pytest.mark.usefixtures("on_device")
TOLERANCE = 2e-6  # of the largest element; float32 sums of some hundred products
ROWS, IN, OUT, RANK = 37, 48, 56, 4


@pytest.fixture
def normal():
    generator = np.random.RandomState(0)
    return lambda *shape: generator.randn(*shape).astype(np.float32)


def agree(found, expected, tolerance=TOLERANCE):
    found = found.numpy()
    assert found.shape == expected.shape and np.abs(expected).max() > 0
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


def double(*arrays):
    return [array.astype(np.float64) for array in arrays]


def variables(*arrays):
    return [jt.array(array) for array in arrays]


@pytest.mark.parametrize("scale", [1.0, 1e-3])  # so small that the added 1e-5 counts
def test_rms_norm(scale, normal):
    x, weight, gradient = normal(ROWS, IN) * np.float32(scale), normal(IN), normal(ROWS, IN)
    function = functions.RMSNorm()
    result, d_x = function(*variables(x, weight)), function.grad(jt.array(gradient))[0]
    x, weight, gradient = double(x, weight, gradient)
    inverse = 1 / np.sqrt((x ** 2).mean(1, keepdims=True) + 1e-5)
    agree(result, x * inverse * weight)
    slope = gradient * weight
    agree(d_x, inverse * slope - x * inverse ** 3 * (slope * x).mean(1, keepdims=True))


def test_swiglu(normal):
    x, gradient = 3 * normal(ROWS, 2 * IN), normal(ROWS, IN)
    function = functions.SwiGLU()
    result, d_x = function(jt.array(x)), function.grad(jt.array(gradient))
    gate, up = np.split(x.astype(np.float64), 2, axis=1)
    share = 1 / (1 + np.exp(-gate))
    agree(result, gate * share * up)
    agree(d_x, np.concatenate([gradient * up * (share + gate * share * (1 - share)), gradient * gate * share], axis=1))


def test_rotate(normal):
    """As a product of complex numbers, which the kernel writes out."""
    heads, others, head_width = 3, 2, 16
    fused, gradient = (normal(ROWS, (heads + others) * head_width) for _ in range(2))
    turns = rotary_numbers(200, head_width)[np.arange(ROWS) * 5]
    function = functions.Rotate()
    result, d_fused, *_ = (function(*variables(fused, turns), heads, head_width),
                           *function.grad(jt.array(gradient)))
    complex_turns = (turns[:, :4].astype(np.float64) + 1j * turns[:, 4:])[:, None]
    for found, array, factor in ((result, fused, complex_turns), (d_fused, gradient, complex_turns.conj())):
        expected = array.astype(np.float64).reshape(ROWS, heads + others, head_width).copy()
        turned = (expected[:, :heads, 0:8:2] + 1j * expected[:, :heads, 1:8:2]) * factor
        expected[:, :heads, 0:8:2], expected[:, :heads, 1:8:2] = turned.real, turned.imag
        agree(found, expected.reshape(ROWS, -1))


def test_angles_of_rotation():
    """Position 3 turns the second of 32 pairs of a head of 128 by 3 * 10000^(-2/64)."""
    turns = rotary_numbers(5, 128)
    assert turns.shape == (5, 64) and (turns[0, :32] == 1).all() and (turns[0, 32:] == 0).all()
    angle = 3 * 10000 ** (-2 / 64)
    np.testing.assert_allclose(turns[3, [1, 33]], [np.cos(angle), np.sin(angle)], rtol=1e-6)


@pytest.mark.parametrize("lengths, heads, groups, head_width",
                         [((1,), 4, 2, 16), ((7, 1, 3), 4, 2, 16), ((33, 70, 64), 6, 2, 128), ((40, 9), 3, 3, 8),
                          ((21,), 4, 1, 32)])
def test_grouped_attention(lengths, heads, groups, head_width, normal):
    count = sum(lengths)
    fused, gradient = normal(count, (heads + 2 * groups) * head_width), normal(count, heads * head_width)
    ends = np.cumsum(lengths)
    function = functions.GroupedAttention()
    result = function(jt.array(fused), heads, groups, [0, *ends.tolist()])
    d_fused = function.grad(jt.array(gradient))[0]
    expected, slopes = zip(*(plain_attention(*arrays, heads, groups) for arrays in zip(
        *(np.split(array.astype(np.float64), ends[:-1]) for array in (fused, gradient)))))
    agree(result, np.concatenate(expected))
    agree(d_fused, np.concatenate(slopes))


def plain_attention(fused, gradient, heads, groups):
    """Causal attention of one sequence, head by head, and its gradient."""
    length = len(fused)
    parts = fused.reshape(length, heads + 2 * groups, -1)
    upper, slopes, output = gradient.reshape(length, heads, -1), np.zeros_like(parts), []
    for head in range(heads):
        at_key = heads + head // (heads // groups)
        query, key, value = parts[:, head], parts[:, at_key], parts[:, at_key + groups]
        factor = query.shape[1] ** -0.5
        scores = np.where(np.tri(length, dtype=bool), query @ key.T * factor, -np.inf)
        weights = np.exp(scores - scores.max(1, keepdims=True))
        weights /= weights.sum(1, keepdims=True)
        output.append(weights @ value)
        slope = upper[:, head] @ value.T
        slope = weights * (slope - (weights * slope).sum(1, keepdims=True)) * factor
        slopes[:, head] = slope @ key
        slopes[:, at_key] += slope.T @ query
        slopes[:, at_key + groups] += weights.T @ upper[:, head]
    return np.concatenate(output, axis=1), slopes.reshape(length, -1)


@pytest.mark.parametrize("has_bias", [False, True])
def test_linear(has_bias, normal):
    x, weight, bias, gradient = normal(ROWS, IN), normal(OUT, IN), normal(OUT), normal(ROWS, OUT)
    function = functions.Linear()
    result = function(*variables(x, weight), jt.array(bias) if has_bias else None)
    agree(result, np.matmul(*double(x, weight.T)) + bias * has_bias)
    agree(function.grad(jt.array(gradient))[0], np.matmul(*double(gradient, weight)))


@pytest.mark.parametrize("probability", [0.0, 0.25])
def test_lora_linear(probability, normal):
    x, weight, bias, gradient = normal(ROWS, IN), normal(OUT, IN), normal(OUT), normal(ROWS, OUT)
    lora_a, lora_b, scaling = normal(RANK, IN), normal(OUT, RANK), 0.5
    mask, dropout = 1.0, None
    if probability:
        keys = step_key(1, 2), token_keys(np.arange(ROWS) // 5, np.arange(ROWS) % 5)
        mask = is_kept(Dropout(probability, 3, *keys), IN) / (1 - probability)
        dropout = Dropout(probability, 3, *variables(*keys))
    function = functions.LoraLinear()
    result = function(*variables(x, weight, bias, lora_a, lora_b), scaling, dropout)
    d_x, _, _, d_a, d_b, *_ = function.grad(jt.array(gradient))
    x, weight, gradient, lora_a, lora_b = double(x, weight, gradient, lora_a, lora_b)
    agree(result, x @ weight.T + bias + scaling * (x * mask) @ lora_a.T @ lora_b.T)
    agree(d_x, gradient @ weight + scaling * gradient @ lora_b @ lora_a * mask)
    agree(d_a, scaling * (gradient @ lora_b).T @ (x * mask))
    agree(d_b, scaling * gradient.T @ (x * mask @ lora_a.T))
