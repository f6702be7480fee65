"""Puts the project's root on the import path and names the folders that tests read."""

import json
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
pytest.register_assert_rewrite("tree_checks")
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(scope="session")
def project_root():
    return ROOT


def shared_folder(name):
    """The folder of real data or official scores beside the checkout, or a skip where it is absent."""
    folder = ROOT.parent / "shared" / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here: real data is not part of the repository")
    return folder


@pytest.fixture(scope="session")
def shared_data():
    return shared_folder("data")


@pytest.fixture(scope="session")
def metric_case():
    """A function from a case's name to its folder and its entry in expected.json, where the official scores are.

    Cases are in tests/data/metric_cases; larger ones, which are not part of the repository, are skipped where absent.
    """
    def find(name):
        folder = ROOT / "tests/data/metric_cases"
        cases = json.loads((folder / "expected.json").read_text())
        if name not in cases:
            folder = shared_folder("metric_cases")
            cases = json.loads((folder / "expected.json").read_text())
        return folder, cases[name]
    return find


@pytest.fixture(scope="session")
def vocab(project_root):
    """The folder with GPT-2's vocabulary, or a skip where setup has not filled it."""
    folder = project_root / "vocab"
    if not all((folder / name).is_file() for name in ("encoder.json", "vocab.bpe")):
        pytest.skip("vocab/ is not filled: run scripts/setup.sh")
    return folder


@pytest.fixture(scope="session")
def tokenizer(vocab):
    """GPT-2's tokenizer."""
    from common.data.tokenizer import load_tokenizer

    return load_tokenizer(vocab)


@pytest.fixture(scope="session")
def plain(vocab):
    """The slow, plain tokenizer that is the fast one's oracle."""
    from plain_bpe import PlainBPE

    return PlainBPE(vocab)
