"""Files under a name of their own until they are whole, and the end of those whose writer died."""

import contextlib
import errno
import fcntl
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from typing import IO, Any

_NAME = re.compile(r"\..*\.[a-z0-9_]{8}\.unfinished")
_NO_SYNC = errno.EINVAL, errno.EBADF, errno.ENOTSUP


@contextlib.contextmanager
def written_whole(target: str, mode: str, bits: int | None = None, **opening: Any) -> Iterator[IO[Any]]:
    """Opens a new file that takes a name when the block ends without an error, and then is on the disk.

    Unfinished files for the same name whose writers have died are removed first.

    Args:
        target: the name, no link; its folder is made where it is missing.
        bits: permissions; by default a file that is replaced keeps its own.
        mode, opening: as ``open`` takes them.
    """
    folder, start = os.path.split(start_of_name(target))
    os.makedirs(folder, exist_ok=True)
    remove_unfinished(folder, start)
    descriptor, path = _new_file(folder, start)
    try:
        with open(descriptor, mode, **opening) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.chmod(path, permissions(target) if bits is None else bits)
            os.replace(path, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):  # it may have its name already
            os.unlink(path)
        raise
    _sync_folder(folder)


def start_of_name(target: str) -> str:
    """Returns what the paths of the unfinished files for a name begin with."""
    return os.path.join(os.path.dirname(target), f".{os.path.basename(target)[:40]}.")


def _new_file(folder, start):
    """Makes a file that is locked as long as its descriptor is open; returns descriptor and path."""
    while True:
        descriptor, path = tempfile.mkstemp(dir=folder, prefix=start, suffix=".unfinished")
        with contextlib.suppress(OSError):  # the file system has no locks, or another process is removing the file
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.exists(path):
            return descriptor, path
        os.close(descriptor)


def remove_unfinished(folder: str | os.PathLike, start: str = ".") -> None:
    """Removes the unfinished files in a folder that no process is writing any more.

    Args:
        folder: folders in it are not looked at.
        start: of the names that count.
    """
    with contextlib.suppress(OSError):  # this user may write here, but not list what is there
        for name in os.listdir(folder):
            if name.startswith(start) and _NAME.fullmatch(name):
                _remove_unless_locked(os.path.join(folder, name))


def _remove_unless_locked(path):
    with contextlib.suppress(OSError), open(path, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)


def _sync_folder(folder):
    """Waits until a folder's names are on the disk, where this user may open it and the file system can tell."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(descriptor)


def permissions(path: str) -> int:
    """Returns the permissions of a file or, where there is none, those of a new one."""
    if os.path.exists(path):
        return stat.S_IMODE(os.stat(path).st_mode)
    return 0o666 & ~umask()


def umask() -> int:
    """Returns the permissions that new files of this process lack."""
    found = os.umask(0)
    os.umask(found)
    return found
