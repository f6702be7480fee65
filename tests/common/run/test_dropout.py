"""The masks of LoRA's dropout: their rate, and that nothing that should not decide them does."""

import itertools

import numpy as np
import pytest

from common.run.batching import Row, make_batch
from common.run.dropout import Dropout, is_kept, mixed, step_key, token_keys

LENGTHS = np.random.RandomState(0).randint(20, 80, 64)
ROWS = np.repeat(np.arange(64), LENGTHS)
POSITIONS = np.concatenate([np.arange(length) for length in LENGTHS])
WIDTH = 256


def dropped(probability, seed=110, step=5, stream=0, rows=ROWS, positions=POSITIONS):
    return ~is_kept(Dropout(probability, stream, step_key(seed, step), token_keys(rows, positions)), WIDTH)


def deviations(first, second, probability):
    """How many standard deviations the agreement of two masks is from that of independent ones."""
    variance = probability * (1 - probability)
    products = (first - probability) * (second - probability)
    return products.mean() / variance * np.sqrt(products.size)


@pytest.mark.parametrize("probability", [0.05, 0.1, 0.5, 0.9])
def test_the_rate_holds_for_all_and_for_each_token_and_feature(probability):
    mask = dropped(probability)
    variance = probability * (1 - probability)
    assert abs(mask.mean() - probability) < 5 * np.sqrt(variance / mask.size)
    for axis in (0, 1):
        means = mask.mean(axis)
        # A sum of squares of as many standard normal numbers: its mean is their count, its variance twice that.
        statistic = ((means - probability) ** 2).sum() / variance * mask.shape[axis]
        assert abs(statistic - len(means)) < 5 * np.sqrt(2 * len(means)), axis


@pytest.mark.parametrize("probability", [0.1, 0.5])
def test_neighbours_steps_streams_and_seeds_are_independent(probability):
    mask = dropped(probability)
    pairs = {f"{step} tokens and {other} features apart": (mask[step:, other:], mask[:len(mask) - step, :WIDTH - other])
             for step, other in itertools.product((0, 1, 2, 5), (0, 1, 2, 3, 16, 64, 128)) if (step, other) != (0, 0)}
    pairs |= {f"stream {stream}": (mask, dropped(probability, stream=stream)) for stream in (1, 2, 3, 4, 95)}
    pairs |= {f"step {step}": (mask, dropped(probability, step=step)) for step in (1, 4, 6, 7, 105, 20000)}
    pairs |= {f"seed {seed}": (mask, dropped(probability, seed=seed)) for seed in (0, 109, 111, 2**32 - 1)}
    pairs["step and seed exchanged"] = (dropped(probability, seed=7, step=8), dropped(probability, seed=8, step=7))
    for what, pair in pairs.items():
        assert abs(deviations(*pair, probability)) < 5, what


def test_the_order_of_rows_and_what_lies_beside_them_change_nothing():
    mask, swapped = dropped(0.3), np.random.RandomState(1).permutation(len(ROWS))
    assert np.array_equal(dropped(0.3, rows=ROWS[swapped], positions=POSITIONS[swapped]), mask[swapped])
    assert np.array_equal(dropped(0.3, rows=ROWS[100:140], positions=POSITIONS[100:140]), mask[100:140])


def test_mixing_maps_different_numbers_to_different_ones():
    with np.errstate(over="ignore"):
        numbers = mixed(np.arange(2**17, dtype=np.uint32))
    assert len(np.unique(numbers)) == 2**17


def test_a_batch_carries_the_keys_of_its_tokens():
    rows = [Row([1, 2], [3]), Row([4], [5, 6, 7])]
    batch = make_batch(rows, 3, step_key=step_key(1, 2), first_row=6)
    assert np.array_equal(batch.token_keys, token_keys(np.array([6, 6, 6, 7, 7, 7]), np.array([0, 1, 2, 0, 1, 2])))
    assert np.array_equal(batch.step_key, step_key(1, 2))


def test_keys_are_refused_where_they_would_collide():
    with pytest.raises(ValueError, match="expected less than"):
        token_keys(np.array([2**15]), np.array([0]))
