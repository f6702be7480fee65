"""Events in sentences, and PHEE's files of them: one JSON object a line, and two CSV files of roles and questions.

    {"id": "3708949_1", "sentence": ["After", "therapy", ...],
     "event": [[[0, 0, "Adverse_event"], [27, 52, "Effect"], [3, 14, "Treatment"]]]}

The first of an event's triples is its trigger and type, the others are arguments and roles. Positions are those of
words, both ends included; with an ``s_start`` they count from there. A line of a CSV file is ``role,question``.
"""

import csv
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from common.checks import shortened
from common.errors import UserError, note
from common.files import read_json_lines, read_lines

SENTENCE_SHAPE = {"sentence": [str], "event": [[list]]}
QUESTION_FILES = ("arg_queries_stage1.csv", "arg_queries_stage2.csv")


class Span(NamedTuple):
    """Words of a sentence; ``start`` and ``end`` are both inside."""

    start: int
    end: int


@dataclass(frozen=True)
class Event:
    """One event with its gold arguments.

    Attributes:
        sentence: index of its sentence in the file, from 0 on; events of one sentence share it.
        where: file and line, for messages.
        words: of the sentence; a word may be blank.
        trigger: Span of the words that name the event.
        event_type: such as ``Adverse_event``.
        arguments: ``{role: Spans in order, each once}`` of the roles that have any.
        identity: of the sentence, as its file has it.
    """

    sentence: int
    where: str
    words: tuple[str, ...]
    trigger: Span
    event_type: str
    arguments: dict[str, tuple[Span, ...]]
    identity: str = ""


@dataclass(frozen=True)
class Ontology:
    """What is asked about events.

    Attributes:
        questions: ``{role: question}``; where a data set has none, the role itself, in words.
        roles: ``{event type: its roles}`` in the order in which they are asked.
    """

    questions: dict[str, str]
    roles: dict[str, tuple[str, ...]]


def read_questions(paths: Iterable[str | os.PathLike]) -> dict[str, str]:
    """Reads files of lines ``role,question``; returns ``{role: question}`` in their order.

    Raises:
        UserError: a line is something else, or a role appears twice; with file and line.
    """
    questions: dict[str, str] = {}
    for path in paths:
        for line_number, line in read_lines(path):
            if not line.strip():
                continue
            try:
                fields = [field.strip() for field in next(csv.reader([line.removeprefix("\ufeff")]))]
            except csv.Error:  # a line end of another kind, inside the line
                fields = []
            if len(fields) != 2 or not all(fields):
                raise UserError(f"{path}:{line_number}: {shortened(line)}, expected a role, a comma and its question")
            if fields[0] in questions:
                raise UserError(f"{path}:{line_number}: the role {fields[0]} has a question already")
            questions[fields[0]] = fields[1]
    if not questions:
        raise UserError(f"{', '.join(map(str, paths))}: no questions in it")
    return questions


def read_phee(path: str | os.PathLike, questions: dict[str, str], says: bool = True) -> list[Event]:
    """Reads a file of PHEE's format.

    A sentence without words and one without an event are left out, and said. Arguments of one role that are the same
    span count once; those that overlap, of which PHEE has some, all count, and are said.

    Args:
        path: gzipped or not.
        questions: of read_questions; every role needs one.
        says: whether what is left out, or counted in an unexpected way, is said.

    Raises:
        UserError: a line is something else: a trigger or an argument is outside its sentence or ends before it begins,
            a role has no question, or no line has an event; with file and line.
    """
    events, empty, without_event, index = [], [], 0, -1
    for index, (line_number, record) in enumerate(read_json_lines(path, SENTENCE_SHAPE)):
        where = f"{path}:{line_number}"
        if not any(word.strip() for word in record["sentence"]):
            empty.append(line_number)
            continue
        without_event += not record["event"]
        first = record.get("s_start", 0)
        if type(first) is not int:
            raise UserError(f"{where}: .s_start is {shortened(first)}, expected an integer")
        for event in record["event"]:
            events.append(_event(index, where, record, event, first, questions))
    if empty and says:
        note(f"{path}: {len(empty)} sentences have no words and are left out, the first in line {empty[0]}")
    if without_event and says:
        note(f"{path}: {without_event} of {index + 1} sentences have no event and are left out")
    if not events:
        raise UserError(f"{path}: no events in it; {len(empty)} sentences have no words, {without_event} no event")
    if says:
        say_overlaps(path, events)
    return events


def say_overlaps(path: str | os.PathLike, events: list[Event]) -> None:
    """Says how many pairs of arguments of one role have words in common, and where the first is."""
    pairs = [f"words {one.start} to {one.end} and {other.start} to {other.end} of {role} ({event.where})"
             for event in events for role, spans in event.arguments.items()
             for one, other in zip(spans, spans[1:]) if other.start <= one.end]
    if pairs:
        note(f"{path}: {len(pairs)} pairs of arguments of one role overlap, and all count; the first: {pairs[0]}")


def _event(sentence, where, record, triples, first, questions):
    """Returns the Event of a list ``[[start, end, type], [start, end, role], ...]``."""
    words = tuple(record["sentence"])
    if not triples:
        raise UserError(f"{where}: an event is an empty list, expected its trigger first")
    found = [_triple(triple, first, len(words), where, "an argument" if number else "the trigger")
             for number, triple in enumerate(triples)]
    (trigger, event_type), *rest = found
    arguments: dict[str, list[Span]] = {}
    for span, role in rest:
        if role not in questions:
            raise UserError(f"{where}: the role {shortened(role)} has no question; expected one of "
                            f"{', '.join(questions)}, or one more line in the files of questions")
        spans = arguments.setdefault(role, [])
        if span not in spans:
            spans.append(span)
    return Event(sentence, where, words, trigger, event_type,
                 {role: tuple(sorted(spans)) for role, spans in arguments.items()}, str(record.get("id", "")))


def _triple(triple, first, count, where, what):
    """Returns the Span and the name of ``[start, end, name]``, checked against a sentence of ``count`` words."""
    if len(triple) != 3 or type(triple[0]) is not int or type(triple[1]) is not int or type(triple[2]) is not str:
        raise UserError(f"{where}: {what} is {shortened(triple)}, expected [first word, last word, name]")
    span, name = Span(triple[0] - first, triple[1] - first), triple[2]
    if not name.strip():
        raise UserError(f"{where}: {what} {shortened(triple)} has no name")
    check_span(span, count, f"{what} {shortened(name)}", where)
    return span, name


def check_span(span: Span, count: int, what: str, where: str) -> None:
    """Checks that a span lies in a sentence of ``count`` words.

    Raises:
        UserError: it does not, or it ends before it begins.
    """
    if span.end < span.start:
        raise UserError(f"{where}: {what} begins at word {span.start} and ends before, at word {span.end}")
    if span.start < 0 or span.end >= count:
        raise UserError(f"{where}: {what} is at words {span.start} to {span.end}, outside the sentence, whose words "
                        f"are 0 to {count - 1}")
