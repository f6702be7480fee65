"""What a killed writer leaves half-written goes; what is being written stays."""

import os
import subprocess
import sys

import pytest

from common.files import atomic_write
from common.paths import ROOT
from common.unfinished import remove_unfinished

WRITING = """
import sys, time
from common.files import atomic_write
with atomic_write(sys.argv[1]) as file:
    print("half", file=file, flush=True)
    print("writing", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def writer(tmp_path):
    """A process in the middle of writing the file ``out``; it ends when its standard input does."""
    process = subprocess.Popen([sys.executable, "-c", WRITING, tmp_path / "out"], cwd=ROOT, stdout=subprocess.PIPE,
                               stdin=subprocess.PIPE)
    assert process.stdout.readline() == b"writing\n"
    yield process
    process.kill()
    process.wait()


def unfinished(folder):
    return [name for name in os.listdir(folder) if name.endswith(".unfinished")]


def test_what_is_being_written_stays(tmp_path, writer):
    remove_unfinished(tmp_path)
    assert len(unfinished(tmp_path)) == 1
    writer.stdin.close()
    assert writer.wait() == 0
    assert os.listdir(tmp_path) == ["out"] and (tmp_path / "out").read_text() == "half\n"


def test_what_a_killed_writer_left_goes(tmp_path, writer):
    writer.kill()
    writer.wait()
    (tmp_path / ".other.unfinished").touch()
    (tmp_path / ".not_out.abcdefgh.unfinished").touch()
    assert len(unfinished(tmp_path)) == 3
    with atomic_write(tmp_path / "out") as file:  # the next writer of the same file
        file.write("whole")
    assert sorted(os.listdir(tmp_path)) == [".not_out.abcdefgh.unfinished", ".other.unfinished", "out"]
    remove_unfinished(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".other.unfinished", "out"]


def test_a_terminated_writer_leaves_nothing(tmp_path):
    body = WRITING.replace("\n", "\n    ")
    program = f"from common.errors import run_main\ndef main(argv):{body}\nrun_main(main)"
    process = subprocess.Popen([sys.executable, "-c", program, tmp_path / "out"], cwd=ROOT, stdout=subprocess.PIPE,
                               stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == b"writing\n"
    process.terminate()
    assert process.communicate()[1] == b"-c: terminated\n" and process.returncode == 143
    assert os.listdir(tmp_path) == []
