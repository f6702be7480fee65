"""A small grammar of English about made-up buildings, universities, dishes, astronauts, artists and asteroids.

A subject has facts. Each fact has several wordings, which follow the subject, and questions that ask for it. Texts word
each of the given facts once. All randomness comes from ``draw``, a function that returns floats in [0, 1).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from common.demo.grammar import Draw, pick, shuffled

TOWNS = ("Aldermouth", "Brindle Cross", "Carrow", "Dunmere", "Eskby", "Fenwick Sound", "Garrowhill", "Hollin Bridge",
         "Kestrel Bay", "Lowmarsh", "Merriden", "Norham Quay", "Otterby", "Penhallow", "Ravensea", "Skelby")
GIVEN_NAMES = ("Ines", "Tobias", "Maren", "Anselm", "Odile", "Rufus", "Petra", "Lucian", "Freya", "Hugo", "Selma",
               "Viktor")
SURNAMES = ("Corval", "Ashdown", "Brennick", "Dalgaard", "Ferrow", "Hollis", "Jarnefelt", "Kessock", "Lindqvist",
            "Marchbank", "Orme", "Tressel")
PLAIN = {
    "ingredient": ("smoked trout", "buckwheat", "roast chestnuts", "sea kale", "black plums", "goat cheese",
                   "wild garlic", "barley", "rhubarb", "pickled walnuts"),
    "mission": ("Lodestar 3", "Petrel 1", "Halcyon 7", "Meridian 2", "Sandpiper 4", "Polestar 9", "Aurora 5"),
    "genre": ("chamber folk", "desert blues", "harbour jazz", "synth pop", "sea shanties", "slow waltzes"),
    "label": ("Tin Roof Records", "Blue Heron Music", "Lamplight Sounds", "Cobble Records", "Northern Echo"),
    "owner": ("the Harbour Trust", "the Weavers' Guild", "the Miller family", "the Tidewater Bank", "the town council"),
}
NAMES = {
    "Building": (("Tallow", "Granary", "Lantern", "Foundry", "Juniper", "Copperfield", "Wharf", "Orchard",
                  "Bellweather"),
                 ("House", "Hall", "Tower", "Court", "Theatre")),
    "University": (("Aldwych Moor", "Saint Brannoc", "Larkhill", "Great Tarn", "Wessendale", "Oakhanger", "Highmoor",
                    "Silverdale"), ("University", "College", "Institute")),
    "Food": (("Shepherd's", "Widow's", "Harvest", "Miller's", "Midnight", "Ferryman's", "Golden"),
             ("Stew", "Pudding", "Dumplings", "Pie", "Soup", "Cake")),
    "Astronaut": (GIVEN_NAMES, ("Varga", "Quill", "Stenmark", "Okafor", "Belmonte", "Thorne", "Yamane", "Drummond")),
    "Artist": (GIVEN_NAMES, ("Fairweather", "Rookwood", "Sable", "Winterbourne", "Castellan", "Nightingale")),
    "CelestialBody": (("Thessaly", "Orpheline", "Caldera", "Isidore", "Marigold", "Tamsin"),
                      ("17", "204", "311", "58", "906")),
}


@dataclass(frozen=True)
class Fact:
    """A property of a kind of subject.

    Attributes:
        predicate: its name in a triple.
        kind: of its values: ``person``, ``town``, ``year``, a range of numbers ``(min, max)``, or a key of PLAIN.
        wordings: what follows the subject; ``{o}`` stands for the value.
        questions: what asks for the value; ``{s}`` stands for the subject.
    """

    predicate: str
    kind: str | tuple[int, int]
    wordings: tuple[str, ...]
    questions: tuple[str, ...]


@dataclass(frozen=True)
class Category:
    """A kind of subject: its common noun, whether it is a person, and its facts."""

    noun: str
    is_person: bool
    facts: tuple[Fact, ...]


CATEGORIES = {
    "Building": Category("building", False, (
        Fact("architect", "person", ("was designed by {o}", "is the work of {o}", "was drawn up by {o}"),
             ("Who designed {s}?", "Which architect drew up {s}?")),
        Fact("location", "town", ("stands in {o}", "is located in {o}", "can be found in {o}"),
             ("Where is {s} located?", "In which town does {s} stand?")),
        Fact("completionYear", "year", ("was completed in {o}", "was finished in {o}", "has been there since {o}"),
             ("When was {s} completed?", "In what year was {s} finished?")),
        Fact("floorCount", (3, 60), ("has {o} floors", "is {o} floors high", "rises over {o} floors"),
             ("How many floors does {s} have?",)),
        Fact("owner", "owner", ("belongs to {o}", "is owned by {o}"), ("Who owns {s}?", "Who does {s} belong to?")))),
    "University": Category("university", False, (
        Fact("city", "town", ("is in {o}", "lies in {o}", "has its campus in {o}"),
             ("Where is the campus of {s}?", "In which town is {s}?")),
        Fact("established", "year", ("was founded in {o}", "was established in {o}", "opened its doors in {o}"),
             ("When was {s} founded?", "In what year was {s} established?")),
        Fact("rector", "person", ("is led by {o}", "has {o} as its rector"),
             ("Who leads {s}?", "Who is the rector of {s}?")),
        Fact("numberOfStudents", (900, 30000), ("has {o} students", "teaches {o} students"),
             ("How many students does {s} have?",)))),
    "Food": Category("dish", False, (
        Fact("region", "town", ("comes from {o}", "is a speciality of {o}", "was first cooked in {o}"),
             ("Where does {s} come from?", "Which town is {s} a speciality of?")),
        Fact("mainIngredient", "ingredient", ("is made with {o}", "contains {o}", "gets its taste from {o}"),
             ("What is {s} made with?", "What does {s} contain?")),
        Fact("creator", "person", ("was invented by {o}", "is the creation of {o}"), ("Who invented {s}?",)),
        Fact("cookingMinutes", (5, 240), ("takes {o} minutes to cook", "is cooked for {o} minutes"),
             ("How many minutes is {s} cooked for?",)))),
    "Astronaut": Category("astronaut", True, (
        Fact("birthPlace", "town", ("was born in {o}", "comes from {o}"),
             ("Where was {s} born?", "Where does {s} come from?")),
        Fact("mission", "mission", ("flew on {o}", "was a member of the crew of {o}"),
             ("On which mission did {s} fly?",)),
        Fact("selectionYear", "year", ("was selected in {o}", "became an astronaut in {o}"),
             ("When was {s} selected?", "When did {s} become an astronaut?")),
        Fact("daysInSpace", (4, 400), ("spent {o} days in space",), ("How many days did {s} spend in space?",)))),
    "Artist": Category("artist", True, (
        Fact("birthPlace", "town", ("was born in {o}", "comes from {o}"),
             ("Where was {s} born?", "Where does {s} come from?")),
        Fact("genre", "genre", ("plays {o}", "is known for {o}"), ("What is {s} known for?",)),
        Fact("debutYear", "year", ("released a first record in {o}", "has made records since {o}"),
             ("When did {s} release a first record?",)),
        Fact("recordLabel", "label", ("records for {o}", "is signed to {o}"), ("Which label does {s} record for?",)))),
    "CelestialBody": Category("asteroid", False, (
        Fact("discoverer", "person", ("was discovered by {o}", "was first seen by {o}"), ("Who discovered {s}?",)),
        Fact("discoveryYear", "year", ("was found in {o}", "has been known since {o}"), ("When was {s} found?",)),
        Fact("orbitDays", (300, 2400), ("takes {o} days for one orbit", "orbits the sun in {o} days"),
             ("How many days does {s} take for one orbit?",)))),
}


def draw_value(draw: Draw, kind: str | tuple[int, int]) -> str:
    """Returns a random value of a Fact's kind, as text."""
    if kind == "person":
        return f"{pick(draw, GIVEN_NAMES)} {pick(draw, SURNAMES)}"
    if kind == "town":
        return pick(draw, TOWNS)
    if kind == "year":
        return str(1840 + int(draw() * 176))
    if isinstance(kind, tuple):
        return str(kind[0] + int(draw() * (kind[1] - kind[0] + 1)))
    return pick(draw, PLAIN[kind])


def draw_subject(draw: Draw, category: str) -> str:
    """Returns a random name of a made-up subject of a category."""
    return " ".join(pick(draw, words) for words in NAMES[category])


def draw_facts(draw: Draw, category: str, count: int) -> list[tuple[Fact, str]]:
    """Returns ``count`` different random facts of a category, each with its value, no value twice."""
    facts = shuffled(draw, CATEGORIES[category].facts)[:count]
    values: dict[str, None] = {}
    while len(values) < len(facts):
        values[draw_value(draw, facts[len(values)].kind)] = None
    return list(zip(facts, values))


def describe(draw: Draw, category: str, subject: str, facts: Sequence[tuple[Fact, str]]) -> str:
    """Returns a text of one or more sentences that words each of the facts once.

    Args:
        draw: source of randomness.
        category: key of CATEGORIES.
        subject: its name.
        facts: ``(Fact, value)`` of each.
    """
    kind, remaining = CATEGORIES[category], shuffled(draw, facts)
    sentences: list[str] = []
    relative = "who" if kind.is_person else "which"
    while remaining:
        size = 1 + int(draw() * 1.8)
        wordings = [pick(draw, fact.wordings).format(o=value) for fact, value in remaining[:size]]
        remaining = remaining[size:]
        names: tuple[str, ...] = (subject,)
        if sentences:
            names = (subject, subject.split()[-1]) if kind.is_person else ("It", "It", f"The {kind.noun}", subject)
        name = pick(draw, names)
        if len(wordings) == 2 and name == subject and draw() < 0.4:
            sentences.append(f"{name}, {relative} {wordings[0]}, {wordings[1]}.")
        else:
            sentences.append(f"{name} {' and '.join(wordings)}.")
    return " ".join(sentences)
