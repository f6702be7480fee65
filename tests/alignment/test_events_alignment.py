"""BERT's training in one framework against the other, with all its dropouts."""

import numpy as np
import pytest

from common.align.compare import loss_curves, steps, weights
from common.align.differences import relative_gap
from common.align.dump import Dump
from common.paths import ROOT
from tests.alignment.programs import check_trained_in_fp64

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def events(tmp_path_factory, run_tree):
    """The demo events in a folder of their own."""
    folder = tmp_path_factory.mktemp("events")
    run_tree("pytorch", ROOT / "scripts" / "make_demo_data.py", "events", "--output", folder)
    return next(folder.rglob("train.json")).parent


@pytest.fixture
def trained(events, tmp_path, run_tree):
    """``trained(rank, precision, steps)`` returns the Dump of each framework's training."""
    def train(*numbers):
        dumps = []
        for framework in ("pytorch", "jittor"):
            words = [framework, tmp_path / f"{framework}.npz", events, *numbers]
            run_tree(framework, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); "
                     f"from tests.alignment.train_events import main; main(*{[*map(str, words)]!r})")
            dumps.append(Dump(words[1]))
        return dumps
    return train


@pytest.mark.parametrize("rank", [16, 0])
def test_losses_and_weights_agree_over_a_hundred_steps(rank, trained):
    dumps = trained(rank, "fp32", 100)
    curves = loss_curves(*dumps, "fp32")
    assert 0 < curves["gap"].max(), "two programs that add up in other orders"
    for point in (steps(curves, "fp32"), weights(*dumps, "fp32")):
        assert point.passed, point
    losses = dumps[0]["steps/losses"]
    assert losses[-20:].mean() < 0.9 * losses[:20].mean()


@pytest.mark.parametrize("rank", [16, 0])
def test_in_fp64_no_loss_differs_and_hardly_a_weight(rank, trained):
    first, second = trained(rank, "fp64", 30)
    assert relative_gap(first["steps/losses"], second["steps/losses"]).max() <= 1e-12
    assert not np.array_equal(first["steps/losses"], first["steps/losses"].astype(np.float32)), "they are of float64"
    check_trained_in_fp64(first.part("steps/weights/"), second.part("steps/weights/"))
