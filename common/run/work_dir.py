"""A training's work directory: whose files are in it, and that one training at a time writes there."""

import contextlib
import os
import re
from pathlib import Path

from common.errors import UserError
from common.files import check_output, check_outputs
from common.locks import exclusive
from common.model.weight_files import shorten
from common.run import processes
from common.run.progress import LOG_FILE
from common.run.state import state_paths
from common.unfinished import remove_unfinished

SUMMARY_FILE, LOCK_FILE = "train_summary.json", ".training"


def checkpoint_path(arguments, step):
    """Returns the file in which the weights are saved that have so many steps behind them."""
    return os.path.join(arguments.work_dir, f"model.{step}.safetensors")


def check_work_dir(arguments, inputs):
    """Checks that a run can write into its work directory, and that no other run's files are there.

    Args:
        inputs: files that the run reads; None for one that is not given.

    Raises:
        UserError: it cannot, or they are and ``--overwrite`` is not given; a run that was cut off can be resumed.
    """
    folder = arguments.work_dir
    check_outputs([os.path.join(folder, name) for name in (LOG_FILE, SUMMARY_FILE)], inputs)
    if arguments.overwrite or not os.path.isdir(folder):
        return
    states = state_paths(folder)
    if states and not arguments.resume:
        raise UserError(f"{folder}: holds a training that was cut off, and {states[0]}; give --resume to go on there, "
                        "--overwrite to start anew, or a --work_dir of its own")
    held = [name for name in sorted(os.listdir(folder)) if re.fullmatch(r"model\.\d+\.safetensors", name)
            or name in (LOG_FILE, SUMMARY_FILE) and os.path.getsize(os.path.join(folder, name)) > 0]
    # One that was cut off before its first state has a log alone.
    if held and not states and not (arguments.resume and held == [LOG_FILE]):
        more = ", and no state to resume from" if arguments.resume else ""
        raise UserError(f"{folder}: holds another training's {shorten(held)}{more}; give a --work_dir of its own, or "
                        "--overwrite to write over its files")


@contextlib.contextmanager
def work_dir_alone(arguments):
    """Keeps other trainings out of the work directory for the length of a block, and removes what died ones left; the
    first of several processes does.

    A folder that is made for it goes again where the block leaves it empty.

    Raises:
        UserError: the directory cannot be written, or a training is running there; the message names its process.
    """
    folder = arguments.work_dir
    if not processes.is_first():
        yield
        return
    check_output(os.path.join(folder, LOG_FILE))
    path = Path(folder).absolute()
    missing = [each for each in (path, *path.parents) if not each.is_dir()]
    os.makedirs(folder, exist_ok=True)
    try:
        with exclusive(os.path.join(folder, LOCK_FILE), folder,
                       "wait until it has ended, or give another --work_dir"):
            remove_unfinished(folder)
            yield
    finally:
        with contextlib.suppress(OSError):
            for each in missing:
                each.rmdir()
