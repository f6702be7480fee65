"""Commands that run only where their result is not there already.

A command leaves a stamp with its words and the hashes of what it read and wrote; while those still hold, it is skipped.
So a run that was cut off goes on where it stopped, and a changed flag or file reruns what depends on it.
"""

import functools
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError, note, status_after
from common.files import read_json, sha256_of, write_json
from common.frameworks import variables_for
from common.locks import exclusive
from common.paths import ROOT
from common.run.launching import check_alone
from common.signals import Child, exception_of
from common.unfinished import remove_unfinished

STAMP_SHAPE = {"words": [str], "files": {str: str}}


def trained_checkpoint(summary: Path) -> Path:
    """Returns the checkpoint that a training's summary names, in the summary's folder.

    Raises:
        UserError: the training has not ended.
    """
    if not summary.is_file():
        raise UserError(f"{summary}: is not there; run the stage train first")
    return summary.parent / os.path.basename(read_json(summary, {"checkpoint": str})["checkpoint"])


@dataclass(frozen=True)
class Command:
    """One step of a stage.

    Attributes:
        name: of its stamp.
        words: program and arguments.
        folder: working directory.
        inputs, outputs: files that decide whether it must run.
        log: file that gets its standard output, besides the terminal.
        more: ``() -> files`` that decide it too, and whose names are known only when the command has run.
        resuming: further words by which it goes on where it was cut off; they decide nothing.
    """

    name: str
    words: list[str]
    folder: Path
    inputs: list[Path]
    outputs: list[Path]
    log: Path
    more: Callable[[], list[Path]] = list
    resuming: tuple[str, ...] = ()


def command_in(folder: Path, python: str | Path, logs: Path, name: str, words: list, inputs: list, outputs: list,
               more: Callable[[], list] = list, resuming: tuple[str, ...] = ()) -> Command:
    """Returns the Command that runs a program of the project.

    Args:
        folder: working directory, from which paths are named.
        python: interpreter.
        logs: folder of its log.
        name, inputs, outputs, more, resuming: as in Command.
        words: program and arguments.
    """
    return Command(name, [relative(word, folder) for word in [python, *words]], folder, inputs, outputs,
                   logs / f"{name}.log", more, resuming)


def relative(word: object, folder: Path) -> str:
    """Returns a path inside the project as seen from ``folder``, where data/ and others are linked; else as text."""
    if not isinstance(word, Path) or not word.is_relative_to(ROOT):
        return str(word)
    inside = word.relative_to(ROOT)
    return str(inside) if (folder / inside.parts[0]).exists() else os.path.relpath(word, folder)


def files_of(command):
    """Returns ``{path as seen from the project: path}`` of what a command reads and writes."""
    return {os.path.relpath(path, ROOT): path for path in [*command.inputs, *command.outputs, *command.more()]}


def flags_in(words):
    """Returns ``{flag: its values, or given}`` of a command's words; before the first flag stands the flag ``""``."""
    flags, name = {}, ""
    for word in words:
        name = word if word.startswith("--") else name
        flags[name] = f"{flags.get(name, '')} {word if name != word else ''}".strip()
    return {name: value or "given" for name, value in flags.items()}


def other_flags(before, now, ignored=()):
    """Returns in words how a command differs from what it was, or None; flags in ``ignored`` may differ."""
    before, now = flags_in(before), flags_in(now)
    differing = [f"{name or 'the program'} was {before.get(name, 'absent')} and is {now.get(name, 'absent')}"
                 for name in sorted(before.keys() | now.keys())
                 if name not in ignored and before.get(name) != now.get(name)]
    return "; ".join(differing[:4]) or None


def why_again(command: Command, stamp: Path) -> str | None:
    """Returns why a command has to run, or None where its stamp still describes the command and the files."""
    try:
        recorded = read_json(stamp, STAMP_SHAPE)
        files = files_of(command)
    except (OSError, UserError) as error:
        return f"{error}"
    if recorded["words"] != command.words:
        return other_flags(recorded["words"], command.words) or "the order of its flags is another"
    if recorded["files"].keys() != files.keys():
        return f"it reads and writes other files: {min(recorded['files'].keys() ^ files.keys())}"
    return next((f"{name} {reason}" for name, path in files.items()
                 if (reason := changed(path, recorded["files"][name]))), None)


def changed(path, digest):
    """Returns in words how a file differs from what it was when it had a SHA-256, or None."""
    if not path.is_file():
        return "is not there"
    return None if digest_of(path) == digest else "has changed"


def digest_of(path):
    """Returns the SHA-256 of a file, which is read once as long as its size and time stay the same."""
    status = os.stat(path)
    return _digest_of(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(None)
def _digest_of(path, _size, _mtime_ns):
    return sha256_of(path)


def check_done(command: Command, stamp: Path, folder: Path, is_current: bool = False) -> dict[str, str]:
    """Makes sure that a command ended well and that its files inside ``folder`` are still those of then.

    Files elsewhere, such as data, may have changed since; what the command read need not be there any more.

    Args:
        is_current: whether it must have run with the flags that the command has now, on the files elsewhere that are
            there now; interpreter and device may differ.

    Returns:
        ``{path as seen from the project: SHA-256}`` of what it read and wrote.

    Raises:
        UserError: it did not end, or a file is missing or has changed.
    """
    again = f"run that stage and those after it again: --stages {command.name.split('_')[0]},..."
    if not stamp.is_file():
        raise UserError(f"{folder}: the stage {command.name} has not ended, for there is no {stamp}; run it first")
    record = read_json(stamp, STAMP_SHAPE)
    recorded = record["files"]
    # What computes, and where, may be another machine's.
    differing = is_current and other_flags(record["words"][1:], command.words[1:], ("--device",))
    if differing:
        raise UserError(f"the stage {command.name} ran with other flags than these: {differing} ({stamp}); give the "
                        f"flags that it ran with, or {again}")
    for name, path in files_of(command).items():
        if name not in recorded:
            raise UserError(f"the stage {command.name} ran without {path} ({stamp}); {again}")
    for path in command.outputs:
        if not os.path.isfile(path):
            raise UserError(f"{path}: is not there; expected what the stage {command.name} wrote ({stamp})")
    for name, digest in recorded.items():
        path = Path(os.path.normpath(ROOT / name))
        if path.is_file() and (is_current or path.is_relative_to(folder)) and changed(path, digest):
            raise UserError(f"{path}: has changed since the stage {command.name} ended ({stamp}); {again}")
    return recorded


def cleaned(text: str) -> str:
    """Returns a program's output without what belongs to the machine: colours, progress bars and absolute paths.

    The project's root becomes ``.``, the folders for temporary files and of the user TMP and HOME, what leads to a
    package nothing and any other folder DIR.
    """
    text = re.sub(r"\x1b\[[0-9;]*m|[^\n]*\r", "", text)
    for path, name in ((ROOT, "."), (Path(tempfile.gettempdir()), "TMP"), (Path.home(), "HOME")):
        if path != Path(path.anchor):
            text = re.sub(rf"{re.escape(str(path))}(?![\w-])", name, text)
    text = re.sub(r"(?<![\w.])/[\w./+-]*/(?=site-packages/|bin/|lib/)", "", text)
    return re.sub(r"(?<![\w./~)\]}>-])/(?!/)(?:[\w.+@=-]+/)*(?=[\w.+@=-])", "DIR/", text)


def run_command(command: Command, stamps: Path, force: bool) -> None:
    """Runs a command unless its stamp holds.

    Ctrl-C and SIGTERM are handed on to it; when it has ended, they end this process too.

    Args:
        command: what to run.
        stamps: folder of the stamps.
        force: whether it runs in any case, and from its beginning.

    Raises:
        UserError: it failed, and the message names its log, or another process is running it in the same folder.
        KeyboardInterrupt, Terminated: a signal has come.
    """
    check_alone("a driver of several stages")
    stamps.mkdir(parents=True, exist_ok=True)
    with exclusive(stamps / f".{command.name}", f"the stage {command.name} in {stamps.parent}",
                   "wait until that has ended, or give another --work_dir"):
        remove_unfinished(stamps)
        _run_alone(command, stamps / f"{command.name}.json", force)


def _run_alone(command, stamp, force):
    if not force and stamp.is_file():
        reason = why_again(command, stamp)
        if not reason:
            print(f"[{command.name}] done before: {', '.join(str(path) for path in command.outputs[:2])}", flush=True)
            return
        print(f"[{command.name}] again: {reason}", flush=True)
    stamp.unlink(missing_ok=True)
    words = [*command.words, *(() if force else command.resuming)]
    print(f"[{command.name}] {shlex.join(words)}", flush=True)
    command.log.parent.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    with open(command.log, "w", encoding="utf-8") as log:
        log.write(f"$ cd {os.path.relpath(command.folder, ROOT)} && {shlex.join(words)}\n")
        variables = {**variables_for(words[0], command.folder), "PYTHONUNBUFFERED": "1"}
        with Child(words, cwd=command.folder, stdout=subprocess.PIPE, text=True, encoding="utf-8", errors="replace",
                   env=variables) as child:
            for line in child.process.stdout:
                sys.stdout.write(line)
                sys.stdout.flush()
                log.write(line)
    if child.process.returncode != 0:
        if child.number is not None:
            note(f"the stage {command.name} was cut off; the same command goes on with it")
            raise exception_of(child.number)
        raise UserError(f"the stage {command.name} ended with exit status {child.process.returncode}; it says why "
                        f"above, and {command.log} has its standard output", status_after(child.process.returncode))
    absent = [path for path in command.outputs if not os.path.exists(path)]
    if absent:
        raise UserError(f"the stage {command.name} did not write {absent[0]}; {command.log} has its standard output")
    write_json(stamp, {"words": command.words, "seconds": time.perf_counter() - started,
                       "files": {name: digest_of(path) for name, path in files_of(command).items()}})
    if child.number is not None:  # it ended all the same
        raise exception_of(child.number)
