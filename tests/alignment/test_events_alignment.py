"""BERT's training in one framework against the other, over a hundred steps with all its dropouts."""

import pytest

from common.align.compare import loss_curves, steps, weights
from common.align.dump import Dump
from common.paths import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def events(tmp_path_factory, run_tree):
    """The demo events in a folder of their own."""
    folder = tmp_path_factory.mktemp("events")
    run_tree("pytorch", ROOT / "scripts" / "make_demo_data.py", "events", "--output", folder)
    return next(folder.rglob("train.json")).parent


@pytest.mark.parametrize("rank", [16, 0])
def test_losses_and_weights_agree_over_a_hundred_steps(rank, events, tmp_path, run_tree):
    dumps = []
    for framework in ("pytorch", "jittor"):
        path = tmp_path / f"{framework}.npz"
        run_tree(framework, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tests.alignment.train_events "
                 f"import main; main({framework!r}, {str(path)!r}, {str(events)!r}, '{rank}')")
        dumps.append(Dump(path))
    curves = loss_curves(*dumps, "fp32")
    assert 0 < curves["gap"].max(), "two programs that add up in other orders"
    for point in (steps(curves, "fp32"), weights(*dumps, "fp32")):
        assert point.passed, point
    losses = dumps[0]["steps/losses"]
    assert losses[-20:].mean() < 0.9 * losses[:20].mean()
