"""The test command: its groups, its status and its sum, around stand-ins for setup, ruff and pytest."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from scripts.maintain import count_tests


def write_report(folder, name, **counts):
    counts = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0, **counts}
    attributes = " ".join(f'{key}="{count}"' for key, count in counts.items())
    (folder / f"{name}.xml").write_text(f"<testsuites><testsuite {attributes}/></testsuites>")


@pytest.fixture
def reports(tmp_path):
    """A folder with the reports of ruff and of one group."""
    write_report(tmp_path, "ruff", tests=1)
    write_report(tmp_path, 0, tests=5, skipped=2)
    return tmp_path


def test_reports_are_added_up(reports, capsys):
    write_report(reports, 1, tests=3)
    assert count_tests.main([str(reports), "2"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "7 passed, 0 failed, 2 skipped"


@pytest.mark.parametrize("second", [{"tests": 0}, {"tests": 2, "failures": 1}, {"tests": 2, "errors": 1}, None])
def test_a_bad_or_missing_report_fails(reports, second):
    if second:
        write_report(reports, 1, **second)
    assert count_tests.main([str(reports), "2"]) == 1


def test_a_failure_of_ruff_fails(reports, capsys):
    write_report(reports, "ruff", tests=3, failures=3)
    assert count_tests.main([str(reports), "1"]) == 1
    assert capsys.readouterr().out == "3 passed, 3 failed, 2 skipped\n"
    (reports / "ruff.xml").unlink()
    assert count_tests.main([str(reports), "1"]) == 1


def test_where_tests_are_chosen_a_group_may_be_empty_but_not_all(reports):
    write_report(reports, 1, tests=0)
    assert count_tests.main([str(reports), "2", "--lf"]) == 0
    write_report(reports, 0, tests=0)
    assert count_tests.main([str(reports), "2", "--lf"]) == 1


# In place of an environment's Python: ruff and pytest only note how they were called and report a test; STATUS names
# the exit status of some of them.
STAND_IN = f"""#!{sys.executable}
import json, os, re, sys
assert sys.argv.pop(1) == "-E"
if sys.argv[1] != "-m":
    os.execv({sys.executable!r}, [{sys.executable!r}, *sys.argv[1:]])
program, words = sys.argv[2], sys.argv[3:]
framework = re.search(r"\\.venv_(\\w+)", sys.argv[0])[1]
status = json.loads(os.environ["STATUS"]).get(f"{{program}} {{framework}}", 0)
report = re.search(r"--(?:junitxml|output-file)[= ](\\S+)", " ".join(words))
if report:
    counts = f'tests="{{int(status != 5)}}" failures="{{int(status == 1)}}"'
    with open(report[1], "w") as file:
        file.write(f"<testsuites><testsuite {{counts}}/></testsuites>")
if program == "pytest":
    with open("calls", "a") as file:
        print(framework, *(word for word in words if "junit" not in word and word != "-o"), file=file)
sys.exit(status)
"""


@pytest.fixture
def command(tmp_path, project_root):
    """``command(*words, **status)``: the command's exit status, the sum it prints and how pytest was called."""
    shutil.copytree(project_root / "common", tmp_path / "common", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "scripts" / "maintain").mkdir(parents=True)
    (tmp_path / "scripts" / "maintain" / "common").symlink_to("../../common")
    (tmp_path / "scripts" / "common").symlink_to("../common")
    for name in ("project.sh", "run_tests.sh", "maintain/count_tests.py"):
        shutil.copy(project_root / "scripts" / name, tmp_path / "scripts" / name)
    (tmp_path / "scripts" / "setup.sh").write_text("exit 0\n")
    for framework in ("pytorch", "jittor"):
        python = tmp_path / f".venv_{framework}" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(STAND_IN)
        python.chmod(0o755)

    def run(*words, **status):
        (tmp_path / "calls").write_text("")
        status = json.dumps({name.replace("_", " "): code for name, code in status.items()})
        ended = subprocess.run(["bash", tmp_path / "scripts" / "run_tests.sh", *words], capture_output=True, text=True,
                               env={**os.environ, "STATUS": status})
        return ended.returncode, ended.stdout.splitlines()[-1], (tmp_path / "calls").read_text().splitlines()
    return run


def test_each_environment_runs_its_groups(command):
    assert command() == (0, "4 passed, 0 failed, 0 skipped", [
        "pytorch tests --ignore=tests/alignment", "jittor tests/jittor tests/trees", "pytorch tests/alignment"])
    assert command("jittor", "--", "-k", "a b") == (0, "2 passed, 0 failed, 0 skipped", [
        "jittor tests --ignore=tests/alignment -k a b"])


@pytest.mark.parametrize("failing", ["ruff_pytorch", "pytest_pytorch", "pytest_jittor"])
def test_a_failure_of_any_group_is_the_commands(command, failing):
    status, counts, calls = command(**{failing: 1})
    assert status == 1 and " 0 failed" not in counts and len(calls) == 3


def test_only_options_may_leave_a_group_empty(command):
    assert command(pytest_jittor=5)[:2] == (1, "3 passed, 0 failed, 0 skipped")
    assert command("--", "-m", "not slow", pytest_jittor=5)[:2] == (0, "3 passed, 0 failed, 0 skipped")
    assert command("--", "-m", "no such", pytest_jittor=5, pytest_pytorch=5)[:2] == (1, "1 passed, 0 failed, 0 skipped")
