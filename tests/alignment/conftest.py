"""Runs both trees' programs as a user would, each in its own environment."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

def python_of(framework):
    return os.environ.get(f"PYTHON_{framework.upper()}") or str(ROOT / f".venv_{framework}" / "bin" / "python")


@pytest.fixture(scope="session")
def no_torch(tmp_path_factory):
    """A folder with a package named torch that cannot be imported."""
    folder = tmp_path_factory.mktemp("no_torch")
    (folder / "torch").mkdir()
    (folder / "torch" / "__init__.py").write_text("raise ImportError('the Jittor tree imported torch')\n")
    return folder


@pytest.fixture(scope="session")
def run_tree(no_torch):
    """``run_tree(framework, *words)`` runs Python inside NLG_<framework>; importing torch raises in Jittor's."""
    def run(framework, *words, status=0):
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
        if framework == "jittor":
            environment["PYTHONPATH"] = str(no_torch)
        result = subprocess.run([python_of(framework), *map(str, words)], cwd=ROOT / f"NLG_{framework}",
                                env=environment, capture_output=True, text=True, timeout=1200)
        assert result.returncode == status, result.stdout[-3000:] + result.stderr[-3000:]
        return result
    return run


@pytest.fixture(scope="session")
def demo(tmp_path_factory, run_tree):
    """The demo data in a folder of its own."""
    folder = tmp_path_factory.mktemp("demo")
    run_tree("pytorch", ROOT / "scripts" / "make_demo_data.py", "--output", folder)
    return folder


@pytest.fixture(scope="session")
def nano():
    return ROOT / "pretrained_checkpoints" / "gpt2-nano" / "model.safetensors"
