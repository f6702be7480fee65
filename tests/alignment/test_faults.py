"""The short form of tests/faults/try_faults.py: kills, signals and a full disk, in both frameworks."""

import pytest

from common.files import read_json
from common.frameworks import FRAMEWORKS
from tests.faults.try_faults import main

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_faults_are_borne(framework, tmp_path):
    words = ["--framework", framework, "--kills", "2", "--only", "kills,signals,full_disk", "--output", str(tmp_path)]
    status = main(words)
    record = read_json(tmp_path / f"{framework}.json", dict)
    assert [(fault["fault"], fault["failure"]) for fault in record["faults"]] == [
        ("kills", None), ("signals", None), ("full_disk", None)]
    assert [len(fault["details"]) for fault in record["faults"]] == [2, 2, 1] and status == 0
