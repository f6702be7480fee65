"""Distances of arrays, by hand."""

import numpy as np
import pytest

from common.align.differences import CHUNK, difference, relative_gap


def test_each_number_by_hand():
    found = difference("x", np.array([3.0, -4.0], np.float32), np.array([3.0, -4.5], np.float32))
    assert (found.max_abs, found.relative) == (0.5, 0.125)
    assert found.rms == pytest.approx(0.5 / 5)
    assert found.cosine == pytest.approx((9 + 18) / (5 * np.sqrt(9 + 20.25)))
    assert found.ulps == 2**20  # between 4 and 8 float32 has 2^23 numbers


def test_units_in_the_last_place_count_over_zero_and_powers_of_two():
    one = np.float32(1)
    below, above = np.nextafter(one, np.float32(0)), np.nextafter(one, np.float32(2))
    assert difference("x", np.array([below]), np.array([above])).ulps == 2
    tiny = np.nextafter(np.float32(0), one)
    assert difference("x", np.array([-tiny]), np.array([2 * tiny])).ulps == 3
    assert difference("x", np.array([one]), np.array([-one])).ulps == 2 * int(one.view(np.int32))


def test_units_in_the_last_place_leave_out_what_is_a_hundredth_of_the_largest():
    expected, found = np.array([1.0, 0.009, 0.011], np.float32), np.array([1.0, -0.009, 0.011], np.float32)
    assert difference("x", expected, found).ulps == 0
    assert difference("x", expected, np.nextafter(expected, np.float32(2))).ulps == 1


def test_equal_arrays_have_no_distance_even_where_they_are_zero():
    for array in (np.zeros(3, np.float32), np.ones((2, 2)), np.zeros((0, 4))):
        found = difference("x", array, array.copy())
        assert (found.max_abs, found.relative, found.rms, found.cosine, found.ulps) == (0, 0, 0, 1, 0)


def test_what_is_zero_in_one_alone_is_infinitely_far_in_its_terms():
    found = difference("x", np.zeros(2), np.array([0.0, 1e-9]))
    assert (found.max_abs, found.relative, found.rms, found.cosine) == (1e-9, np.inf, np.inf, 0)


@pytest.mark.parametrize("found", [np.ones(3), np.array([1.0, np.nan]), np.array([1.0, np.inf])])
def test_other_shapes_and_numbers_that_are_none_are_infinitely_far(found):
    assert difference("x", np.ones(2), found).relative == np.inf


def test_the_parts_of_a_long_array_make_the_whole():
    generator = np.random.RandomState(0)
    one = generator.randn(2 * CHUNK + 7).astype(np.float32)
    other = one + (1e-3 * generator.randn(one.size)).astype(np.float32)
    found, gaps = difference("x", one, other), other.astype(np.float64) - one
    assert found.max_abs == np.abs(gaps).max() and found.relative == np.abs(gaps).max() / np.abs(one).max()
    assert found.rms == pytest.approx(np.linalg.norm(gaps) / np.linalg.norm(one.astype(np.float64)), rel=1e-9)
    assert 1 - found.cosine == pytest.approx(found.rms ** 2 / 2, rel=0.01)


def test_relative_gap():
    assert relative_gap(np.array([2.0, -4.0]), np.array([2.5, -3.0])).tolist() == [0.25, 0.25]
