"""Commands that run only where their result is not there already.

A command leaves a stamp with its words and the hashes of what it read and wrote; while those still hold, it is skipped.
So a run that was cut off goes on where it stopped, and a changed flag or file reruns what depends on it.
"""

import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError
from common.files import read_json, sha256_of, write_json
from common.frameworks import variables_for
from common.paths import ROOT

STAMP_SHAPE = {"words": [str], "files": {str: str}}


@dataclass(frozen=True)
class Command:
    """One step of a stage.

    Attributes:
        name: of its stamp.
        words: program and arguments.
        folder: working directory.
        inputs, outputs: files that decide whether it must run.
        log: file that gets its standard output, besides the terminal.
    """

    name: str
    words: list[str]
    folder: Path
    inputs: list[Path]
    outputs: list[Path]
    log: Path


def relative(word: object, folder: Path) -> str:
    """Returns a path inside the project as seen from ``folder``, where data/ and others are linked; else as text."""
    if not isinstance(word, Path) or not word.is_relative_to(ROOT):
        return str(word)
    inside = word.relative_to(ROOT)
    return str(inside) if (folder / inside.parts[0]).exists() else os.path.relpath(word, folder)


def hashes(command):
    """Returns ``{path as seen from the project: sha256}`` of what a command reads and writes."""
    return {os.path.relpath(path, ROOT): sha256_of(path) for path in command.inputs + command.outputs}


def is_done(command, stamp):
    """Tells whether a stamp still describes the command and the files."""
    try:
        record = read_json(stamp, STAMP_SHAPE)
        return record["words"] == command.words and record["files"] == hashes(command)
    except (OSError, UserError):
        return False


def check_done(command: Command, stamp: Path, folder: Path) -> None:
    """Makes sure that a command ended well and that its files inside ``folder`` are still those of then.

    Files elsewhere, such as data, may have changed since; what the command read need not be there any more.

    Raises:
        UserError: it did not end, or a file is missing or has changed.
    """
    if not stamp.is_file():
        raise UserError(f"{folder}: the stage {command.name} has not ended, for there is no {stamp}; run it first")
    recorded = read_json(stamp, STAMP_SHAPE)["files"]
    for path in command.outputs:
        if not os.path.isfile(path) or os.path.relpath(path, ROOT) not in recorded:
            raise UserError(f"{path}: is not there, or {stamp} does not name it; expected what the stage "
                            f"{command.name} wrote, in the folder that it ran in")
    for name, digest in recorded.items():
        path = Path(os.path.normpath(ROOT / name))
        if path.is_relative_to(folder) and path.is_file() and sha256_of(path) != digest:
            raise UserError(f"{path}: has changed since the stage {command.name} ended ({stamp}); run that stage and "
                            "those after it again")


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

    Raises:
        UserError: it failed; the message names its log.
    """
    stamp = stamps / f"{command.name}.json"
    if not force and is_done(command, stamp):
        print(f"[{command.name}] done before: {', '.join(str(path) for path in command.outputs[:2])}", flush=True)
        return
    stamp.unlink(missing_ok=True)
    print(f"[{command.name}] {shlex.join(command.words)}", flush=True)
    command.log.parent.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    with open(command.log, "w", encoding="utf-8") as log:
        log.write(f"$ cd {os.path.relpath(command.folder, ROOT)} && {shlex.join(command.words)}\n")
        variables = {**variables_for(command.words[0], command.folder), "PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(command.words, cwd=command.folder, stdout=subprocess.PIPE, text=True,
                                   encoding="utf-8", errors="replace", env=variables)
        for line in process.stdout:
            sys.stdout.write(line)
            sys.stdout.flush()
            log.write(line)
        status = process.wait()
    if status != 0:
        raise UserError(f"the stage {command.name} ended with exit status {status}; it says why above, and "
                        f"{command.log} has its standard output")
    absent = [path for path in command.outputs if not os.path.exists(path)]
    if absent:
        raise UserError(f"the stage {command.name} did not write {absent[0]}; {command.log} has its standard output")
    write_json(stamp, {"words": command.words, "seconds": time.perf_counter() - started, "files": hashes(command)})
