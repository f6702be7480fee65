"""Kernels of the PyTorch tree against their formulas in float64, where a vocabulary's length makes float32 hard."""

import numpy as np
import pytest

import device
import kernels

pytestmark = pytest.mark.usefixtures("on_device")
ROWS, VOCABULARY = 24, 50257


@pytest.fixture
def logits():
    """Far below zero as GPT-2's are, one token of each row far more probable than the many others together."""
    logits = np.random.RandomState(0).randn(ROWS, VOCABULARY) - 40
    logits[:, 0] += np.linspace(10, 20, ROWS)
    return logits.astype(np.float32)


def log_probabilities(logits):
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def test_log_softmax_over_a_vocabulary(logits):
    found = device.to_numpy(kernels.log_softmax(device.from_numpy(logits)))
    # A number between 16 and 32 is stored to 1e-6.
    np.testing.assert_allclose(found, log_probabilities(logits), rtol=2e-7, atol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_over_a_vocabulary(logits, smoothing):
    """The loss of each row and its gradient, row ``i`` of which counts ``i + 1`` times."""
    targets, weights = np.argsort(logits, axis=1)[:, -7].astype(np.int32), np.arange(1, ROWS + 1)
    expected = log_probabilities(logits)
    at_target = np.zeros((ROWS, VOCABULARY))
    at_target[np.arange(ROWS), targets] = 1
    slopes = np.exp(expected) - (1 - smoothing) * at_target - smoothing / VOCABULARY
    losses = -(1 - smoothing) * expected[np.arange(ROWS), targets] - smoothing * expected.mean(axis=1)

    hidden = device.from_numpy(logits).requires_grad_()
    found = kernels.CrossEntropy.apply(hidden, device.from_numpy(targets), smoothing)
    (found * device.from_numpy(weights.astype(np.float32))).sum().backward()
    np.testing.assert_allclose(device.to_numpy(found), losses, rtol=3e-7)
    gradient = device.to_numpy(hidden.grad) / weights[:, None]
    np.testing.assert_allclose(gradient, slopes, rtol=3e-6, atol=1e-10)
