"""The cases of tests/faults whose program belongs to a tree, on the tree under test."""

import pytest

from tests.faults.cases import all_cases, case_id, check


@pytest.mark.parametrize("case", all_cases(of_a_tree=True), ids=case_id)
def test_bad_input_of_a_tree(case, tmp_path, monkeypatch, capfd):
    check(case, tmp_path, monkeypatch, capfd)
