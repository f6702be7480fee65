"""A small grammar of English that describes places to eat, in the tokenized style of the E2E texts.

Each slot can be worded in several grammatical positions. A reference starts from a plan: which slots the opening
sentence words, which slots follow, in what order. Every slot of a meaning representation (MR) is worded exactly once.
All randomness comes from ``draw``, a function that returns floats in [0, 1).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")
Draw = Callable[[], float]

VALUES = {
    "name": ("The Copper Kettle", "Juniper Lane", "The Tin Whistle", "Marlow 's Table", "The Quiet Heron", "Saltmarsh",
             "The Painted Door", "Bramble & Rye", "Lantern House", "The Old Foundry", "Three Barrels", "Pepperwood",
             "The Blue Acorn", "Nettle and Thyme", "The Corner Oven", "Hazel 's Kitchen", "The Sleepy Badger",
             "Olive Yard", "The Last Tram", "Cloud Nine", "The Brass Anchor", "Fig Tree Terrace", "Moonraker",
             "The Wandering Goose", "Larkspur", "The Long Spoon"),
    "Type": ("pub", "coffee shop", "restaurant", "bistro"),
    "food": ("Thai", "Mexican", "Greek", "Korean", "Turkish", "Ethiopian", "Seafood", "Vegetarian"),
    "price": ("cheap", "moderate", "high", "less than £ 15", "£ 15 - 25", "more than £ 25"),
    "customer rating": ("low", "average", "high", "1 out of 5", "3 out of 5", "5 out of 5"),
    "area": ("old town", "harbour", "market square", "station quarter"),
    "family friendly": ("yes", "no"),
    "near": ("Mill Bridge", "the Clock Tower", "Harper 's Books", "the Odeon Cinema", "Kingsway Hotel", "Salt Museum",
             "the Botanic Garden", "Northgate Library", "Café Lumen", "The Ferryman", "Castle Green",
             "Orchard Theatre"),
}

_FOOD_NOUNS = {"Seafood": ("seafood", "fish and seafood"), "Vegetarian": ("vegetarian food", "vegetarian dishes")}
_FOOD_ADJECTIVES = {"Seafood": ("seafood",), "Vegetarian": ("vegetarian",)}
_PLACES = {"old town": ("in the old town",), "harbour": ("by the harbour", "at the harbour"),
           "market square": ("on the market square",), "station quarter": ("in the station quarter",)}
_PLACE_SLOTS = ("area", "near")
_NEARNESS = ("near", "close to", "next to", "not far from", "around the corner from")
_STARS = {"1 out of 5": "1 star", "3 out of 5": "3 star", "5 out of 5": "5 star"}
_RATING_ADJECTIVES = {"low": ("poorly rated", "low rated"), "average": ("averagely rated",), "high": ("highly rated",)}
_PRICE_WORDS = {  # value: (adjectives, what the prices are, phrases after "with")
    "cheap": (("cheap", "low - priced", "inexpensive"), ("low", "cheap"), ("low prices", "cheap prices")),
    "moderate": (("moderately priced", "mid - priced"), ("moderate",), ("moderate prices", "average prices")),
    "high": (("expensive", "pricey"), ("high",), ("high prices", "a high price range")),
    "less than £ 15": ((), ("less than £ 15", "under £ 15"), ("prices under £ 15", "prices of less than £ 15")),
    "£ 15 - 25": ((), ("between £ 15 and £ 25", "in the £ 15 - 25 range"), ("a price range of £ 15 - 25",)),
    "more than £ 25": ((), ("more than £ 25", "above £ 25"), ("prices above £ 25", "prices of more than £ 25")),
}
_GOOD = {("price", "cheap"), ("price", "less than £ 15"), ("customer rating", "high"),
         ("customer rating", "5 out of 5"), ("family friendly", "yes")}
_BAD = {("price", "high"), ("price", "more than £ 25"), ("customer rating", "low"),
        ("customer rating", "1 out of 5"), ("family friendly", "no")}


def pick(draw: Draw, options: Sequence[T]) -> T:
    """Returns one of the options; calls ``draw`` once, so the choice does not depend on a library's version."""
    return options[int(draw() * len(options))]


def shuffled(draw: Draw, items: Iterable[T]) -> list[T]:
    """Returns the items in random order (Fisher-Yates)."""
    order = list(items)
    for last in range(len(order) - 1, 0, -1):
        other = int(draw() * (last + 1))
        order[last], order[other] = order[other], order[last]
    return order


def _food_nouns(value):
    return _FOOD_NOUNS.get(value, (f"{value} food", f"{value} cuisine", f"{value} dishes"))


def adjectives(slot: str, value: str) -> Sequence[str]:
    """Returns wordings that come before the noun: `cheap`, `Thai`; empty if there are none."""
    if slot == "food":
        return _FOOD_ADJECTIVES.get(value, (value,))
    if slot == "price":
        return _PRICE_WORDS[value][0]
    if slot == "customer rating":
        return (_STARS[value],) if value in _STARS else _RATING_ADJECTIVES[value]
    if slot == "family friendly":
        return ("family - friendly", "child friendly", "kid friendly") if value == "yes" else ("adults - only",)
    return ()


def modifiers(slot: str, value: str) -> Sequence[str]:
    """Returns wordings that come after the noun: `near Mill Bridge`, `with low prices`."""
    if slot == "food":
        return [f"{verb} {noun}" for verb in ("serving", "offering") for noun in _food_nouns(value)]
    if slot == "price":
        return [f"with {phrase}" for phrase in _PRICE_WORDS[value][2]]
    if slot == "customer rating":
        return (f"with a customer rating of {value}", f"with a {value} rating") if value in _STARS else (
            f"with {_article(value)} customer rating", f"with {_article(value)} rating from customers")
    if slot == "family friendly":
        return ("that welcomes families", "that is good for children") if value == "yes" else (
            "that is not family - friendly", "that does not admit children")
    return _locations(slot, value)


def _locations(slot, value):
    if slot == "area":
        return _PLACES[value]
    return [f"{word} {value}" for word in _NEARNESS]


def predicates(slot: str, value: str) -> Sequence[str]:
    """Returns wordings that follow a singular subject: `serves Thai food`, `is cheap`."""
    if slot == "food":
        return [f"{verb} {noun}" for verb in ("serves", "offers", "specialises in") for noun in _food_nouns(value)]
    if slot == "price":
        adjective, _, phrase = _PRICE_WORDS[value]
        return [f"is {word}" for word in adjective] + [f"has {words}" for words in phrase]
    if slot == "customer rating":
        return (f"is rated {value}", f"has a customer rating of {value}") if value in _STARS else (
            f"has {_article(value)} customer rating", f"is rated {value} by customers")
    if slot == "family friendly":
        return ("is family - friendly", "welcomes children", "is suitable for families") if value == "yes" else (
            "is not family - friendly", "does not welcome children", "is not for families")
    return [f"{verb} {place}" for verb in ("is", "is located", "can be found") for place in _locations(slot, value)]


def sentences(slot: str, value: str) -> Sequence[str]:
    """Returns wordings that are complete sentences."""
    if slot == "food":
        noun = max(_food_nouns(value), key=len)
        return (f"The menu is all about {noun}", f"You can eat {noun} there", f"{_capital(noun)} is on the menu")
    if slot == "price":
        return [f"{start} {state}" for start in ("Prices are", "The price range is") for state in _PRICE_WORDS[value][1]
                if not (start.endswith("range is") and state.startswith("in the"))]
    if slot == "customer rating":
        return (f"Customers give it {value}", f"The customer rating is {value}") if value in _STARS else (
            f"The customer rating is {value}", f"Customers rate it as {value}")
    if slot == "family friendly":
        return ("Children are welcome", "Families are welcome", "You can bring the kids") if value == "yes" else (
            "Children are not welcome", "Families should look elsewhere", "You cannot bring the kids")
    return [f"You will find it {place}" for place in _locations(slot, value)]


def _article(words):
    return ("an " if words[0] in "aeiouAEIO" else "a ") + words


def _capital(words):
    return words[0].upper() + words[1:]


def noun_phrase(draw: Draw, mr: Mapping[str, str], slots: Sequence[str], called: str = "") -> str:
    """Returns a phrase like `a cheap Thai pub called The Tin Whistle near Mill Bridge with a low customer rating`.

    Args:
        draw: source of randomness.
        mr: slot to value.
        slots: those to word here, besides ``Type``.
        called: words that follow the noun, or nothing.
    """
    before: list[tuple[int, str]] = []
    after: list[str] = []
    for slot in slots:
        words = adjectives(slot, mr[slot])
        if words and len(before) < 2 and draw() < 0.5:
            before.append((("family friendly", "customer rating", "price", "food").index(slot), pick(draw, words)))
        else:
            after.append(pick(draw, modifiers(slot, mr[slot])))
    noun = mr.get("Type") or pick(draw, ("place", "venue", "spot", "place to eat"))
    words = _article(" ".join([word for _, word in sorted(before)] + [noun]))
    # Relative clauses come last: words after one would seem to belong to it.
    after.sort(key=lambda phrase: (phrase.startswith("that"), phrase.startswith("with")))
    for i in range(1, len(after)):
        if after[i].startswith("with") and after[i - 1].startswith(("with", "and")):
            after[i] = "and" + after[i][len("with"):]
    return " ".join([words] + ([called] if called else []) + after)


def _joined(draw, mr, slots):
    """Returns joined predicates: `serves Thai food , is by the harbour and is cheap`, `is cheap but is rated low`."""
    text = pick(draw, predicates(slots[0], mr[slots[0]]))
    for previous, slot in zip(slots, slots[1:]):
        if previous in _PLACE_SLOTS and slot in _PLACE_SLOTS:
            text += " " + pick(draw, _locations(slot, mr[slot]))
            continue
        judged = {(previous, mr[previous]), (slot, mr[slot])}
        contrast = judged & _GOOD and judged & _BAD
        text += " but " if contrast else " and " if slot == slots[-1] else " , "
        text += pick(draw, predicates(slot, mr[slot]))
    return text


def opening(draw: Draw, mr: Mapping[str, str], slots: Sequence[str]) -> str:
    """Returns the first sentence, which words the name, the type and the given slots (at least one)."""
    name = mr["name"]
    places = [slot for slot in slots if slot in _PLACE_SLOTS]
    forms = ["is", "there is", "predicates", "looking"]
    forms += ["apposition"] * (len(slots) > 1) + ["front"] * 3 * bool(places)
    form = pick(draw, forms)
    if form == "is":
        return f"{name} is {noun_phrase(draw, mr, slots)} ."
    if form == "there is":
        called = pick(draw, ("called", "named")) + " " + name
        return pick(draw, ("There is", "You can visit", "There 's")) + f" {noun_phrase(draw, mr, slots, called)} ."
    if form == "predicates":
        subject = f"{name} {mr['Type']}" if "Type" in mr and draw() < 0.5 else name
        if "Type" in mr and subject == name:
            return f"{name} is {_article(mr['Type'])} that {_joined(draw, mr, slots)} ."
        return f"{subject} {_joined(draw, mr, slots)} ."
    if form == "looking":
        phrase = noun_phrase(draw, mr, slots)
        return pick(draw, (f"Looking for {phrase} ? Try {name} .", f"If you want {phrase} , go to {name} .",
                           f"For {phrase} , try {name} ."))
    if form == "apposition":
        return f"{name} , {noun_phrase(draw, mr, slots[:-1])} , {_joined(draw, mr, slots[-1:])} ."
    place = pick(draw, _locations(places[0], mr[places[0]]))
    rest = [slot for slot in slots if slot != places[0]]
    if not rest and "Type" not in mr:
        return f"{_capital(place)} you will find {name} ."
    phrase = noun_phrase(draw, mr, rest)
    return pick(draw, (f"{_capital(place)} , {name} is {phrase} .", f"{_capital(place)} there is {phrase} , {name} .",
                       f"Located {place} , {name} is {phrase} ."))


def following(draw: Draw, mr: Mapping[str, str], slots: Sequence[str]) -> str:
    """Returns a further sentence, which words the given slots (one to three)."""
    subject = pick(draw, ("It", "It", "It", *[f"The {mr.get('Type', 'place')}"] * 2, mr["name"]))
    if len(slots) == 1 and draw() < 0.6:
        return pick(draw, sentences(slots[0], mr[slots[0]])) + " ."
    if len(slots) > 1 and slots[0] in _PLACE_SLOTS and draw() < 0.5:
        place = pick(draw, _locations(slots[0], mr[slots[0]]))
        return f"{pick(draw, ('Located', 'Situated'))} {place} , it {_joined(draw, mr, slots[1:])} ."
    return f"{subject} {_joined(draw, mr, slots)} ."


def reference(draw: Draw, mr: Mapping[str, str]) -> str:
    """Returns one text for the MR: tokens separated by spaces, one to four sentences.

    Args:
        draw: function that returns floats in [0, 1).
        mr: slot to value; ``name`` and at least one slot besides ``Type``.
    """
    slots = shuffled(draw, [slot for slot in mr if slot not in ("name", "Type")])
    count = min(len(slots), 1 + int(draw() * 3))
    text = [opening(draw, mr, slots[:count])]
    while count < len(slots):
        size = 1 + int(draw() * 2.4)
        text.append(following(draw, mr, slots[count:count + size]))
        count += size
    return " ".join(text)
