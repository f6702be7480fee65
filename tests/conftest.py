"""Puts the sources of the tree under test on the import path, says what is tested, and names what tests read.

tests/__init__.py tells how a test run is chosen.
"""

import json
import os
import sys

import numpy as np
import pytest

from common.frameworks import MISLEADING_VARIABLES
from common.paths import ROOT
from tests import DEVICE, FRAMEWORK, LIBRARIES, has, not_collected

pytest.register_assert_rewrite("tests.alignment.programs", "tests.common.model.checkpoint_cases")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
for name in MISLEADING_VARIABLES:  # the programs that tests start are to run as tested
    os.environ.pop(name, None)
collect_ignore = list(not_collected())
if FRAMEWORK:
    # Behind the root, whose common/ stays the one that is imported. Never both trees' in one process.
    sys.path.insert(1, str(ROOT / f"NLG_{FRAMEWORK}" / "src"))


def pytest_configure():
    if FRAMEWORK and not has(LIBRARIES.get(FRAMEWORK, FRAMEWORK)):
        raise pytest.UsageError(f"NLG_TEST_FRAMEWORK={FRAMEWORK}: {sys.executable} has no such framework; expected "
                                f"one of {', '.join(LIBRARIES)} that it can import")
    if DEVICE not in ("cpu", "cuda"):
        raise pytest.UsageError(f"NLG_TEST_DEVICE={DEVICE}: expected cpu or cuda")


def pytest_report_header():
    return [f"tree under test: {FRAMEWORK or 'none'} (NLG_TEST_FRAMEWORK), on {DEVICE} (NLG_TEST_DEVICE)",
            *(f"not collected: tests/{path}: {reason}" for path, reason in not_collected().items())]


def pytest_runtest_setup(item):
    if DEVICE != "cuda" and item.get_closest_marker("gpu"):
        pytest.skip("this run tests on a CPU: NLG_TEST_DEVICE=cuda tests on a GPU")


@pytest.fixture(scope="session")
def project_root():
    return ROOT


@pytest.fixture
def on_device():
    """The tree under test, set up in fp32 on the device under test, and again behind the test."""
    import device

    device.set_up(DEVICE, 1, "fp32")
    yield
    device.set_up(DEVICE, 1, "fp32")


@pytest.fixture(params=["fp32", "fp64"])
def allowed(on_device, request):
    """The tree under test in fp32 and in fp64: ``allowed(tolerance)`` is a tolerance of fp32; in fp64 each is 1e-12."""
    import device

    device.set_up(DEVICE, 1, request.param)
    return lambda tolerance: 1e-12 if request.param == "fp64" else tolerance


@pytest.fixture
def agree(allowed):
    """``agree(found, expected)`` holds an array of the tree under test, in fp32 and fp64, to its formula in float64."""
    import device

    # Of the largest element; by default that of float32 sums of some hundred products.
    def check(found, expected, tolerance=2e-6):
        found = found if isinstance(found, np.ndarray) else device.to_numpy(found)
        assert found.shape == expected.shape and np.abs(expected).max() > 0
        assert np.abs(found - expected).max() <= allowed(tolerance) * np.abs(expected).max()
    return check


@pytest.fixture(scope="session")
def oracle():
    """The arrays of tests/oracles/make_oracle.py by name."""
    from tests.oracles.make_oracle import PATH

    with np.load(PATH) as file:
        return dict(file)


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
def vocab():
    """The folder with GPT-2's vocabulary, or a skip where setup has not filled it."""
    folder = ROOT / "vocab"
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
    from tests.oracles.plain_bpe import PlainBPE

    return PlainBPE(vocab)
