"""How every program ends: on a closed pipe, a full disk, an interrupt, and what the system refuses."""

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from common.data.converting import main_e2e
from common.errors import Terminated, UserError, run_main
from common.files import atomic_write
from common.paths import ROOT

NOBODY = 65534
NAMELESS = "standard output or an open file"


def end_of(main, monkeypatch, capfd, *arguments):
    """Runs ``main`` as ``program``; returns the exit status and what was written to standard error."""
    monkeypatch.setattr(sys, "argv", ["bin/program", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        run_main(main)
    return end.value.code, capfd.readouterr().err


def failing(error):
    def main(argv):
        raise error
    return main


@pytest.mark.parametrize("error, status, said", [
    (UserError("x: is y"), 2, "program: error: x: is y\n"),
    (UserError("the stage x ended with exit status 3", 3), 3, "program: error: the stage x ended with exit status 3\n"),
    (PermissionError(errno.EACCES, "Permission denied", "data/x"), 2, "program: error: data/x: Permission denied\n"),
    (OSError(errno.EXDEV, "Invalid cross-device link", "a", None, "b"), 2,
     "program: error: a and b: Invalid cross-device link\n"),
    (OSError(errno.EIO, "Input/output error"), 2, f"program: error: {NAMELESS}: Input/output error\n"),
    (OSError("no number"), 2, f"program: error: {NAMELESS}: no number\n"),
    (OSError(errno.ENOSPC, "No space left on device", "x"), 3,
     "program: error: x: No space left on device; make room, then run it again\n"),
    (OSError(errno.EDQUOT, "Disk quota exceeded", "x"), 3,
     "program: error: x: Disk quota exceeded; make room, then run it again\n"),
    (BrokenPipeError(errno.EPIPE, "Broken pipe"), 128 + signal.SIGPIPE, ""),
    (KeyboardInterrupt(), 130, "program: interrupted\n"), (Terminated(), 143, "program: terminated\n"),
])
def test_an_error_is_one_sentence_and_a_status(monkeypatch, capfd, error, status, said):
    assert end_of(failing(error), monkeypatch, capfd) == (status, said)


@pytest.mark.parametrize("result", [None, 0, 1])
def test_the_status_is_what_main_returns(monkeypatch, capfd, result):
    assert end_of(lambda argv: result, monkeypatch, capfd) == (result, "")


def test_other_errors_keep_their_traceback(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["program"])
    with pytest.raises(KeyError):
        run_main(failing(KeyError("a mistake of the program")))


def test_the_command_line_without_the_program_is_handed_over(monkeypatch, capfd):
    found = []
    assert end_of(found.extend, monkeypatch, capfd, "a", "--b") == (None, "") and found == ["a", "--b"]


PRINTING = """
import sys
from common.errors import run_main

def main(argv):
    for number in range(int(argv[0])):
        print("line", number, "é" * 50)

run_main(main)
"""


def printing(lines, stdout, **variables):
    return subprocess.run([sys.executable, "-c", PRINTING, str(lines)], cwd=ROOT, stdout=stdout, stderr=subprocess.PIPE,
                          env={**os.environ, **variables}, timeout=60)


@pytest.mark.parametrize("lines", [1, 10_000])
def test_a_closed_pipe_ends_it_without_a_word(lines):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer) as closed:
        done = printing(lines, closed)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


def test_head_ends_a_program(tmp_path):
    (tmp_path / "print.py").write_text(PRINTING)
    done = subprocess.run(["bash", "-c", '"$@" | head -n 1', "_", sys.executable, tmp_path / "print.py", "10000"],
                          text=True, cwd=ROOT, capture_output=True, timeout=60,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert (done.stdout, done.stderr) == (f"line 0 {'é' * 50}\n", "")


@pytest.mark.parametrize("lines", [1, 10_000])
def test_a_full_standard_output_is_said(lines):
    with open("/dev/full", "w") as full:
        done = printing(lines, full)
    assert done.returncode == 3
    assert done.stderr.decode() == f"-c: error: {NAMELESS}: No space left on device; make room, then run it again\n"


def test_a_standard_output_in_ascii_shows_other_characters_by_their_codes():
    done = printing(1, subprocess.PIPE, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"line 0 " + b"\\xe9" * 50 + b"\n", b"")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&-"])
def test_without_standard_streams_it_works(tmp_path, closed):
    (tmp_path / "in").write_text("name[A]||A.\n")
    program = ROOT / "NLG_pytorch/src/format_converting_e2e.py"
    done = subprocess.run(["bash", "-c", f'"$@" {closed}', "_", sys.executable, program, "in", "out"], cwd=tmp_path,
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "rror" not in done.stderr
    assert json.loads((tmp_path / "out").read_text()) == {"context": "name[A]", "completion": "A."}


@pytest.fixture
def as_nobody(monkeypatch):
    """A folder of a user who may not read and write everything, as whom the test goes on."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    (folder / "in").write_text("name[A]||A.\n")
    monkeypatch.chdir(folder)
    is_root = os.geteuid() == 0
    if is_root:
        os.chown(folder, NOBODY, NOBODY)
        os.seteuid(NOBODY)
    yield folder
    if is_root:
        os.seteuid(0)
    shutil.rmtree(folder)


@pytest.mark.parametrize("prepare, words, sentence", [
    (lambda: os.chmod("in", 0), ["in", "out"], "in: Permission denied"),
    (lambda: (os.mkdir("closed"), os.chmod("closed", 0)), ["closed/in", "out"], "closed/in: Permission denied"),
    (lambda: (os.mkdir("shut"), os.chmod("shut", 0o555)), ["in", "shut/out"],
     "shut/out: cannot be written: shut does not let this user write"),
    (lambda: (os.mkdir("shut"), os.chmod("shut", 0o555)), ["in", "shut/a/b/out"],
     "shut/a/b/out: cannot be written: shut does not let this user write"),
    (lambda: (Path("out").touch(), os.chmod("out", 0o444)), ["in", "out"],
     "out: cannot be written: out does not let this user write"),
])
def test_what_a_user_may_not_do_is_said(as_nobody, monkeypatch, capfd, prepare, words, sentence):
    if "in: Permission" in sentence and words[0] == "in" and os.geteuid() == NOBODY:
        os.seteuid(0)  # the file is root's
        prepare()
        os.seteuid(NOBODY)
    else:
        prepare()
    before = sorted(os.listdir())
    status, said = end_of(main_e2e, monkeypatch, capfd, *words)
    assert status == 2
    assert said.replace(f"{as_nobody.resolve()}/", "") == f"program: error: {sentence}\n"
    assert sorted(os.listdir()) == before


def test_a_disk_that_fills_up_leaves_the_old_file_and_is_said(tmp_path, monkeypatch, capfd):
    """The limit on the size of a process's files stands for the disk."""
    path = tmp_path / "out"
    path.write_text("old")

    def main(argv):
        with atomic_write(path) as file:
            file.write("x" * 200_000)

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        status, said = end_of(main, monkeypatch, capfd)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert (status, said) == (2, f"program: error: {path}: File too large\n")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["out"]


def test_what_scoring_and_decoding_write_at_the_readmes_paths_is_ignored_by_git():
    paths = ["eval/GenerationEval/data/hypothesis_webnlg", "NLG_jittor/e2e_ref.txt"]
    done = subprocess.run(["git", "check-ignore", *paths], cwd=ROOT, capture_output=True, text=True)
    if "not a git repository" in done.stderr:
        pytest.skip("the project is no git repository here")
    assert done.stdout.split() == paths


def test_a_worker_of_a_pool_ends_upon_sigterm_as_any_process_does():
    """With a handler in Python, one that is about to wait for its next task would miss it, and the pool's end hang."""
    program = """
import multiprocessing, signal
from common.errors import run_main
from common.signals import Stop

def main(argv):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell runs the tests in the background
    with Stop(print), multiprocessing.get_context("fork").Pool(1) as pool:
        for number in (signal.SIGTERM, signal.SIGINT):
            print(pool.apply(signal.getsignal, (number,)) in (signal.SIG_DFL, signal.default_int_handler))
            print(signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler))

run_main(main)
"""
    found = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (found.stdout.split(), found.stderr) == (["True", "False"] * 2, "")
