"""Event arguments from data to the table, on the demo data, short: both frameworks do the same."""

import pytest

from common.files import read_json, read_json_lines
from common.frameworks import FRAMEWORKS, interpreter
from common.model.bert_files import package_folder
from tests.alignment.programs import run, run_driver

pytestmark = [pytest.mark.slow, pytest.mark.skipif(
    package_folder() is None, reason="the package with MiniLM's weights is not installed: run scripts/setup.sh")]
# The demo's own length is for users.
SHORT = ["--max_step", "8", "--log_interval", "2", "--train_batch_size", "8"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    work = tmp_path_factory.mktemp("events")
    return work, run_driver("eae", work, *SHORT)


def test_it_ends_in_a_table_of_both_frameworks(finished):
    work, result = finished
    table = (work / "table.md").read_text(encoding="utf-8")
    assert table in result.stdout and "| PyTorch | Jittor | difference |" in table
    assert "| classification, F1 |" in table and "| Thing | 1" in table
    for name in ("curves.png", "roles.png"):
        assert (work / name).read_bytes().startswith(b"\x89PNG")


def test_both_frameworks_agree(finished):
    """With dropout on; rounding alone differs."""
    logs = [[record for _, record in read_json_lines(finished[0] / framework / "train_log.jsonl")]
            for framework in FRAMEWORKS]
    assert len(logs[0]) == len(logs[1]) == 5
    for one, other in zip(*logs):
        assert one["loss"] == pytest.approx(other["loss"], rel=5e-6), one["step"]
    assert read_json(finished[0] / "results.json")["same_predictions"] >= 0.995


@pytest.mark.parametrize("precision", [[], ["--fp64"]], ids=["fp32", "fp64"])
def test_a_checkpoint_of_one_answers_in_the_other(precision, finished, project_root):
    for framework, other in (("pytorch", "jittor"), ("jittor", "pytorch")):
        (checkpoint,) = (finished[0] / framework).glob("model.*.safetensors")
        ended = run(interpreter(other), "src/bert_eae_predict.py", "--checkpoint", checkpoint, "--event_type", "Repair",
                    "--device", "cpu", *precision, "Then Ingrid [mended] the garden gate.",
                    folder=project_root / f"NLG_{other}")
        assert 'Repair, trigger "mended"' in ended.stdout


def test_a_second_run_skips_what_is_done(finished):
    again = run_driver("eae", finished[0], *SHORT)
    assert again.stdout.count("done before") == 7  # the data, and three stages of each framework
