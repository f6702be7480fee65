"""Programs are started with the variables of their own Python."""

import os
import subprocess
import sys

import pytest

from common import frameworks
from common.frameworks import MISLEADING_VARIABLES, interpreter, variables_for
from common.paths import ROOT


@pytest.fixture
def misled(monkeypatch):
    for name in MISLEADING_VARIABLES:
        monkeypatch.setenv(name, "/of/another/python")
    for name in ("PYTHON_PYTORCH", "PYTHON_JITTOR"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("framework", frameworks.FRAMEWORKS)
def test_an_environment_of_setup_is_not_misled(misled, monkeypatch, framework):
    monkeypatch.setenv("PYTHONUTF8", "1")
    for python, folder in ((interpreter(framework), "/"), (f"../.venv_{framework}/bin/python", ROOT / "NLG_jittor"),
                           (f".venv_{framework}/bin/python", ROOT)):
        variables = variables_for(python, folder)
        assert not set(MISLEADING_VARIABLES) & set(variables)
        assert set(os.environ) - set(variables) == set(MISLEADING_VARIABLES)


def test_an_interpreter_of_the_users_own_keeps_its_variables(misled):
    for python in ("python3", "/usr/bin/python3", f"../../.venv_{frameworks.FRAMEWORKS[0]}/bin/python"):
        assert variables_for(python, ROOT) == dict(os.environ)


@pytest.mark.parametrize("name", MISLEADING_VARIABLES)
def test_each_variable_does_mislead_and_is_taken_out(tmp_path, monkeypatch, name):
    if name == "PYTHONSAFEPATH" and sys.version_info < (3, 11):
        pytest.skip("Python 3.11 brought it")
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "json.py").write_text("raise RuntimeError('of another Python')")
    (tmp_path / "beside.py").write_text("")
    program = tmp_path / "program.py"
    program.write_text("import beside, json, site, sys; print(sys.flags, json.__file__, site.getuserbase())")

    def run(variables):
        ended = subprocess.run([sys.executable, program], capture_output=True, text=True, stdin=subprocess.DEVNULL,
                               env=variables)
        return ended.returncode, ended.stdout

    for variable in MISLEADING_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    expected = run(os.environ)
    monkeypatch.setenv(name, "1" if name in ("PYTHONINSPECT", "PYTHONOPTIMIZE", "PYTHONSAFEPATH") else
                       str(tmp_path / "packages"))
    assert run(os.environ) != expected
    assert run(frameworks.clean_variables()) == expected and expected[0] == 0
