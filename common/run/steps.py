"""What a training run is put together from: the framework's steps, the plan, and what the kind of data decides."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Steps:
    """What a framework does in a run.

    Attributes:
        train: ``(batch, learning_rate, is_update) -> loss``; adds up the gradients of a batch and, where ``is_update``,
            updates the weights. The loss may stay on the device: ``float(loss)`` fetches it.
        validate: ``(batch) -> loss`` without label smoothing and dropout.
        save: ``(path, step) -> None`` writes a checkpoint; every process calls it, and the first one writes.
        state: ``() -> {name: numpy array}``, all that ``train`` changes.
        state_names: of what ``state`` returns.
        load_state: ``(arrays) -> None`` goes on from what ``state`` returned, to the same bits.
        peak_memory_bytes: peak memory so far.
        description: ``{framework, version, device, precision}``.
        evaluate: ``(batch) -> logits`` as a numpy array, of models that are not validated by a loss alone.
    """

    train: Callable
    validate: Callable
    save: Callable
    state: Callable
    state_names: list[str]
    load_state: Callable
    peak_memory_bytes: Callable
    description: dict
    evaluate: Callable | None = None


@dataclass(frozen=True)
class Plan:
    """What a run reads and how long it is, known before a model is built.

    Attributes:
        train_rows, valid_rows: lists of Row, or what the TrainingTask has in their place.
        per_epoch: batches of an epoch.
        last_step: training steps of the run.
        steps_before: those behind the LoRA weights that it starts from; checkpoints count on from there.
        description: how many rows there are, in words.
    """

    train_rows: Any
    valid_rows: Any
    per_epoch: int
    last_step: int
    steps_before: int
    description: str


@dataclass(frozen=True)
class TrainingTask:
    """What a run does by the kind of its data and its model.

    Attributes:
        plan: ``(arguments) -> Plan``.
        batches: ``(arguments, train_rows, steps_done) -> iterator`` of ``(epoch, index, batch)``, as training_batches.
        validate: ``(arguments, steps, valid_rows, progress, log) -> seconds`` that a validation pass took, which it
            takes into Progress and Log.
        keep: ``(arguments, progress, path) -> None`` behind a validation pass decides which checkpoints stay, ``path``
            being the last; None where all of them do.
        summary: ``(arguments, progress) -> dict``, what the summary has beside every run's.
        log: ``(plan) -> function that makes a Log``, where log lines have another form than the original program's.
        examples: what the elements of ``train_rows`` are called; their numbers are from 1 on.
    """

    plan: Callable
    batches: Callable
    validate: Callable
    keep: Callable | None = None
    summary: Callable = lambda arguments, progress: {}
    log: Callable | None = None
    examples: str = "rows"
