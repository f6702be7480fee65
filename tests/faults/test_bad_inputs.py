"""Each program on each bad input says one clear sentence, ends with the right status and writes nothing.

The cases are listed in cases_<area>.py beside this file; those of a tree's programs run from tests/trees.
"""

import pytest

from tests.faults.cases import all_cases, case_id, check


@pytest.mark.parametrize("case", all_cases(of_a_tree=False), ids=case_id)
def test_bad_input(case, tmp_path, monkeypatch, capfd):
    check(case, tmp_path, monkeypatch, capfd)
