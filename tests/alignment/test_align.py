"""scripts/align.sh on the demo data, short: both frameworks compute the same, with dropout on."""

import pytest

from common.align.dump import Dump
from common.files import read_json
from tests.alignment.programs import run

pytestmark = pytest.mark.slow
SHORT = ["--steps", 8, "--contexts", 4, "--train_batch_size", 2, "--beam", 4, "--eval_len", 24, "--device", "cpu"]


def align(*words, status=0):
    return run("bash", "scripts/align.sh", *words, status=status)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A work directory after all stages, and what they printed."""
    work = tmp_path_factory.mktemp("align")
    return work, align(*SHORT, "--work_dir", work).stdout


def test_both_frameworks_compute_the_same(finished):
    work, printed = finished
    numbers = read_json(work / "comparison.json")
    assert [dump["description"]["framework"] for dump in numbers["dumps"]] == ["pytorch", "jittor"]
    assert {point["name"] for point in numbers["points"]} == {
        "forward", "forward, single-step", "loss", "backward", "optimiser", "steps", "weights", "beam"}
    assert numbers["passed"] and numbers["first_operation"] == ""
    # Two programs that add up in other orders: a difference of 0 would be a dump compared with itself.
    measured = {point["name"]: point["measured"] for point in numbers["points"]}
    assert all(measured[name] > 0 for name in ("forward", "forward, single-step", "backward", "optimiser", "weights"))
    assert "passed  steps" in printed and "All points are within their bounds." in printed
    assert (work / "report.md").is_file() and (work / "loss_gap.png").is_file()


def test_the_run_has_dropout_and_its_masks_are_the_same_bits(finished):
    dumps = [Dump(finished[0] / f"{framework}.npz") for framework in ("pytorch", "jittor")]
    assert all(dump.meta["flags"]["lora_dropout"] == dump.meta["flags"]["label_smooth"] == 0.1 for dump in dumps)
    masks = [[(mask["layer"], mask["step"], mask["sha256"]) for mask in dump.meta["masks"]] for dump in dumps]
    assert masks[0] == masks[1] and len(set(masks[0])) == 3 * 8  # steps, layers


def test_in_fp64_rounding_is_all_that_differs(tmp_path):
    """Of random weights, in a few steps."""
    align(*SHORT, "--precision", "fp64", "--steps", 4, "--contexts", 2, "--eval_len", 8, "--init_checkpoint", "random",
          "--work_dir", tmp_path)
    numbers = read_json(tmp_path / "comparison.json")
    assert numbers["passed"] and "forward, single-step" in [point["name"] for point in numbers["points"]]
    assert all(point["measured"] < 1e-12 for point in numbers["points"] if point["name"] != "weights")
    assert Dump(tmp_path / "jittor.npz")["backward/transformer.h.0.attn.c_attn.lora_B"].dtype == float


def test_stages_on_their_own_and_what_they_refuse(finished, tmp_path):
    work, _ = finished
    own = align("--compare", work / "pytorch.npz", work / "pytorch.npz", "--work_dir", tmp_path)
    assert "PyTorch against PyTorch" in own.stdout and "All points are within their bounds." in own.stdout
    other = tmp_path / "other.npz"
    align(*SHORT, "--dump", "pytorch", "--output", other, "--work_dir", tmp_path, "--steps", 1)
    refused = align("--compare", work / "pytorch.npz", other, status=2)
    assert "--steps 8" in refused.stderr and "--steps 1" in refused.stderr and "Traceback" not in refused.stderr
