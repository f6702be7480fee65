"""A seeded grammar of events in one-sentence reports of a workshop, in PHEE's format.

Three event types, eight roles, none of which every event has. The words of a role are of its own kind, and a phrase can
stand in more than one role (a person repairs or buys, a thing breaks or is sold), so that the sentence has to be read.
"""

import os
import random
from typing import Any, NamedTuple

from common.data.events import QUESTION_FILES
from common.demo.grammar import Draw, pick
from common.files import atomic_write, write_json_lines

SIZES = {"train": 400, "dev": 80, "test": 120}
QUESTIONS = {
    "Agent": "Who acts?",
    "Thing": "Which thing is it about?",
    "Part": "Which part of the thing is it about?",
    "Cause": "Why did it happen?",
    "Buyer": "Who receives the thing?",
    "Price": "How much is paid?",
    "Time": "When does it happen?",
    "Place": "Where does it happen?",
}
PEOPLE = ("the old clockmaker", "Ingrid", "a young apprentice", "our neighbour", "Mr. Adeyemi", "the night porter",
          "two sisters", "a retired teacher", "the ferry company", "Tomasz", "an anxious customer", "the museum",
          "my uncle Ravi", "the school orchestra", "a collector from Lima", "the station master")
THINGS = ("the grandfather clock", "a red bicycle", "the brass telescope", "an upright piano", "the coffee grinder",
          "a sewing machine", "the wooden canoe", "a film camera", "the garden gate", "an accordion",
          "the music box", "a weather vane", "the printing press", "a leather suitcase", "the cuckoo clock",
          "an electric kettle")
PARTS = ("pendulum", "front wheel", "main lens", "left pedal", "handle", "thread guide", "hull", "shutter",
         "lower hinge", "third key", "winding spring", "pivot", "ink roller", "lock", "door", "lid")
CAUSES = ("damp weather", "a heavy fall", "too much oil", "years of neglect", "a power cut", "rust", "frost",
          "careless transport", "salt water", "dust")
PRICES = ("forty euros", "ninety pounds", "300 dollars", "a bag of apples", "twelve hundred kroner", "75 francs",
          "almost nothing", "1,850 euros")
TIMES = ("on Monday", "last winter", "this morning", "in March", "before lunch", "during the fair", "yesterday",
         "in 1987", "after closing time", "at dawn")
PLACES = ("in the workshop", "at the market", "in Lisbon", "near the harbour", "in the back room", "at the station",
          "on the second floor", "by the river")


class Form(NamedTuple):
    """One way to say an event; a word in braces is a role, in angle brackets the trigger."""

    event_type: str
    text: str


FORMS = (
    Form("Break", "{Thing} <broke> {Place} {Time} because of {Cause}"),
    Form("Break", "{Time} {Agent} <damaged> the {Part} of {Thing} {Place}"),
    Form("Break", "the {Part} of {Thing} <gave way> {Time} , and {Cause} was to blame"),
    Form("Break", "{Cause} <ruined> {Thing} {Place}"),
    Form("Repair", "{Agent} <repaired> {Thing} {Place} {Time}"),
    Form("Repair", "{Time} the {Part} of {Thing} was <replaced> by {Agent} for {Price}"),
    Form("Repair", "{Agent} <mended> the {Part} , which had suffered from {Cause}"),
    Form("Repair", "after {Cause} , {Thing} had to be <restored> {Place}"),
    Form("Sale", "{Agent} <sold> {Thing} to {Buyer} for {Price} {Time}"),
    Form("Sale", "{Buyer} <bought> {Thing} from {Agent} {Place}"),
    Form("Sale", "{Time} {Thing} <went> to {Buyer} for {Price}"),
    Form("Sale", "{Place} {Buyer} paid {Price} when {Thing} was <auctioned>"),
)
FILLERS = {"Agent": PEOPLE, "Buyer": PEOPLE, "Thing": THINGS, "Part": PARTS, "Cause": CAUSES, "Price": PRICES,
           "Time": TIMES, "Place": PLACES}
OPTIONAL = ("Time", "Place")
OPENINGS = ("", "", "", "we heard that ", "as the diary says , ", "it is true that ")
CLOSINGS = (".", ".", ".", ", they say .", ", to nobody's surprise .", ", which made the news .")


def made_sentence(draw: Draw) -> tuple[list[str], list[list]]:
    """Returns the words of a sentence and its event, ``[[start, end, name], ...]`` with the trigger first."""
    form = pick(draw, FORMS)
    words, triples, trigger, used = pick(draw, OPENINGS).split(), [], [], set()
    for piece in _pieces(form.text):
        if piece.startswith("{"):
            role = piece[1:-1]
            if role in OPTIONAL and draw() < 0.3:
                continue
            phrase = pick(draw, [each for each in FILLERS[role] if each not in used])
            used.add(phrase)
            triples.append([len(words), len(words) + len(phrase.split()) - 1, role])
            words += phrase.split()
        elif piece.startswith("<"):
            found = piece[1:-1].split()
            trigger = [len(words), len(words) + len(found) - 1, form.event_type]
            words += found
        else:
            words += piece.split()
    return [*words, *pick(draw, CLOSINGS).split()], [trigger, *triples]


def _pieces(text):
    """Splits a Form's text at its braces and angle brackets."""
    piece = ""
    for character in text:
        if character in "{<":
            yield piece
            piece = character
        elif character in "}>":
            yield piece + character
            piece = ""
        else:
            piece += character
    yield piece


def made_rows(seed: int) -> dict[str, list[dict[str, Any]]]:
    """Returns ``{split: rows}`` of SIZES in PHEE's format; no sentence is in two splits.

    One in twelve sentences has two events, joined by ``and then``.

    Args:
        seed: the same one gives the same rows on every machine.
    """
    draw = random.Random(seed).random
    seen: set[tuple[str, ...]] = set()
    splits: dict[str, list[dict[str, Any]]] = {}
    for split, size in SIZES.items():
        rows = splits[split] = []
        while len(rows) < size:
            words, event = made_sentence(draw)
            events = [event]
            if draw() < 1 / 12:
                more, second = made_sentence(draw)
                words = [*words[:-1], "and", "then", *more]
                shift = len(words) - len(more)
                events.append([[start + shift, end + shift, name] for start, end, name in second])
            if tuple(words) not in seen:
                seen.add(tuple(words))
                rows.append({"sentence": words, "s_start": 0, "ner": [], "relation": [], "event": events,
                             "id": f"{split}_{len(rows)}"})
    return splits


def write_events(folder: str | os.PathLike, seed: int) -> list[str]:
    """Writes the splits and the file of questions into a folder; returns their paths."""
    paths = []
    for split, rows in made_rows(seed).items():
        paths.append(os.path.join(folder, f"{split}.json"))
        write_json_lines(paths[-1], rows)
    paths.append(os.path.join(folder, QUESTION_FILES[0]))
    with atomic_write(paths[-1]) as file:
        file.writelines(f"{role},{question}\n" for role, question in QUESTIONS.items())
    return paths
