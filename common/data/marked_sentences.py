"""Sentences as people write them, with the words that name an event in brackets."""

import os
import re

from common.checks import shortened
from common.data.events import Event, Span
from common.errors import UserError, note
from common.files import read_lines

WORD = re.compile(r"\w+|[^\w\s]")


def read_marked(sentence: str, event_type: str, index: int = 0, where: str = "the sentence") -> Event:
    """Returns the Event, without arguments, of a sentence such as ``Then the patient [developed] jaundice.``

    Words are runs of letters and digits, and each other character by itself, as in PHEE.

    Raises:
        UserError: there is not one pair of brackets with a word inside.
    """
    if sentence.count("[") != 1 or sentence.count("]") != 1 or sentence.index("]") < sentence.index("["):
        raise UserError(f"{where}: {shortened(sentence)} has {sentence.count('[')} opening and {sentence.count(']')} "
                        'closing brackets, expected one pair around the trigger: "Then he [developed] jaundice."')
    before, rest = sentence.split("[")
    trigger, after = rest.split("]")
    parts = [WORD.findall(part) for part in (before, trigger, after)]
    if not parts[1]:
        raise UserError(f"{where}: no word is in the brackets of {shortened(sentence)}")
    start = len(parts[0])
    return Event(index, where, tuple(word for part in parts for word in part), Span(start, start + len(parts[1]) - 1),
                 event_type, {})


def read_marked_file(path: str | os.PathLike, event_type: str) -> list[Event]:
    """Reads a file of such sentences, one a line; blank lines are left out, and counted.

    Raises:
        UserError: as read_marked, with file and line, or there is no sentence.
    """
    events, blank = [], 0
    for line_number, line in read_lines(path):
        if line.strip():
            events.append(read_marked(line, event_type, line_number - 1, f"{path}:{line_number}"))
        else:
            blank += 1
    if blank:
        note(f"{path}: {blank} blank lines are left out")
    if not events:
        raise UserError(f"{path}: no sentences in it")
    return events
