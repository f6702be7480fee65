"""Both trees' programs, each in its own environment, and what they read."""

import pytest

from common.frameworks import interpreter
from common.paths import PRETRAINED, ROOT
from tests.alignment.programs import run


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
    def run_python(framework, *words, status=0):
        variables = {"PYTHONPATH": str(no_torch)} if framework == "jittor" else {}
        return run(interpreter(framework), *words, folder=ROOT / f"NLG_{framework}", status=status, **variables)
    return run_python


@pytest.fixture(scope="session")
def demo(tmp_path_factory, run_tree):
    """The demo data in a folder of its own."""
    folder = tmp_path_factory.mktemp("demo")
    run_tree("pytorch", ROOT / "scripts" / "make_demo_data.py", "--output", folder)
    return folder


@pytest.fixture(scope="session")
def nano():
    return PRETRAINED / "gpt2-nano" / "model.safetensors"
