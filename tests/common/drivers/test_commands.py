"""How stages are run, and what is taken out of a program's output before it is kept."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from common import frameworks
from common.drivers import commands
from common.drivers.commands import Command, cleaned, run_command
from common.errors import UserError
from common.paths import ROOT
from common.run.launching import VARIABLES


@pytest.mark.parametrize("text, expected", [
    ("in /srv/project/vocab and /srv/project-2/x", "in ./vocab and DIR/x"),
    ("/var/tmp/a /home/me/b", "TMP/a HOME/b"),
    ("/opt/some/lib/python3.11/site-packages/torch/nn.py:3: warning", "site-packages/torch/nn.py:3: warning"),
    ('--source /data {"path": "/mnt/x/train.jsonl"} PATH=/usr/bin:/bin',
     '--source DIR/data {"path": "DIR/train.jsonl"} PATH=DIR/bin:DIR/bin'),
    ("loss 1.5\n 10%|#  | 1/9\r 99%|## | 9/9\rdone\n\x1b[32mgreen\x1b[0m", "loss 1.5\ndone\ngreen"),
])
def test_what_belongs_to_the_machine_is_taken_out(monkeypatch, text, expected):
    monkeypatch.setattr(commands, "ROOT", Path("/srv/project"))
    monkeypatch.setattr(tempfile, "tempdir", "/var/tmp")
    monkeypatch.setenv("HOME", "/home/me")
    assert cleaned(text) == expected


@pytest.mark.parametrize("text", ["../work/e2e/x ~/x a/b | ms/batch 5 / 6 | 1/2", "https://example.org/a/b",
                                  "x[a/b]/c"])
def test_other_slashes_stay(text):
    assert cleaned(text) == text


def test_committed_logs_are_clean():
    """They were made on other machines, so it is the rule for folders in general that holds here."""
    logs = [path for path in (ROOT / "log").rglob("*") if path.suffix in (".log", ".json", ".jsonl")]
    assert len(logs) > 50
    for path in logs:
        text = path.read_text(encoding="utf-8")
        assert cleaned(text) == text, path


def test_a_stage_runs_with_the_variables_of_its_own_python(tmp_path, monkeypatch, capsys):
    """A stand-in for an environment's Python prints what it is given."""
    python = tmp_path / ".venv_jittor" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "path=$PYTHONPATH optimize=$PYTHONOPTIMIZE unbuffered=$PYTHONUNBUFFERED"\n')
    python.chmod(0o755)
    python.with_name("own").symlink_to("python")
    monkeypatch.setattr(frameworks, "ROOT", tmp_path)
    monkeypatch.setenv("PYTHONPATH", "/of/another")
    monkeypatch.setenv("PYTHONOPTIMIZE", "2")
    tree = tmp_path / "NLG_jittor"
    tree.mkdir()
    for interpreter, expected in (("../.venv_jittor/bin/python", "path= optimize= unbuffered=1"),
                                  (str(python), "path= optimize= unbuffered=1"),
                                  (str(python.with_name("own")), "path=/of/another optimize=2 unbuffered=1")):
        run_command(Command("stage", [interpreter], tree, [], [], tmp_path / "log"), tmp_path / "stamps", force=True)
        assert capsys.readouterr().out.splitlines()[-1] == expected


DRIVER = """
import sys
from pathlib import Path
from common.drivers.commands import Command, run_command
from common.errors import run_main

def main(argv):
    folder = Path(argv[0])
    command = Command("stage", [sys.executable, str(folder / "stage.py")], folder, [], [folder / "out"],
                      folder / "log", resuming=("--resume",))
    run_command(command, folder / "stamps", force=False)

run_main(main)
"""
STAGE = """
import signal, sys, time
from pathlib import Path

def stop(number, frame):
    time.sleep(0.2)  # it has something to bring to an end
    Path("ended").write_text(signal.Signals(number).name)
    sys.exit(128 + number)

signal.signal(signal.SIGINT, stop)
signal.signal(signal.SIGTERM, stop)
print("begun", *sys.argv[1:], flush=True)
while not Path("go").exists():
    print("x" * 1000, flush=True)
    time.sleep(0.01)
Path("out").touch()
"""


def test_a_driver_under_a_launcher_says_so(tmp_path, monkeypatch):
    for name, value in zip(VARIABLES["mpirun"], "0202"):
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="^mpirun has started 2 processes: a driver of several stages runs as one"):
        run_command(Command("stage", ["true"], tmp_path, [], [], tmp_path / "log"), tmp_path / "stamps", force=True)
    assert not (tmp_path / "stamps").exists()


@pytest.fixture
def driver(tmp_path):
    """A driver in the middle of its stage, which prints without end."""
    (tmp_path / "stage.py").write_text(STAGE)
    process = subprocess.Popen([sys.executable, "-c", DRIVER, tmp_path], cwd=ROOT, text=True, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, start_new_session=True,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    assert process.stdout.readline().endswith("stage.py --resume\n")
    assert process.stdout.readline() == "begun --resume\n"
    yield process
    process.kill()
    process.communicate()


def ended(folder):
    """Returns which signal the stage ended by, once it has."""
    for _ in range(500):
        if (folder / "ended").exists() and (folder / "ended").read_text():
            return (folder / "ended").read_text()
        time.sleep(0.02)
    raise AssertionError("the stage did not end")


@pytest.mark.parametrize("number, status, word", [
    (signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")])
@pytest.mark.parametrize("whole_group", [True, False])
def test_a_signal_is_handed_on_once_and_waited_for(tmp_path, driver, number, status, word, whole_group):
    """A terminal sends Ctrl-C to a whole group of processes, another program SIGTERM to one."""
    (os.killpg if whole_group else os.kill)(driver.pid, number)
    error = driver.communicate(timeout=30)[1]
    assert (tmp_path / "ended").read_text() == signal.Signals(number).name
    assert driver.returncode == status
    assert error == f"note: the stage stage was cut off; the same command goes on with it\n-c: {word}\n"
    assert os.listdir(tmp_path / "stamps") == []


def test_a_reader_that_goes_ends_the_stage_too(tmp_path, driver):
    driver.stdout.close()
    assert driver.wait(30) == 141 and driver.stderr.read() == ""
    assert (tmp_path / "ended").read_text() == "SIGTERM"


def test_a_killed_drivers_stage_ends_too(tmp_path, driver):
    driver.kill()
    assert ended(tmp_path) == "SIGTERM"


def test_a_second_driver_leaves_the_first_ones_log_alone(tmp_path, driver):
    second = subprocess.run([sys.executable, "-c", DRIVER, tmp_path], cwd=ROOT, text=True, capture_output=True)
    assert second.returncode == 2 and second.stdout == ""
    assert f"error: the stage stage in {tmp_path}: is in use by -c (process {driver.pid} on " in second.stderr
    (tmp_path / "go").touch()
    assert driver.communicate(timeout=30)[1] == "" and driver.returncode == 0
    assert "\nbegun --resume\n" in (tmp_path / "log").read_text()


def test_a_forced_stage_is_not_resumed(tmp_path, capsys):
    command = Command("stage", [sys.executable, "-c", "import sys; print(sys.argv[1:])"], tmp_path, [], [],
                      tmp_path / "log", resuming=("--resume",))
    for force, printed in ((False, "['--resume']"), (True, "[]")):
        run_command(command, tmp_path / "stamps", force)
        assert capsys.readouterr().out.splitlines()[-1] == printed
    run_command(command, tmp_path / "stamps", False)  # the stamp holds for both
    assert "[stage] done before" in capsys.readouterr().out


@pytest.mark.parametrize("status, expected", [(1, 2), (2, 2), (3, 3), (130, 130), (143, 143), (141, 2), (-9, 2),
                                              (-2, 130)])
def test_a_driver_ends_as_its_stage_where_that_tells_the_reason(tmp_path, status, expected):
    ending = f"import os, sys; sys.exit({status}) if {status} > 0 else os.kill(os.getpid(), -{status})"
    command = Command("stage", [sys.executable, "-c", f"import signal; signal.signal(2, signal.SIG_DFL); {ending}"],
                      tmp_path, [], [], tmp_path / "log")
    with pytest.raises(UserError, match=f"the stage stage ended with exit status {status}; ") as found:
        run_command(command, tmp_path / "stamps", force=True)
    assert found.value.status == expected
