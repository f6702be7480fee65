"""Data sets of events as flags name them: PHEE's format or RAMS's, with the questions that are asked."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.data.events import QUESTION_FILES, Event, Ontology, read_phee, read_questions
from common.data.rams import ROLES_FILE, read_rams, read_roles
from common.data.word_pieces import Query, WordPieces, make_queries
from common.errors import UserError

PHEE, RAMS = "phee", "rams"


@dataclass(frozen=True)
class EventSet:
    """Events and the queries about them, event by event.

    Attributes:
        path: of the file.
        events: list of Event.
        queries: list of Query; those of an event lie together.
    """

    path: str
    events: list[Event]
    queries: list[Query]


def read_events(path: str | os.PathLike, form: str, ontology: Ontology) -> list[Event]:
    """Reads a file of events in one of the formats, PHEE or RAMS.

    Raises:
        UserError: as read_phee or read_rams.
    """
    return read_rams(path, ontology) if form == RAMS else read_phee(path, ontology.questions)


def read_ontology(path: str | os.PathLike, form: str, questions: Sequence[str] | None,
                  roles: str | None) -> Ontology:
    """Reads what is asked about the events of a training.

    Args:
        path: of the events to train with.
        form: PHEE, where every event type that occurs in them is asked for every role, or RAMS.
        questions: PHEE's files of questions; by default those beside the events.
        roles: RAMS's file of roles; by default beside the events or one or two folders above.

    Raises:
        UserError: a file is missing or something else.
    """
    folder = Path(path).parent
    if form == RAMS:
        near = [folder / ROLES_FILE, folder.parent / ROLES_FILE, folder.parent.parent / ROLES_FILE]
        return read_roles(roles or next((each for each in near if each.is_file()), near[0]))
    files = questions or [folder / name for name in QUESTION_FILES if (folder / name).is_file()]
    if not files:
        raise UserError(f"{folder}: no {' or '.join(QUESTION_FILES)} there; give the files of questions as --questions")
    known = read_questions(files)
    types = dict.fromkeys(event.event_type for event in read_phee(path, known, says=False))
    return Ontology(known, {event_type: tuple(known) for event_type in types})


def read_event_set(path: str | os.PathLike, form: str, ontology: Ontology, pieces: WordPieces,
                   seq_len: int) -> EventSet:
    """Reads a file of events and makes their queries.

    Raises:
        UserError: as read_events and make_queries.
    """
    events = read_events(path, form, ontology)
    return EventSet(str(path), events, make_queries(events, ontology, pieces, seq_len, path))
