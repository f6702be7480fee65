"""Learning rates by the formulas of the schedules."""

import math

import pytest

from common.run.schedule import make_schedule


def test_linear():
    rate = make_schedule("linear", 2e-4, 500, 26290)
    assert rate(0) == 0.0
    assert rate(100) == pytest.approx(4e-5)  # the original's log line: step 100, lr 4e-05
    assert rate(500) == 2e-4
    assert rate((500 + 26290) // 2) == pytest.approx(1e-4)
    assert rate(26290) == 0.0 and rate(30000) == 0.0


def test_constant_with_warmup():
    rate = make_schedule("constant", 1.0, 4, 10)
    assert [rate(step) for step in (0, 1, 4, 100)] == [0.0, 0.25, 1.0, 1.0]


def test_cosine_is_not_shifted_by_the_warm_up():
    rate = make_schedule("cosine", 1.0, 10, 100)
    assert rate(5) == 0.5 and rate(9) == 0.9
    for step in (10, 25, 50, 99):
        assert rate(step) == pytest.approx((1 + math.cos(math.pi * step / 100)) / 2)
    assert rate(100) == rate(150) == 0.0


def test_cycle_goes_from_point_to_point_and_has_the_last_rate_outside():
    rate = make_schedule("cycle", 1.0, 0, 200, [0, 100, 200], [0.0, 1.0, 0.5])
    expected = [0.0, 0.5, 1.0, 0.75, 0.5, 0.5]
    assert [rate(step) for step in (0, 50, 100, 150, 200, 999)] == pytest.approx(expected, abs=1e-6)
    late = make_schedule("cycle", 1.0, 0, 30, [10, 20, 30], [0.1, 1.0, 0.5])
    assert [late(step) for step in (0, 1, 9, 10, 15)] == pytest.approx([0.1, 0.5, 0.5, 0.1, 0.55], abs=1e-6)


def test_no_warmup_starts_at_the_full_rate():
    assert make_schedule("linear", 3.0, 0, 10)(0) == 3.0
