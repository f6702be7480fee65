"""Scores of predicted event arguments against gold ones: precision, recall and F1 by what counts as equal.

Micro-averaged: counts are summed over all events. ``classification`` counts event, role and exact span,
``identification`` event and exact span, ``token`` event, role and word. RAMS's official program (Ebner et al. 2020)
counts as ``classification`` does in its plain mode, without type-constrained decoding.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from common.checks import check_shape, shortened
from common.data.events import Event, Ontology, Span, check_span
from common.data.span_counts import MEASURES, Counts, Found, count_event, count_roles, total
from common.errors import UserError
from common.files import read_json_lines
from common.metrics.bootstrap import Tally

PARTS = ("precision", "recall", "f1")
PREDICTION_SHAPE = {"sentence": int, "trigger": [int], "event_type": str,
                    "arguments": [{"role": str, "start": int, "end": int}]}


def metric_name(measure: str, part: str) -> str:
    """Returns a score's name, such as ``classification_f1``."""
    return f"{measure}_{part}"


def read_predictions(path: str | os.PathLike, events: Sequence[Event], ontology: Ontology) -> list[list[Found]]:
    """Reads a file that bert_eae_predict.py wrote: one line for each gold event, in the same order.

    Raises:
        UserError: a line is something else or of another event, a span is outside its sentence, a role is unknown or
            has the same span twice, or lines are missing; with file and line.
    """
    found: list[list[Found]] = []
    for line_number, record in read_json_lines(path):
        where = f"{path}:{line_number}"
        check_shape(record, PREDICTION_SHAPE, where)
        if len(found) == len(events):
            raise UserError(f"{where}: there are {len(events)} gold events, and this is one more")
        event = events[len(found)]
        if (record["sentence"], tuple(record["trigger"]), record["event_type"]) != (
                event.sentence, tuple(event.trigger), event.event_type):
            raise UserError(f"{where}: is of the event {shortened(record['event_type'])} of sentence "
                            f"{record['sentence']}, expected {event.event_type} of sentence {event.sentence} "
                            f"({event.where}); were these predictions made from other data?")
        arguments = []
        for argument in record["arguments"]:
            span = Span(argument["start"], argument["end"])
            check_span(span, len(event.words), f"an argument {shortened(argument['role'])}", where)
            if argument["role"] not in ontology.questions:
                raise UserError(f"{where}: the role {shortened(argument['role'])} is unknown; expected one of "
                                f"{', '.join(ontology.questions)}")
            arguments.append(Found(argument["role"], span))
        if len(set(arguments)) < len(arguments):
            raise UserError(f"{where}: the same argument appears twice")
        found.append(arguments)
    if len(found) < len(events):
        raise UserError(f"{path}: has {len(found)} lines, expected {len(events)}, one for each gold event")
    return found


def _scores(sums: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the scores of corpora from their counts ``(corpora, 3)``: predicted, gold, correct."""
    predicted, gold, correct = sums.T
    return {"precision": correct / np.maximum(predicted, 1), "recall": correct / np.maximum(gold, 1),
            "f1": 2 * correct / np.maximum(predicted + gold, 1)}


def tally_events(events: Sequence[Event], found: Sequence[Sequence[Found]]) -> dict[str, Tally]:
    """Scores predicted arguments; the segments are sentences, which may have several events.

    Args:
        events: gold.
        found: the predicted arguments of each.

    Returns:
        ``{metric: Tally}``, precision, recall and F1 of each measure, from 0 to 1.
    """
    sentences = {index: place for place, index in enumerate(dict.fromkeys(event.sentence for event in events))}
    statistics = {measure: np.zeros((len(sentences), 3)) for measure in MEASURES}
    for event, arguments in zip(events, found, strict=True):
        for measure, counts in count_event(event, arguments).items():
            statistics[measure][sentences[event.sentence]] += counts.predicted, counts.gold, counts.correct
    return {metric_name(measure, part): Tally(counts, lambda sums, part=part: _scores(sums)[part],
                                              _scores(counts)[part].tolist())
            for measure, counts in statistics.items() for part in PARTS}


def role_table(events: Sequence[Event], found: Sequence[Sequence[Found]], roles: Sequence[str]) -> dict[str, Any]:
    """Returns ``{role: {precision, recall, f1, predicted, gold, correct}}`` by ``classification``, in ``roles``' order.

    Args:
        events, found: as for tally_events.
        roles: all of them; those that neither gold nor predictions have are left out.
    """
    by_event = [count_roles(event, arguments) for event, arguments in zip(events, found, strict=True)]
    counts: Mapping[str, Counts] = {role: total(each[role] for each in by_event if role in each) for role in roles}
    return {role: {"precision": each.precision, "recall": each.recall, "f1": each.f1, "predicted": each.predicted,
                   "gold": each.gold, "correct": each.correct}
            for role, each in counts.items() if each.predicted or each.gold}
