"""The project's root folder and its folder of pretrained weights; whether a folder can be written."""

import os
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PRETRAINED = ROOT / "pretrained_checkpoints"


def what_cannot_be_written(folder: str | os.PathLike) -> str | None:
    """Returns what keeps this user from making or writing files in a folder; None where nothing does.

    Args:
        folder: it need not exist yet; then the nearest folder above it counts.

    Returns:
        The path that is no folder or that this user may not write, and whose it is, as words of a sentence.
    """
    path = os.path.abspath(folder)
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    if not os.path.isdir(path):
        return f"{path} is no folder"
    if os.access(path, os.W_OK | os.X_OK):
        reason = why_refused(path)
        return reason and f"{path} takes no files: {reason}"
    try:
        owner = Path(path).owner()
    except KeyError:  # a user of another machine or container
        owner = f"user {os.stat(path).st_uid}"
    return f"{path} belongs to {owner} or is read-only"


def why_refused(folder: str | os.PathLike) -> str | None:
    """Returns why the system makes no file in a folder whose permissions allow it, such as /proc; None where it does.

    It makes one without a name, which is gone at once.
    """
    try:
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return error.strerror or str(error)
