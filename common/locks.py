"""A lock for the length of a block, which the system takes back when the process ends, however that happens."""

import contextlib
import errno
import fcntl
import os
import socket
import sys
import time
from collections.abc import Iterator

from common.errors import UserError, note

_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


@contextlib.contextmanager
def exclusive(path: str | os.PathLike, what: str, remedy: str) -> Iterator[None]:
    """Holds a lock on a file that is there for nothing else; its text says who holds it, and it goes with the block.

    On a file system that has no locks a note says so, and the block runs.

    Args:
        path: the file, in a folder that exists.
        what: what is locked, for the message.
        remedy: what to do where another process holds it, for the message.

    Raises:
        UserError: another process holds it; the message names that process.
    """
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(file, 4096, 0).decode(errors="replace").strip()
            os.close(file)
            if error.errno in _NO_LOCKS:
                note(f"{path}: this file system has no locks, so that two processes at once in its folder would go "
                     "unnoticed")
                yield
                return
            if not isinstance(error, BlockingIOError):
                raise
            raise UserError(f"{what}: is in use by {holder or 'another process'}; {remedy}") from None
        if _is_same(file, path):
            break
        os.close(file)  # whoever held the lock has taken the file away
    try:
        os.ftruncate(file, 0)
        os.pwrite(file, holder_text().encode(), 0)
        yield
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)
        os.close(file)


def _is_same(file, path):
    """Tells whether an open file is still the one with this name."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False


def holder_text() -> str:
    """Returns who this process is, for the message to another one."""
    return (f"{os.path.basename(sys.argv[0])} (process {os.getpid()} on {socket.gethostname()}, which took it at "
            f"{time.strftime('%Y-%m-%d %H:%M:%S')})")
