"""Event files that TensorBoard reads, of the same numbers as the log: ``--tensorboard``."""

from importlib.util import find_spec
from typing import Any

from common.errors import UserError

# What each kind of record in the log becomes, by TensorBoard's name.
SCALARS = {"train": {"train/loss": "loss", "train/avg_loss": "avg_loss", "train/lr": "lr", "train/step_ms": "step_ms"},
           "validation": {"valid/loss": "loss"}}


def check_tensorboard() -> None:
    """Checks that there is what writes event files; it needs neither framework.

    Raises:
        UserError: it is not installed.
    """
    if find_spec("tensorboardX") is None:
        raise UserError("--tensorboard: tensorboardX, which writes the event files, is not installed here: run "
                        "`bash scripts/setup.sh`, or `pip install tensorboardX`")


class Events:
    """An event file in a work directory; further ones of a run that goes on are read together with it.

    Args:
        folder: the work directory.
        steps_done: those of the run that are over; TensorBoard leaves out what earlier files have beyond them.
    """

    def __init__(self, folder: str, steps_done: int = 0):
        from tensorboardX import SummaryWriter

        self.writer = SummaryWriter(folder, purge_step=steps_done + 1 if steps_done else None)

    def add(self, record: dict[str, Any]) -> None:
        """Writes the numbers of one of the log's records."""
        for name, key in SCALARS[record["kind"]].items():
            self.writer.add_scalar(name, record[key], record["step"])
        self.writer.flush()  # what is in the log is in the file too, should the process be killed
