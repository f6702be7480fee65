"""The shell scripts: clean to shellcheck, and right whatever the user's variables, folder names and way of copying."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from common.paths import ROOT

SCRIPTS = sorted([*ROOT.glob("scripts/*.sh"), ROOT / ".ci" / "run"])
SOURCED = ("run", "project.sh", "any_python.sh", "choose_python.sh")  # or, the first, executed from outside scripts/
# What this process has of them would decide what the scripts choose.
CHOICES = ("PYTHON", "PYTHON_PYTORCH", "PYTHON_JITTOR", "CDPATH")
# In place of an environment's Python: says how it was called.
STAND_IN = '#!/bin/sh\nprintf "%s|" "$@"\n'


def run(script, *words, folder=None, shell="bash", **variables):
    """Runs a script by a shell; returns the ended process."""
    environment = {name: value for name, value in os.environ.items() if name not in CHOICES}
    return subprocess.run([shell, script, *words], cwd=folder, env={**environment, **variables}, capture_output=True,
                          text=True, stdin=subprocess.DEVNULL, timeout=120)


def test_shellcheck_finds_nothing():
    program = shutil.which("shellcheck", path=sysconfig.get_path("scripts"))
    if program is None:
        pytest.skip("this environment has no shellcheck: requirement_pytorch.txt brings it")
    found = subprocess.run([program, "--external-sources", "--source-path=SCRIPTDIR", *SCRIPTS], cwd=ROOT,
                           capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr


def test_lines_are_as_short_as_pythons():
    for script in SCRIPTS:
        assert all(len(line) <= 120 for line in script.read_text(encoding="utf-8").splitlines()), script


@pytest.fixture
def checkout(tmp_path):
    """The scripts in a project of an odd name, whose environments' Pythons only say how they are called."""
    root = tmp_path / "a b & é$(touch X) 'c' [1] 项目"
    shutil.copytree(ROOT / "scripts", root / "scripts", ignore=lambda folder, names: [
        name for name in names if not name.endswith(".sh")])
    (root / "common").mkdir()
    (root / "scripts" / "common").symlink_to("../common")
    for framework in ("pytorch", "jittor"):
        python = root / f".venv_{framework}" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(STAND_IN)
        python.chmod(0o755)
    (root / "scripts" / "setup.sh").write_text("exit 0\n")
    return root


STARTED = {"create_datasets.sh": ("create_datasets.py",), "run_task.sh": ("run_task.py",),
           "download_pretrained_checkpoints.sh": ("download_pretrained_checkpoints.py",),
           "align.sh": ("align.py",), "bench.sh": ("bench/bench.py",), "check_gpu.sh": ("maintain/check_gpu.py",),
           **{f"run_{task}.sh": ("run_task.py", task) for task in ("e2e", "webnlg", "dart", "squad")}}


@pytest.mark.parametrize("cdpath", [None, ".", "..", "elsewhere"])
def test_scripts_find_the_project_whatever_cdpath_says(checkout, cdpath):
    """``elsewhere`` has folders of the same names, which cd would prefer."""
    elsewhere = checkout.parent / "elsewhere"
    for folder in (elsewhere / "scripts", elsewhere / checkout.name / "scripts"):
        folder.mkdir(parents=True)
        for path in checkout.glob("scripts/*.sh"):
            (folder / path.name).write_text("echo 'from elsewhere'; exit 3\n")
    variables = {} if cdpath is None else {"CDPATH": str(elsewhere) if cdpath == "elsewhere" else cdpath}
    for name, (program, *words) in STARTED.items():
        expected = "|".join(["-E", f"{checkout}/scripts/{program}", *words, "--name", "a b", ""])
        for script, folder in ((f"scripts/{name}", checkout), (name, checkout / "scripts"),
                               (f"{checkout.name}/scripts/{name}", checkout.parent)):
            ended = run(script, "--name", "a b", folder=folder, **variables)
            assert (ended.returncode, ended.stdout) == (0, expected), ended.stderr
    assert not list(checkout.parent.rglob("X"))


@pytest.mark.parametrize("shell", ["dash", "sh"])
def test_scripts_go_on_in_bash_where_another_shell_starts_them(checkout, shell):
    if shutil.which(shell) is None:
        pytest.skip(f"this machine has no {shell}")
    for name, (program, *words) in STARTED.items():
        ended = run(f"scripts/{name}", "--name", "a b", folder=checkout, shell=shell)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert ended.stdout == "|".join(["-E", f"{checkout}/scripts/{program}", *words, "--name", "a b", ""])
    for script in SCRIPTS:
        assert script.name in SOURCED or 'exec bash "$0" "$@"' in script.read_text(), script


NO_SETUP = 'echo "setup.sh $*"; exit 1\n'


def test_neither_help_nor_an_unknown_framework_makes_an_environment(checkout):
    (checkout / "scripts" / "setup.sh").write_text(NO_SETUP)
    for script in ("run_e2e.sh", "run_squad.sh", "run_task.sh", "bench.sh"):
        ended = run(f"scripts/{script}", "--help", folder=checkout)
        assert ended.returncode == 0 and "setup.sh --check" not in ended.stdout, ended.stderr
        assert ended.stdout.splitlines()[-1] == ("All options are listed once there is an environment, which bash "
                                                 "scripts/setup.sh makes.")
        for words in (["--framework", "torch"], ["--framework=torch"], ["--framework", ""]):
            ended = run(f"scripts/{script}", *words, folder=checkout)
            assert ended.returncode == 2 and not ended.stdout
            assert ended.stderr.endswith(f"error: found '{words[-1].removeprefix('--framework=')}', expected pytorch, "
                                         "jittor or both\n")
    (checkout / ".venv_jittor" / "setup_stamp.json").write_text("{}")
    ended = run("scripts/run_e2e.sh", "--help", folder=checkout)
    assert ended.stdout == f"-E|{checkout}/scripts/run_task.py|e2e|--help|"
    ended = run("scripts/run_e2e.sh", "-h", folder=checkout, PYTHON_PYTORCH="echo")
    assert ended.stdout == f"{checkout}/scripts/run_task.py e2e -h\n"


def test_setup_takes_a_python_under_any_path(checkout):
    """A real Python: setup.sh asks it for its version, and setup.sh's own program is not here."""
    shutil.copy(ROOT / "scripts" / "setup.sh", checkout / "scripts")
    (checkout / "my python").symlink_to(sys.executable)
    ended = run("scripts/setup.sh", folder=checkout, PYTHON=str(checkout / "my python"))
    assert ended.returncode == 2 and "setup_environment.py" in ended.stderr, ended.stderr
    (checkout / "scripts" / "setup_environment.py").write_text("import sys; print(sys.executable, sys.flags)\n")
    ended = run("scripts/setup.sh", folder=checkout, PYTHON=str(checkout / "my python"), PYTHONPATH=str(checkout),
                PYTHONOPTIMIZE="2", PYTHONHOME="/nowhere")
    assert ended.stdout.startswith(f"{checkout}/my python sys.flags(") and "optimize=0" in ended.stdout, ended.stderr


def test_an_interpreter_of_the_users_own_keeps_its_variables(checkout):
    own = checkout / "python"
    own.write_text('#!/bin/sh\nprintf "%s|" "$PYTHONPATH" "$@"\n')
    own.chmod(0o755)
    for name, variable, program in (("create_datasets.sh", "PYTHON", "create_datasets.py"),
                                    ("run_task.sh", "PYTHON_PYTORCH", "run_task.py")):
        ended = run(checkout / "scripts" / name, PYTHONPATH="/of/mine", **{variable: str(own)})
        assert ended.stdout == f"/of/mine|{checkout}/scripts/{program}|", ended.stderr


def test_missing_environments_are_made_in_one_go(checkout):
    """So that what cannot be made is known before anything is downloaded for the other."""
    (checkout / "scripts" / "setup.sh").write_text('echo "$@"; [[ $1 != --check ]]\n')
    ended = run("scripts/run_e2e.sh", folder=checkout)
    assert ended.stdout.splitlines()[:2] == ["--check both", "both"]
    ended = run("scripts/run_e2e.sh", "--framework", "jittor", folder=checkout)
    assert ended.stdout.splitlines()[:2] == ["--check jittor", "jittor"]


def copy_without_links(kind, folder):
    """Copies the scripts as some programs do: links become text files, copies of what they name, or nothing."""
    shutil.copytree(ROOT / "scripts", folder / "scripts", symlinks=True,
                    ignore=shutil.ignore_patterns("__pycache__", "common"))
    shutil.copytree(ROOT / "common", folder / "common", ignore=shutil.ignore_patterns("__pycache__"))
    if kind == "text":
        (folder / "scripts" / "common").write_text("../common")
    elif kind == "copy":
        shutil.copytree(folder / "common", folder / "scripts" / "common")


@pytest.mark.parametrize("kind", ["text", "copy", "nothing"])
def test_a_checkout_without_links_is_a_sentence(tmp_path, kind):
    copy_without_links(kind, tmp_path)
    for script in SCRIPTS:
        if script.name in SOURCED and script.name != "project.sh":
            continue
        ended = run(f"scripts/{script.name}", folder=tmp_path)
        assert ended.returncode == 2, script
        assert len(ended.stderr.splitlines()) == 1 and "core.symlinks=true" in ended.stderr, ended.stderr


@pytest.mark.parametrize("program", ["NLG_pytorch/src/gpt2_encode.py", "eval/e2e/measure_scores.py",
                                     "scripts/count_datasets.py", "scripts/bench/bench.py"])
def test_a_copy_of_common_beside_a_program_is_a_sentence(tmp_path, program):
    copied = tmp_path / program
    shutil.copytree(ROOT / "common", copied.parent / "common", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / program, copied)
    ended = subprocess.run([sys.executable, copied, "--help"], capture_output=True, text=True)
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    assert ended.stderr.startswith(f"{Path(program).name}: error: {copied.parent}/common is a copy")
