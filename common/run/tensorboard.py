"""Event files that TensorBoard reads, of the same numbers as the log: ``--tensorboard``."""

import os
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from common.errors import UserError

PREFIX = "events.out.tfevents."
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
    """An event file in a work directory; TensorBoard reads those of a run that was cut off and went on as one.

    Args:
        folder: the work directory. A run that begins there removes the files of the one before, as it does its log.
        steps_done: those of the run that are over; what earlier files have beyond them does not count any more.
    """

    def __init__(self, folder: str, steps_done: int = 0):
        from tensorboardX import event_file_writer
        from tensorboardX.proto import event_pb2, summary_pb2

        self.event, self.session, self.summary = event_pb2.Event, event_pb2.SessionLog, summary_pb2.Summary
        folder = os.path.abspath(folder)
        if not steps_done:
            for path in Path(folder).glob(f"{PREFIX}*"):
                path.unlink()
        # Not tensorboardX's SummaryWriter, which writes from a thread, some time later.
        self.writer = event_file_writer.EventsWriter(os.path.join(folder, "events"), f".{os.getpid()}")
        if steps_done:
            self.write(steps_done + 1, session_log=self.session(status=self.session.START))
        self.writer.flush()

    def write(self, step: int, **content: Any) -> None:
        """Writes an event of a step."""
        self.writer.write_event(self.event(wall_time=time.time(), step=step, **content))
        self.writer.flush()  # what is in the log is in the file too, should the process be killed

    def add(self, record: dict[str, Any]) -> None:
        """Writes the numbers of one of the log's records; of the scores of predictions, the F1."""
        numbers = {name: record[key] for name, key in SCALARS[record["kind"]].items()}
        numbers |= {f"valid/{measure}": score["f1"] for measure, score in record.get("scores", {}).items()}
        self.write(record["step"], summary=self.summary(value=[
            self.summary.Value(tag=name, simple_value=number) for name, number in numbers.items()]))
