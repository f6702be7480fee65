"""What a bad input is, and how a program is run on it: cases_<area>.py list them, test_bad_inputs.py runs them."""

import importlib
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from common.frameworks import interpreter
from common.paths import ROOT
from tests import FRAMEWORK

TIMEOUT_S = 120


@dataclass(frozen=True)
class Case:
    """A program, what it is given, and what it must say.

    Attributes:
        name: unique for the program; part of the test's name.
        program: its path from the root; ``src/...`` is that of the tree under test.
        arguments: of the command line; relative paths are seen from the case's own folder.
        sentence: regular expression that must be found on standard error.
        status: the exit status; 0 is for an input that is accepted.
        files: ``{path in the case's folder: text or bytes}``, written before the program starts.
        prepare: called with the folder after the files are written, to make what is no plain file.
        written: regular expression of the paths that the program may write or change; by default none.
        output: ``{path: its text behind the run}``.
        is_process: whether the program must run as a process of its own, which takes a second; otherwise it runs in
            the tests' process. Standard input and environment variables need one.
        stdin: bytes of standard input.
        environment: variables, on top of the tests' own; None unsets one.
    """

    name: str
    program: str
    arguments: Sequence[str]
    sentence: str = ""
    status: int = 2
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    prepare: Callable[[Path], object] | None = None
    written: str = r"(?!)"
    output: Mapping[str, str] = field(default_factory=dict)
    is_process: bool = False
    stdin: bytes | None = None
    environment: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def is_of_a_tree(self) -> bool:
        """Whether the program belongs to a tree."""
        return self.program.startswith("src/")

    @property
    def path(self) -> Path:
        """The program's file."""
        return ROOT / (f"NLG_{FRAMEWORK}" if self.is_of_a_tree else "") / self.program


def all_cases(of_a_tree: bool) -> list[Case]:
    """Returns the cases of every cases_*.py whose program does or does not belong to a tree."""
    modules = [importlib.import_module(f"tests.faults.{path.stem}") for path in
               sorted(Path(__file__).parent.glob("cases_*.py"))]
    return [case for module in modules for case in module.CASES if case.is_of_a_tree == of_a_tree]


def case_id(case: Case) -> str:
    """Returns the name of a case's test."""
    return f"{Path(case.program).stem}-{case.name}"


def contents(folder: Path) -> dict[str, object]:
    """Returns ``{path: bytes, or what else it is}`` of all that a folder holds."""
    found: dict[str, object] = {}
    for path in folder.rglob("*"):
        name = os.path.relpath(path, folder)
        if path.is_symlink():
            found[name] = f"link to {os.readlink(path)}"
        elif path.is_file():
            found[name] = path.read_bytes()
        else:
            found[name] = oct(path.lstat().st_mode)
    return found


def run_here(case: Case, monkeypatch, capfd) -> tuple[int, str]:
    """Runs a program in this process; returns its exit status and what it wrote to standard error."""
    monkeypatch.setattr(sys, "argv", [str(case.path), *case.arguments])
    capfd.readouterr()
    try:
        runpy.run_path(str(case.path), run_name="__main__")
        status = 0
    except SystemExit as exit_:
        status = exit_.code or 0
    return status, capfd.readouterr().err


def run_process(case: Case, folder: Path) -> tuple[int, str]:
    """Runs a program as a process; returns its exit status and what it wrote to standard error."""
    python = interpreter(FRAMEWORK) if case.is_of_a_tree else sys.executable
    environment = {name: value for name, value in {**os.environ, **case.environment}.items() if value is not None}
    found = subprocess.run([python, case.path, *case.arguments], cwd=folder, env=environment, capture_output=True,
                           input=case.stdin or b"", timeout=TIMEOUT_S)
    return found.returncode, found.stderr.decode("utf-8", "backslashreplace")


def check(case: Case, folder: Path, monkeypatch, capfd) -> None:
    """Runs a case in an empty folder and compares status, sentence and files with what it expects."""
    for name, content in case.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    if case.prepare:
        case.prepare(folder)
    monkeypatch.chdir(folder)
    before = contents(folder)
    if case.is_process or case.stdin is not None or case.environment:
        status, error = run_process(case, folder)
    else:
        status, error = run_here(case, monkeypatch, capfd)
    after = contents(folder)
    assert "Traceback" not in error, error
    assert status == case.status, error
    assert re.search(case.sentence, error), f"expected {case.sentence!r}, found:\n{error}"
    if status:
        assert error.strip().splitlines()[-1].startswith(f"{case.path.name}: error: "), error
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert not {name for name in changed if not re.fullmatch(case.written, name)}, error
    for name, text in case.output.items():
        assert (folder / name).read_text(encoding="utf-8") == text
