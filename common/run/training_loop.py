"""The loop over a training's steps: log lines, validation, checkpoints and states around the framework's own steps."""

import math
import os
import statistics
import time
from dataclasses import replace

from common.errors import UserError
from common.files import write_json
from common.run import processes
from common.run.batching import rows_of_step
from common.run.progress import Clock, Log, Progress
from common.run.state import NOT_FLAGS, State, write_state
from common.run.tensorboard import Events
from common.run.work_dir import SUMMARY_FILE, checkpoint_path
from common.signals import exception_of

AGREEMENTS = 10  # several processes agree on a state, or on the end, behind each so many updates


def whole_batch(arguments):
    """Returns the rows of a batch, those of all processes together; ``--train_batch_size`` is that of each."""
    return processes.count() * arguments.train_batch_size


class Training:
    """A run on its way through the steps.

    Args:
        arguments: of the command line.
        task: TrainingTask.
        plan: Plan.
        steps: Steps, which have loaded the State.
        state: State from which the run goes on, or None.
        settings: of settings_of.
        bar: tqdm bar of the steps.
        stop: Stop.
    """

    def __init__(self, arguments, task, plan, steps, state, settings, bar, stop):
        self.arguments, self.task, self.plan, self.steps, self.settings = arguments, task, plan, steps, settings
        self.bar, self.stop = bar, stop
        self.progress = state.progress if state else Progress()
        self.pending = []  # losses that are still on the device
        events = (Events(arguments.work_dir, self.progress.step)
                  if arguments.tensorboard and processes.is_first() else None)
        make_log = task.log(plan) if task.log else Log
        self.log = make_log(arguments.work_dir, bar, events, *((state.lines, state.log_bytes) if state else ()))
        self.clock = Clock(self.progress)
        self.state_step, self.state_written, self.state_seconds = self.progress.step, time.perf_counter(), 0.0

    def run(self, batches, rate):
        """Trains to the last step.

        Args:
            batches: yields ``(epoch, index, Batch)`` from the next step on.
            rate: ``(scheduler step) -> learning rate``.

        Raises:
            UserError: a loss or a weight is not finite.
            KeyboardInterrupt, Terminated: a signal has come.
        """
        if self.progress.step:  # a state is written before what follows its step
            self.finish_step()
        while self.progress.step < self.plan.last_step:
            self.train(*next(batches), rate)
            self.keep_state()
            self.finish_step()

    def train(self, epoch, index, batch, rate):
        """Trains on a Batch and, where it is the interval's last, writes the log line."""
        progress = self.progress
        progress.step, progress.epoch, progress.index = progress.step + 1, epoch, index
        step = progress.step
        self.pending.append(self.steps.train(batch, rate(step - 1), step % self.arguments.grad_acc == 0))
        self.bar.update()
        if step % self.arguments.log_interval == 0:
            self.fetch_losses()
            self.clock.read()
            progress.interval_ms.append(1000 * progress.interval_seconds / len(progress.losses))
            self.log.train(progress, rate(step))
            self.begin_interval()
        self.clock.read()

    def begin_interval(self):
        """Begins an interval between two log lines."""
        self.progress.losses, self.pending = [], []
        self.clock.begin_interval()

    @property
    def ends_epoch(self):
        """Whether the epoch, or the run, ends with this step."""
        return self.progress.index == self.plan.per_epoch or self.progress.step == self.plan.last_step

    @property
    def validates(self):
        """Whether a validation pass follows this step."""
        step = self.progress.step
        return step % self.arguments.eval_interval == 0 or step == self.plan.last_step or (
            self.ends_epoch and self.progress.epoch % self.arguments.eval_epoch == 0)

    @property
    def saves(self):
        """Whether a checkpoint is saved behind this step."""
        return self.ends_epoch or self.progress.step % self.arguments.save_interval == 0 or (
            self.validates and self.task.keep is not None)

    def finish_step(self):
        """Saves a checkpoint and validates, where they are due."""
        progress, arguments = self.progress, self.arguments
        step = self.plan.steps_before + progress.step
        path, validates = checkpoint_path(arguments, step), self.validates
        if self.saves:
            self.fetch_losses()
            self.steps.save(path, step)
            if [progress.step, path] not in progress.checkpoints:
                progress.checkpoints.append([progress.step, path])
            self.log.say(f"saving checkpoint {path}")
        if validates:
            steps = replace(self.steps, validate=self.stoppable(self.steps.validate),
                            evaluate=self.stoppable(self.steps.evaluate))
            self.clock.leave_out(self.task.validate(arguments, steps, self.plan.valid_rows, progress, self.log))
        if validates and self.task.keep:
            self.task.keep(arguments, progress, path)
        if self.ends_epoch:
            self.begin_interval()

    def stoppable(self, function):
        """Returns a function of a validation pass before which the run may end, with a state of before the pass."""
        def checked(batch):
            if self.stop.number is not None and processes.count() == 1:
                self.write_state()
                self.stop.check()
            return function(batch)
        return checked

    def keep_state(self):
        """Writes the state where that is due, and ends the run where a signal has come to any of its processes.

        Raises:
            KeyboardInterrupt, Terminated: a signal has come.
        """
        is_due, number = self.is_state_due(), self.stop.number
        if processes.count() > 1:
            step, every = self.progress.step, self.arguments.grad_acc
            # Between updates each process has gradients of its own.
            if step % every or not (step % (AGREEMENTS * every) == 0 or self.saves or self.validates):
                return
            said = processes.gather((is_due, number))
            is_due, number = said[0][0], next((each for _, each in said if each is not None), None)
        if is_due or number is not None:
            self.write_state()
        if number is not None:
            raise exception_of(number)

    def is_state_due(self):
        """Tells whether the state is to be written: by the time, or before what takes long or is kept.

        Before a checkpoint or a validation pass it is written if that costs less than one per cent of the time, and
        before the last in any case.
        """
        minutes, elapsed = self.arguments.state_minutes, time.perf_counter() - self.state_written
        if not minutes:
            return False
        is_cheap = elapsed >= 100 * self.state_seconds or self.progress.step == self.plan.last_step
        return elapsed >= 60 * minutes or is_cheap and (self.saves or self.validates)

    def write_state(self):
        """Writes a state file, unless there is one of this step; all processes are in here together."""
        if self.state_step == self.progress.step:
            return
        begun = time.perf_counter()
        self.fetch_losses()
        if processes.is_first():
            write_state(self.arguments.work_dir, State(
                self.progress, self.steps.description["framework"], self.settings, self.log.kept_bytes(),
                self.log.lines, self.steps.state()), self.arguments.keep_last)
        processes.gather(None)  # no process ends the run before it is written
        self.state_step, self.state_written = self.progress.step, time.perf_counter()
        self.state_seconds = self.state_written - begun
        self.progress.states += 1
        self.progress.state_seconds += self.state_seconds

    def fetch_losses(self):
        """Fetches losses from the device; those of all processes, each the part of its rows, added up.

        Raises:
            UserError: one of them is not a finite number; the message has the step, its batch's rows, and the last
                checkpoint of before.
        """
        progress, arguments = self.progress, self.arguments
        losses = [sum(parts) for parts in zip(*processes.gather([float(loss) for loss in self.pending]))]
        for step, loss in enumerate(losses, progress.step - len(losses) + 1):
            if not math.isfinite(loss):
                rows = rows_of_step(len(self.plan.train_rows), whole_batch(arguments), arguments.random_seed, step,
                                    not arguments.no_shuffle)
                where = f"of {self.task.examples} {', '.join(str(row + 1) for row in rows)} of {arguments.train_data}"
                raise UserError(progress.divergence(f"the loss of step {step}, {where},", loss, step))
        progress.losses, self.pending = progress.losses + losses, []

    def write_summary(self):
        """Writes ``train_summary.json``."""
        self.clock.read()
        progress, steps, before = self.progress, self.steps, self.plan.steps_before
        write_json(os.path.join(self.arguments.work_dir, SUMMARY_FILE), {
            **steps.description, "processes": processes.count(), "steps": progress.step, "epochs": progress.epoch,
            "seconds": progress.seconds, "training_seconds": progress.seconds - progress.evaluation_seconds,
            # The median leaves out the intervals in which kernels were compiled.
            "step_ms": statistics.median(progress.interval_ms) if progress.interval_ms else None,
            "peak_memory_bytes": steps.peak_memory_bytes(), "valid_loss": progress.valid_loss,
            "best_valid_loss": progress.best_valid_loss, "steps_before": before, "resumed_at": progress.resumed_at,
            "states": progress.states, "state_seconds": progress.state_seconds,
            "checkpoint": checkpoint_path(self.arguments, before + progress.step),
            **self.task.summary(self.arguments, progress),
            "arguments": {key: value for key, value in vars(self.arguments).items() if key not in NOT_FLAGS}})
