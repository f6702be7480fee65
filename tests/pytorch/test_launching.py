"""The original's launch command starts the program with a flag of its own spelling, which is taken."""

import subprocess
import sys

import pytest

from common.paths import ROOT


@pytest.mark.slow
def test_torchs_launcher_starts_one_process(tmp_path):
    """It goes on to look for the checkpoint; ``torch.distributed.launch`` itself then ends with 1."""
    words = ["-m", "torch.distributed.launch", "--nproc_per_node=1", "--master_port=0", "src/gpt2_ft.py", "--platform",
             "local", "--train_data", "none.jsonl", "--valid_data", "none.jsonl", "--init_checkpoint", "none",
             "--max_step", "3", "--work_dir", str(tmp_path)]
    ended = subprocess.run([sys.executable, *words], cwd=ROOT / "NLG_pytorch", capture_output=True, text=True,
                           stdin=subprocess.DEVNULL, timeout=300)
    assert ended.returncode == 1
    (said,) = [line for line in ended.stderr.splitlines() if line.startswith("gpt2_ft.py: ")]
    assert "none: no such checkpoint" in said, ended.stderr
