"""RAMS 1.0c's files (Ebner et al. 2020): train, dev and test.jsonlines, and event_role_multiplicities.txt.

    {"doc_key": "nw_RC00c1...", "sentences": [["Transportation", "officials", ...], ...],
     "evt_triggers": [[69, 69, [["life.die.deathcausedbyviolentevents", 1.0]]]],
     "gold_evt_links": [[[69, 69], [85, 88], "evt043arg01killer"], ...]}

Positions are those of words in the whole document of five sentences, both ends included. A link is a trigger, an
argument and a role, whose number ``evt043arg01`` stands before its name. A line of event_role_multiplicities.txt is an
event type and, by turns, its roles and how many arguments of each there can be. A document is one sentence here.
"""

import os
import re

from common.checks import check_shape, shortened
from common.data.events import Event, Ontology, Span, check_span, say_overlaps
from common.errors import UserError, note
from common.files import read_json_lines, read_lines

ROLES_FILE = "event_role_multiplicities.txt"
SHAPE = {"doc_key": str, "sentences": [[str]], "evt_triggers": [list], "gold_evt_links": [list]}
ROLE_NUMBER = re.compile(r"evt\d+arg\d+")


def role_name(role: str) -> str:
    """Returns a role without its number: ``killer`` of ``evt043arg01killer``."""
    return ROLE_NUMBER.sub("", role, count=1)


def read_roles(path: str | os.PathLike) -> Ontology:
    """Reads event_role_multiplicities.txt; a role's question is its name.

    Raises:
        UserError: a line is something else, or an event type appears twice; with file and line.
    """
    roles: dict[str, tuple[str, ...]] = {}
    for line_number, line in read_lines(path):
        fields = line.split()
        if not fields:
            continue
        event_type, *rest = fields
        if len(rest) % 2 or not all(number.isdecimal() for number in rest[1::2]):
            raise UserError(f"{path}:{line_number}: {shortened(line)}, expected an event type and, by turns, its roles "
                            "and how many arguments of each there can be")
        if event_type in roles:
            raise UserError(f"{path}:{line_number}: the event type {event_type} appears twice")
        roles[event_type] = tuple(dict.fromkeys(map(role_name, rest[::2])))
    if not roles:
        raise UserError(f"{path}: no event types in it")
    return Ontology({role: role for of_type in roles.values() for role in of_type}, roles)


def read_rams(path: str | os.PathLike, ontology: Ontology) -> list[Event]:
    """Reads a file of RAMS's format, one document and event a line.

    Args:
        path: gzipped or not.
        ontology: of read_roles.

    Raises:
        UserError: a line is something else: a trigger or an argument is outside its document or ends before it begins,
            an event type or a role is unknown, a link is not of the trigger, or no line has an event; with file and
            line.
    """
    events, empty = [], []
    for index, (line_number, record) in enumerate(read_json_lines(path, SHAPE)):
        where = f"{path}:{line_number}"
        words = tuple(word for sentence in record["sentences"] for word in sentence)
        if not any(word.strip() for word in words):
            empty.append(line_number)
            continue
        for trigger in record["evt_triggers"]:
            events.append(_event(index, where, words, trigger, record, ontology))
    if empty:
        note(f"{path}: {len(empty)} documents have no words and are left out, the first in line {empty[0]}")
    if not events:
        raise UserError(f"{path}: no events in it")
    say_overlaps(path, events)
    return events


def _span(value, count, what, where):
    """Returns the Span of ``[start, end]``, checked."""
    if type(value) is not list or len(value) < 2 or type(value[0]) is not int or type(value[1]) is not int:
        raise UserError(f"{where}: {what} is {shortened(value)}, expected [first word, last word]")
    span = Span(value[0], value[1])
    check_span(span, count, what, where)
    return span


def _event(index, where, words, trigger, record, ontology):
    """Returns the Event of one of a document's triggers."""
    place = _span(trigger, len(words), "the trigger", where)
    check_shape(trigger[2:], [[list]], f"{where}: the trigger's types")
    types = [each[:1] for each in trigger[2]] if len(trigger) > 2 else []
    if len(types) != 1 or list(map(type, types[0])) != [str]:
        raise UserError(f"{where}: the trigger has {len(types)} event types, expected one")
    (event_type,) = types[0]
    if event_type not in ontology.roles:
        raise UserError(f"{where}: the event type {shortened(event_type)} is unknown; is --roles the {ROLES_FILE} of "
                        "this data?")
    arguments: dict[str, list[Span]] = {}
    for link in record["gold_evt_links"]:
        if len(link) != 3 or type(link[2]) is not str:
            raise UserError(f"{where}: a link is {shortened(link)}, expected [trigger, argument, role]")
        if _span(link[0], len(words), "a link's trigger", where) != place:
            continue
        role, span = role_name(link[2]), _span(link[1], len(words), f"an argument {shortened(link[2])}", where)
        if role not in ontology.roles[event_type]:
            raise UserError(f"{where}: the role {shortened(link[2])} has no question; {event_type} has "
                            f"{', '.join(ontology.roles[event_type]) or 'no roles'}")
        spans = arguments.setdefault(role, [])
        if span not in spans:
            spans.append(span)
    return Event(index, where, words, place, event_type,
                 {role: tuple(sorted(spans)) for role, spans in arguments.items()}, record["doc_key"])
