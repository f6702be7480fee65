"""What a training on events does where GPT-2's is another: its data, its first weights, its scores after each epoch."""

import argparse
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.data.event_sets import EventSet, read_event_set, read_ontology
from common.data.events import Ontology
from common.data.span_counts import Found, micro_scores
from common.data.word_pieces import Query, WordPieces
from common.errors import UserError
from common.model.bert_cards import initial_heads
from common.model.bert_files import read_bert
from common.model.checkpoint import backbone_hash, path_to_record
from common.model.lora_arrays import initial_lora
from common.model.lora_file import LoraRecord
from common.run.batching import batches_per_epoch
from common.run.event_batches import QueryBatch, evaluation_batches, query_batches
from common.run.progress import Log, Progress
from common.run.spans import Answer, argmax_span, best_span, span_losses
from common.run.steps import Plan, Steps, TrainingTask
from common.run.training import planned_steps, say_useless_steps
from common.run.work_dir import check_work_dir

SCORE = "classification"  # whose F1 chooses the best epoch


def ontology_of(arguments: argparse.Namespace) -> Ontology:
    """Returns the Ontology of a training, which is read once.

    Args:
        arguments: of common.run.event_arguments.event_training_arguments.
    """
    if not hasattr(arguments, "ontology"):
        arguments.ontology = read_ontology(arguments.train_data, arguments.format, arguments.questions,
                                           arguments.roles)
    return arguments.ontology


def first_event_weights(arguments: argparse.Namespace) -> dict[str, np.ndarray]:
    """Returns the weights that a training starts from: the backbone's, LoRA's and the heads'.

    Args:
        arguments: of common.run.event_arguments.event_training_arguments.

    Returns:
        ``{name: float32 array}`` in the names and the layout of common.model.bert_cards.

    Raises:
        UserError: the weights cannot be used.
    """
    return {**initial_heads(arguments.card, arguments.random_seed),
            **read_bert(arguments.backbone_path, arguments.card),
            **initial_lora(arguments.card, arguments.lora, arguments.random_seed)}


def new_event_record(arguments: argparse.Namespace) -> LoraRecord:
    """Returns the LoraRecord, at step 0, of a training on events.

    Args:
        arguments: of common.run.event_arguments.event_training_arguments.
    """
    path = arguments.backbone_path
    ontology = ontology_of(arguments)
    task = {"questions": ontology.questions, "roles": {kind: list(roles) for kind, roles in ontology.roles.items()},
            "seq_len": arguments.seq_len}
    return LoraRecord(arguments.card.name, arguments.lora.rank, arguments.lora.alpha, tuple(arguments.lora.targets), 0,
                      path_to_record(path), backbone_hash(path), arguments.heads, task)


def plan_of_events(arguments: argparse.Namespace) -> Plan:
    """Returns the Plan of a training on events; ``train_rows`` are Queries, ``valid_rows`` an EventSet.

    Raises:
        UserError: the work directory or the data cannot be used, or the weights would never be updated.
    """
    check_work_dir(arguments, [arguments.train_data, arguments.valid_data, arguments.init_checkpoint])
    pieces = WordPieces(arguments.vocab_path)
    if pieces.count > arguments.card.vocabulary:
        raise UserError(f"{arguments.vocab_path}: has {pieces.count} pieces, and {arguments.card.name} knows "
                        f"{arguments.card.vocabulary}; it belongs to another model")
    train, valid = (read_event_set(path, arguments.format, ontology_of(arguments), pieces, arguments.seq_len)
                    for path in (arguments.train_data, arguments.valid_data))
    last_step = planned_steps(arguments, len(train.queries))
    say_useless_steps(arguments, last_step)
    if arguments.warmup_share is not None:
        arguments.warmup_step = round(arguments.warmup_share * last_step)
    return Plan(train.queries, valid, batches_per_epoch(len(train.queries), arguments.train_batch_size), last_step, 0,
                f"{len(train.events)} training events with {len(train.queries)} queries, {len(valid.events)} "
                f"validation events with {len(valid.queries)}")


def batches_of_events(arguments: argparse.Namespace, queries: Sequence[Query],
                      steps_done: int = 0) -> Iterator[tuple[int, int, QueryBatch]]:
    """Returns the batches of a training on events behind ``steps_done`` steps; see query_batches."""
    return query_batches(queries, arguments.train_batch_size, arguments.random_seed, not arguments.no_shuffle,
                         steps_done)


def answer_queries(evaluate, queries: Sequence[Query], batch_size: int,
                   seed_argmax: bool) -> tuple[list[Answer], list[float]]:
    """Answers queries.

    Args:
        evaluate: ``(QueryBatch) -> (count or more, 2)``, the logits of start and end as a numpy array.
        queries: list of Query.
        batch_size: so many at once.
        seed_argmax: whether start and end are taken by themselves.

    Returns:
        The Answer to each query, and its loss on its first gold span, or on none.
    """
    answers, losses = [None] * len(queries), [0.0] * len(queries)
    decode = argmax_span if seed_argmax else best_span
    for indices, batch in evaluation_batches(queries, batch_size):
        logits = evaluate(batch)
        for index, start, end in zip(indices.tolist(), batch.offsets.tolist(), batch.offsets[1:].tolist()):
            query = queries[index]
            answers[index] = decode(query, logits[start:end])
            losses[index] = span_losses(query, logits[start:end], query.spans[0] if query.spans else None)
    return answers, losses


def found_arguments(count: int, queries: Sequence[Query], answers: Sequence[Answer]) -> list[list[Found]]:
    """Returns the predicted arguments of each of ``count`` events."""
    found: list[list[Found]] = [[] for _ in range(count)]
    for query, answer in zip(queries, answers, strict=True):
        if answer.span is not None:
            found[query.event].append(Found(query.role, answer.span))
    return found


def validate_events(arguments: argparse.Namespace, steps: Steps, rows: EventSet, progress: Progress,
                    log: Log) -> float:
    """Scores the validation set, takes the scores into the Progress and the Log; returns the seconds that it took.

    Raises:
        UserError: the loss is not finite.
    """
    begun = time.perf_counter()
    answers, losses = answer_queries(steps.evaluate, rows.queries, arguments.valid_batch_size, arguments.seed_argmax)
    loss = float(np.mean(losses))
    if not np.isfinite(loss):
        raise UserError(progress.divergence(f"the validation loss after step {progress.step}", loss, progress.step))
    counts = micro_scores(rows.events, found_arguments(len(rows.events), rows.queries, answers))
    seconds = time.perf_counter() - begun
    progress.take_validation(loss, seconds, counts[SCORE].f1)
    scores = {measure: {"precision": each.precision, "recall": each.recall, "f1": each.f1}
              for measure, each in counts.items()}
    first = scores[SCORE]
    log.write(f"| Eval {progress.evaluations:3d} at step {progress.step:>8d} | time: {seconds:5.2f}s | "
              f"valid loss {loss:7.4f} | precision {first['precision']:.4f} | recall {first['recall']:.4f} | "
              f"F1 {first['f1']:.4f} | best F1 {progress.best_score:.4f}",
              {"kind": "validation", "count": progress.evaluations, "step": progress.step, "epoch": progress.epoch,
               "seconds": seconds, "loss": loss, "scores": scores, "best_f1": progress.best_score})
    return seconds


def keep_best(arguments: argparse.Namespace, progress: Progress, path: str) -> None:
    """Keeps the checkpoint of the best epoch alone; ``path`` is the one just written and scored."""
    if progress.is_best and progress.best_checkpoint not in (None, path):
        Path(progress.best_checkpoint).unlink(missing_ok=True)
    if progress.is_best:
        progress.best_checkpoint = path
    elif path != progress.best_checkpoint:
        Path(path).unlink(missing_ok=True)


def summary_of_events(arguments: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """Returns what ``train_summary.json`` has of a training on events alone."""
    return {"best_f1": progress.best_score, "checkpoint": progress.best_checkpoint,
            "checkpoint_bytes": os.path.getsize(progress.best_checkpoint)}


EVENTS = TrainingTask(plan_of_events, batches_of_events, validate_events, keep_best, summary_of_events,
                      examples="queries")
