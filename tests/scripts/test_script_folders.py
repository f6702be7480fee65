"""scripts/ as its README describes it: each command has a line there, entry points are short, links lead to common/."""

import ast
import subprocess
import sys

import pytest

from common.paths import ROOT

SCRIPTS = ROOT / "scripts"
PROGRAMS = sorted(path.relative_to(SCRIPTS) for path in [*SCRIPTS.glob("*.py"), *SCRIPTS.glob("bench/*.py"),
                                                         *SCRIPTS.glob("maintain/*.py")])


def test_each_command_has_its_line():
    text = (SCRIPTS / "README.md").read_text(encoding="utf-8")
    commands = {str(path) for path in PROGRAMS} | {path.name for path in SCRIPTS.glob("*.sh")}
    assert {name for name in commands if f"`{name}`" not in text} == set()


@pytest.mark.parametrize("path", [path for path in PROGRAMS if len(path.parts) == 1], ids=str)
def test_entry_points_only_call_what_common_holds(path):
    docstring, *body = ast.parse((SCRIPTS / path).read_text(encoding="utf-8")).body
    assert [type(statement) for statement in body] == [ast.ImportFrom, ast.ImportFrom, ast.If]
    assert all(statement.module.startswith("common.") for statement in body[:2])
    assert ast.unparse(body[2].body) == "run_main(main)" and f"scripts/{path}" in docstring.value.value


@pytest.mark.parametrize("folder", ["", "bench", "maintain"])
def test_common_can_be_imported_from_each_folder(folder):
    assert (SCRIPTS / folder / "common").is_symlink()
    assert (SCRIPTS / folder / "common").resolve() == ROOT / "common"


def test_setup_needs_the_standard_library_alone(tmp_path):
    """It runs before any package is installed; ``-S`` hides those of the running Python."""
    program = SCRIPTS / "setup_environment.py"
    ended = subprocess.run([sys.executable, "-S", program, "--help"], cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "--check" in ended.stdout


def test_a_program_of_a_subfolder_runs_from_anywhere(tmp_path):
    program = SCRIPTS / "maintain" / "update_readme.py"
    ended = subprocess.run([sys.executable, program, "--help"], cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
