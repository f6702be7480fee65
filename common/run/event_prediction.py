"""Predicts the arguments of events with a checkpoint: for a sentence, for a file of them, or for a data set."""

import argparse
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.checks import check_shape, printable
from common.data.event_sets import read_events
from common.data.events import Event, Ontology
from common.data.marked_sentences import read_marked, read_marked_file
from common.data.word_pieces import Query, WordPieces, make_queries
from common.errors import UserError
from common.files import check_outputs, is_stream, say_written, write_json, write_json_lines
from common.model.bert_cards import HEAD_NAMES, BertCard
from common.model.bert_files import default_checkpoint, read_bert, read_event_checkpoint, vocabulary_of
from common.model.checkpoint import backbone_hash
from common.model.initial_weights import RANDOM
from common.model.lora_arrays import BertLoraSettings, merge_lora
from common.model.lora_file import LoraRecord, is_lora
from common.model.weight_files import resolve_checkpoint
from common.paths import ROOT
from common.run.event_training import answer_queries
from common.run.spans import Answer

TASK_SHAPE = {"questions": {str: str}, "roles": {str: [str]}, "seq_len": int}


@dataclass(frozen=True)
class EventModel:
    """A model that answers queries.

    Attributes:
        evaluate: ``(QueryBatch) -> (count or more, 2)``, the logits of start and end as a numpy array.
        peak_memory_bytes: peak memory so far.
        description: ``{framework, version, device, precision}``.
    """

    evaluate: Callable
    peak_memory_bytes: Callable
    description: dict


def load(arguments: argparse.Namespace) -> None:
    """Reads the checkpoint that a command line names, and adds what it holds to the namespace.

    Added are ``card`` (BertCard), ``lora`` (BertLoraSettings of rank 0), ``weights`` (``{name: float32 array}`` of the
    plain model, LoRA's updates in it), ``ontology``, ``seq_len`` and, where it is not given, ``vocab``.

    Args:
        arguments: of common.run.event_arguments.event_prediction_arguments.

    Raises:
        UserError: the checkpoint or its backbone cannot be used.
    """
    path = resolve_checkpoint(arguments.checkpoint)
    arrays, card, record = read_event_checkpoint(path)
    task = check_shape(record.task, TASK_SHAPE, f"{path}: the record of its task")
    backbone = arguments.init_checkpoint or ("" if not record.lora_dim else backbone_of(record, card, path))
    if record.lora_dim:
        settings = BertLoraSettings(record.lora_dim, record.lora_alpha, targets=record.lora_targets)
        lora = {name: array for name, array in arrays.items() if is_lora(name)}
        heads = {name: arrays[name] for name in HEAD_NAMES}
        arrays = merge_lora({**read_bert(backbone, card), **heads}, lora, settings)
    arguments.card, arguments.lora, arguments.weights = card, BertLoraSettings(rank=0), arrays
    arguments.ontology = Ontology(task["questions"], {kind: tuple(roles) for kind, roles in task["roles"].items()})
    arguments.seq_len = task["seq_len"]
    arguments.vocab = arguments.vocab or vocabulary_of(card, backbone or path)


def backbone_of(record: LoraRecord, card: BertCard, path: str) -> str:
    """Returns the path of the backbone that a checkpoint was trained on: the recorded one, or the card's own.

    Raises:
        UserError: neither has the recorded hash.
    """
    if record.backbone_path == RANDOM:
        return RANDOM
    recorded = os.path.join(ROOT, record.backbone_path)
    if os.path.isfile(recorded) and backbone_hash(recorded) == record.backbone_sha256:
        return recorded
    try:
        own = default_checkpoint(card)
        if backbone_hash(resolve_checkpoint(own)) == record.backbone_sha256:
            return own
    except UserError:  # the message below says what is missing
        pass
    raise UserError(f"{path}: was trained on {printable(record.backbone_path)}, which is not there or is another file "
                    f"now, and the own backbone of {card.name} is not it either; give it as --init_checkpoint")


def event_type_of(arguments: argparse.Namespace) -> str:
    """Returns the event type of the sentences.

    Raises:
        UserError: it is unknown, or not given where the model knows several.
    """
    known = list(arguments.ontology.roles)
    if arguments.event_type is None and len(known) == 1:
        return known[0]
    if arguments.event_type not in known:
        found = "is missing" if arguments.event_type is None else f"{printable(arguments.event_type)}: is unknown"
        raise UserError(f"--event_type {found}; the model knows {', '.join(known)}")
    return arguments.event_type


def records_of(events: Sequence[Event], queries: Sequence[Query], answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """Returns for each event what a file of predictions holds of it."""
    records = [{"sentence": event.sentence, "id": event.identity, "trigger": list(event.trigger),
                "event_type": event.event_type, "arguments": []} for event in events]
    for query, answer in zip(queries, answers, strict=True):
        if answer.span is not None:
            words = events[query.event].words[answer.span.start:answer.span.end + 1]
            records[query.event]["arguments"].append(
                {"role": query.role, "start": answer.span.start, "end": answer.span.end, "text": " ".join(words),
                 "probability": round(answer.probability, 6)})
    return records


def print_arguments(event: Event, record: dict[str, Any]) -> None:
    """Prints what was found of one event: its trigger, and a line ``role  words  probability`` for each argument."""
    trigger = " ".join(event.words[event.trigger.start:event.trigger.end + 1])
    print(f"{event.where}: {event.event_type}, trigger \"{trigger}\"")
    width = max((len(found["role"]) for found in record["arguments"]), default=0)
    for found in sorted(record["arguments"], key=lambda found: -found["probability"]):
        print(f"  {found['role']:{width}}  {found['probability']:.3f}  {found['text']}")
    if not record["arguments"]:
        print("  no arguments found")


def run_prediction(arguments: argparse.Namespace, prepare: Callable[[argparse.Namespace], EventModel]) -> None:
    """Predicts, and prints what was found or, for a data set, writes a file of it and a summary beside it.

    Args:
        arguments: of common.run.event_arguments.event_prediction_arguments.
        prepare: ``(arguments) -> EventModel`` of what load has added; it is called when nothing else is left to be
            found wrong.

    Raises:
        UserError: the checkpoint or the data cannot be used, a logit is not finite, or the output cannot be written.
    """
    path = os.path.join(arguments.work_dir, arguments.output_file)
    outputs = [path, *([] if is_stream(path) else [path + ".summary.json"])] if arguments.data else []
    check_outputs(outputs, [arguments.data, arguments.file, arguments.checkpoint, arguments.init_checkpoint])
    load(arguments)
    if arguments.data:
        events = read_events(arguments.data, arguments.format, arguments.ontology)
    elif arguments.file:
        events = read_marked_file(arguments.file, event_type_of(arguments))
    else:
        events = [read_marked(arguments.sentence, event_type_of(arguments))]
    source = arguments.data or arguments.file or "the sentence"
    queries = make_queries(events, arguments.ontology, WordPieces(arguments.vocab), arguments.seq_len, source)
    model = prepare(arguments)
    started = time.perf_counter()
    answers, losses = answer_queries(model.evaluate, queries, arguments.valid_batch_size, arguments.seed_argmax)
    if not np.isfinite(losses).all():
        raise UserError(f"{arguments.checkpoint}: the model's logits are not finite; its training has diverged")
    records = records_of(events, queries, answers)
    if not arguments.data:
        for event, record in zip(events, records):
            print_arguments(event, record)
        return
    write_json_lines(path, records)
    seconds = time.perf_counter() - started
    for summary in outputs[1:]:
        write_json(summary, {**model.description, "events": len(events), "queries": len(queries), "seconds": seconds,
                             "loss": float(np.mean(losses)), "peak_memory_bytes": model.peak_memory_bytes()})
    found = sum(len(record["arguments"]) for record in records)
    say_written(path, f"{len(events)} events, {len(queries)} queries, {found} arguments found in {seconds:.1f} s: "
                      f"{path}")
