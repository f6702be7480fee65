"""scripts/maintain/check_gpu.py: which losses are compared, and how far apart they may be."""

import pytest

from common.frameworks import FRAMEWORKS
from common.precisions import DEFAULT_PRECISION, PRECISIONS
from scripts.maintain.check_gpu import AGAINST_FP32, STEPS, compared


def test_every_precision_has_a_bound():
    assert set(AGAINST_FP32) == set(PRECISIONS) - {DEFAULT_PRECISION}


@pytest.mark.parametrize("frameworks", [FRAMEWORKS, ("jittor",)])
def test_every_precision_is_held_to_fp32_and_two_also_to_each_other(frameworks):
    losses = {(framework, precision): [2.0] * STEPS for framework in frameworks for precision in PRECISIONS}
    losses["jittor", "fp64"] = [2.0 * (1 + 1e-9)] * STEPS
    found = {what: (measured, measured <= allowed) for what, measured, allowed in compared(frameworks, PRECISIONS,
                                                                                            losses)}
    assert found["jittor, fp64 against fp32"] == (pytest.approx(1e-9, rel=1e-6), True)
    assert sum("against fp32" in what for what in found) == len(frameworks) * (len(PRECISIONS) - 1)
    between = {what: passed for what, (_, passed) in found.items() if "against PyTorch" in what}
    assert between == ({"Jittor against PyTorch, fp32": True, "Jittor against PyTorch, fp64": False}
                       if len(frameworks) == 2 else {})


def test_a_run_that_failed_is_beyond_every_bound():
    losses = {("pytorch", precision): [2.0] * STEPS * (precision == DEFAULT_PRECISION) for precision in PRECISIONS}
    assert not any(measured <= allowed for _, measured, allowed in compared(["pytorch"], PRECISIONS, losses))
