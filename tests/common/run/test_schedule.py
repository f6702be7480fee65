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


def test_cosine():
    rate = make_schedule("cosine", 1.0, 10, 110)
    assert rate(5) == 0.5 and rate(10) == 1.0
    assert rate(60) == pytest.approx(0.5) and rate(110) == pytest.approx(0.0)
    assert rate(35) == pytest.approx(0.5 + 0.5 * math.cos(math.pi / 4))


def test_cycle_goes_from_point_to_point_and_stays_at_the_last():
    rate = make_schedule("cycle", 1.0, 0, 200, [0, 100, 200], [0.0, 1.0, 0.5])
    assert [rate(step) for step in (0, 50, 100, 150, 200, 999)] == pytest.approx([0.0, 0.5, 1.0, 0.75, 0.5, 0.5], abs=1e-6)


def test_no_warmup_starts_at_the_full_rate():
    assert make_schedule("linear", 3.0, 0, 10)(0) == 3.0
