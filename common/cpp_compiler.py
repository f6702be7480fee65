"""Whether C++ extensions of this Python can be compiled here, which Jittor does, and where their cache is."""

import os
import re
import shutil
import sys
import sysconfig

from common.errors import UserError
from common.paths import ROOT, what_cannot_be_written

# Jittor writes paths into command lines for a shell, into lists of linker options and into C++. Everything else is
# taken apart there or worse: `,` `:` and spaces split, `$(...)` is run, `[` and `*` are patterns.
PATH_CHARACTERS = re.compile(r"[A-Za-z0-9/._+@-]*")


def cache_home() -> str:
    """Returns the folder under which Jittor keeps ``.cache/jittor``: the user's JITTOR_HOME, or the project."""
    return os.path.abspath(os.environ.get("JITTOR_HOME") or str(ROOT))


def cache_folder() -> str:
    """Returns the folder in which Jittor keeps what it compiles."""
    return os.path.join(cache_home(), ".cache", "jittor")


def check_cpp_compiler() -> None:
    """Checks that there are a C++ compiler (``$cc_path``, or g++) and this Python's headers.

    Raises:
        UserError: one of them is missing; the message names its Debian package. Or its path has a character that Jittor
            cannot compile with.
    """
    compiler = os.environ.get("cc_path") or "g++"
    if not shutil.which(compiler):
        raise UserError(f"found no C++ compiler `{compiler}`; Jittor compiles its kernels: `apt-get install g++`")
    header = os.path.join(sysconfig.get_paths()["include"], "Python.h")
    if not os.path.isfile(header):
        raise UserError(f"found no {header}; Jittor compiles against Python's headers: "
                        f"`apt-get install python{sys.version_info.major}.{sys.version_info.minor}-dev`")
    check_path("the C++ compiler", compiler)
    check_path("Python's headers", header)


def check_path(name: str, path: str | os.PathLike) -> None:
    """Checks that Jittor can compile with a path in its command lines.

    Args:
        name: what the path is, as the subject of a sentence.
        path: of a file or folder.

    Raises:
        UserError: a character is not among PATH_CHARACTERS.
    """
    path = os.fspath(path)
    allowed = PATH_CHARACTERS.match(path).end()
    if allowed < len(path):
        raise UserError(f"{name}: found {path[allowed]!r} in {path!r}; Jittor compiles under paths of the characters "
                        "A-Z a-z 0-9 / . _ + @ - alone: move it, or use PyTorch, which runs under any path "
                        "(--framework pytorch)")


def check_folders() -> None:
    """Checks that Jittor can compile the project's sources where they are, and keep the results where it shall.

    Raises:
        UserError: a path has a character that Jittor cannot compile with, or this user may not write to the cache.
    """
    check_path("the project's folder", ROOT)
    check_path("JITTOR_HOME", cache_home())
    refuse_cache(what_cannot_be_written(cache_folder()))


def refuse_cache(problem: str | None) -> None:
    """Raises a UserError with what to do, where there is a ``problem`` with a path in the cache."""
    if problem:
        raise UserError(f"Jittor cannot keep its compiled files in {cache_folder()}: {problem}; name a folder of "
                        "yours: JITTOR_HOME=/path/to/folder")
