"""The training run: epochs, log lines, validation and checkpoints around the framework's own steps."""

import itertools
import math
import time
from pathlib import Path

from tqdm import tqdm

from common.errors import UserError, note
from common.model.checkpoint import load_weights, steps_before
from common.model.lora_arrays import initial_lora
from common.run import processes
from common.run.batching import batches_per_epoch, read_usable_rows, training_batches, validation_batches
from common.run.dropout import ROW_BITS
from common.run.schedule import make_schedule
from common.run.state import check_writer, remove_states, settings_of, state_to_resume
from common.run.steps import Plan, TrainingTask
from common.run.tensorboard import check_tensorboard
from common.run.training_loop import Training, whole_batch
from common.run.work_dir import SUMMARY_FILE, check_work_dir, work_dir_alone
from common.signals import Stop


def first_weights(arguments):
    """Returns the weights that a training starts from: the backbone's and LoRA's, each ``{name: float32 array}``.

    Raises:
        UserError: the weights cannot be used.
    """
    backbone, lora, _ = load_weights(arguments.init_checkpoint, arguments.lora_checkpoint, arguments.card,
                                     arguments.lora)
    return backbone, lora or initial_lora(arguments.card, arguments.lora, arguments.random_seed)


def schedule_of(arguments, last_step):
    """Returns the schedule of a training whose last step is known; see make_schedule."""
    return make_schedule(arguments.scheduler, arguments.lr, arguments.warmup_step, arguments.max_step or last_step,
                         arguments.i_steps, arguments.i_lrs)


def batches_of(arguments, rows, steps_done=0):
    """Returns this process's batches of a training behind ``steps_done`` steps; see training_batches."""
    return training_batches(rows, whole_batch(arguments), arguments.seq_len, arguments.obj, arguments.random_seed,
                            not arguments.no_shuffle, steps_done, processes.rank(), processes.count())


def planned_steps(arguments, row_count):
    """Returns the last training step: ``--max_step``, and no more than ``--max_epoch`` epochs where that is given."""
    by_epoch = math.inf
    if arguments.max_epoch is not None:
        by_epoch = arguments.max_epoch * batches_per_epoch(row_count, whole_batch(arguments))
    return int(min(arguments.max_step or math.inf, by_epoch))


def say_useless_steps(arguments, last_step):
    """Says how many steps at the end of a run update nothing.

    Raises:
        UserError: no step would.
    """
    if arguments.grad_acc > last_step:
        raise UserError(f"--grad_acc {arguments.grad_acc}: more than the {last_step} steps of the run, so that the "
                        "weights would never be updated")
    if last_step % arguments.grad_acc:
        note(f"the gradients of the last {last_step % arguments.grad_acc} of {last_step} steps update nothing: "
             f"--grad_acc is {arguments.grad_acc}")


def plan_of(arguments):
    """Returns the Plan of a run, after whatever can be found wrong without a model.

    Raises:
        UserError: the work directory or the data cannot be used, or the weights would never be updated.
    """
    if processes.is_first():
        check_work_dir(arguments, [arguments.train_data, arguments.valid_data, arguments.init_checkpoint,
                                   arguments.lora_checkpoint])
    if whole_batch(arguments) > 1 << ROW_BITS:
        raise UserError(f"--train_batch_size {arguments.train_batch_size} of each of {processes.count()} processes: "
                        f"expected at most {1 << ROW_BITS} rows in all")
    before = steps_before(arguments.init_checkpoint, arguments.lora_checkpoint)
    train_rows = read_usable_rows(arguments.train_data, arguments.seq_len, arguments.obj)
    valid_rows = read_usable_rows(arguments.valid_data, arguments.seq_len)
    last_step = planned_steps(arguments, len(train_rows))
    say_useless_steps(arguments, last_step)
    return Plan(train_rows, valid_rows, batches_per_epoch(len(train_rows), whole_batch(arguments)), last_step, before,
                f"{len(train_rows)} training rows, {len(valid_rows)} validation rows")


def run_training(arguments, prepare, task=None):
    """Trains to the end and writes ``train_log.jsonl``, ``train_summary.json`` and the checkpoints.

    With ``--resume`` a training that was cut off goes on from its newest state. Upon Ctrl-C or SIGTERM it ends behind
    the step that is under way, with a state.

    Args:
        arguments: of common.run.arguments.training_arguments, or what the task takes in their place.
        prepare: ``(arguments) -> Steps``; it is called when nothing else is left to be found wrong.
        task: TrainingTask; by default LANGUAGE_MODELING.

    Raises:
        UserError: the data, the weights or the state cannot be used, or a loss or a weight is not finite.
        KeyboardInterrupt, Terminated: a signal has come.
    """
    task = task or LANGUAGE_MODELING
    if arguments.tensorboard:
        check_tensorboard()
    with work_dir_alone(arguments):
        plan = task.plan(arguments)
        settings = settings_of(arguments)
        state = state_to_resume(arguments, settings)
        steps = prepare(arguments)
        if state:
            check_writer(state, steps.description["framework"], steps.state_names)
            steps.load_state(state.arrays)
            state.progress.resumed_at.append(state.progress.step)
        processes.gather(None)  # all have read what the first one now removes
        if processes.is_first():
            remove_states(arguments.work_dir, newer_than=state.progress.step if state else -1)
            Path(arguments.work_dir, SUMMARY_FILE).unlink(missing_ok=True)  # of the run whose files are replaced
        print(f"{plan.description}; {plan.per_epoch} batches of {whole_batch(arguments)} an epoch, {plan.last_step} "
              "steps; " + ", ".join(steps.description.values())
              + f"; {processes.count()} processes" * (processes.count() > 1))
        if state:
            print(f"going on behind step {state.progress.step}, from {state.path}")
        with (tqdm(total=plan.last_step, initial=state.progress.step if state else 0, unit="step", dynamic_ncols=True,
                   mininterval=1.0, disable=None) as bar, Stop(say_stop) as stop):
            training = Training(arguments, task, plan, steps, state, settings, bar, stop)
            training.run(task.batches(arguments, plan.train_rows, training.progress.step),
                         schedule_of(arguments, plan.last_step))
        if processes.is_first():
            training.write_summary()
            remove_states(arguments.work_dir)


def say_stop(name):
    """Says that a signal has come."""
    note(f"{name}: training ends behind this step, and its state is kept; a second one ends it at once")


def validate(arguments, steps, rows, progress, log):
    """Runs a validation pass, takes it into the Progress and the Log, and returns the seconds that it took.

    Raises:
        UserError: the loss is not finite.
    """
    begun = time.perf_counter()
    loss = validation_loss(arguments, steps, rows)
    if not math.isfinite(loss):
        raise UserError(progress.divergence(f"the validation loss after step {progress.step}", loss, progress.step))
    seconds = time.perf_counter() - begun
    progress.take_validation(loss, seconds)
    log.validation(progress, seconds)
    return seconds


def validation_loss(arguments, steps, rows):
    """Returns the mean over batches of each batch's loss; the processes share the batches."""
    losses = []
    count = batches_per_epoch(len(rows), arguments.valid_batch_size)
    with tqdm(total=count * arguments.valid_batch_size, desc="validation", unit="row", leave=False, dynamic_ncols=True,
              mininterval=1.0, disable=None) as bar:
        for batch in validation_batches(rows, arguments.valid_batch_size, arguments.seq_len, arguments.random_seed,
                                        part=processes.rank(), parts=processes.count()):
            losses.append(steps.validate(batch))
            bar.update(min(processes.count() * (len(batch.offsets) - 1), bar.total - bar.n))
        parts = processes.gather([float(loss) for loss in losses])
    # In the order of the batches, as one process adds them up.
    return sum(loss for together in itertools.zip_longest(*parts, fillvalue=0.0) for loss in together) / count


LANGUAGE_MODELING = TrainingTask(plan_of, batches_of, validate)
