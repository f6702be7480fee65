"""One process at a time: the second is refused, and a lock does not outlive its holder."""

import errno
import fcntl
import os
import subprocess
import sys

import pytest

from common.errors import UserError
from common.locks import exclusive
from common.paths import ROOT

HOLDING = """
import sys, time
from common.locks import exclusive
with exclusive(sys.argv[1], "x", "y"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "lock"


@pytest.fixture
def holder(path):
    """A process that holds the lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLDING, path], cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()


def test_the_second_process_is_refused_and_told_who_is_there(path, holder):
    with pytest.raises(UserError, match=rf"^work: is in use by -c \(process {holder.pid} on .*, which took it at "
                                        r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d\); wait$"):
        with exclusive(path, "work", "wait"):
            raise AssertionError("it was let in")


def test_a_killed_holder_holds_nothing(path, holder):
    holder.kill()
    holder.wait()
    assert path.exists()
    with exclusive(path, "work", "wait"):
        assert f"process {os.getpid()} on" in path.read_text()
    assert not path.exists()


def test_it_goes_with_the_block_whatever_ends_it(path):
    for error in (KeyError, KeyboardInterrupt):
        with pytest.raises(error), exclusive(path, "work", "wait"):
            raise error
        assert not path.exists()


def test_a_lock_whose_file_the_holder_took_away_is_taken_anew(path, monkeypatch):
    """Between opening the file and locking it, another process may end."""
    flock = fcntl.flock

    def late(file, kind):
        if not path.with_name("seen").exists():
            path.with_name("seen").touch()
            path.unlink()
        flock(file, kind)

    monkeypatch.setattr(fcntl, "flock", late)
    with exclusive(path, "work", "wait"):
        assert path.exists()


def test_a_file_system_without_locks_is_said(path, monkeypatch, capsys):
    def none(file, kind):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with exclusive(path, "work", "wait"):
        pass
    assert capsys.readouterr().err.startswith(f"note: {path}: this file system has no locks")
