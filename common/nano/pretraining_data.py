"""The text that gpt2-nano is pretrained on: documents from SQuAD, WebNLG and DART, drawn anew in each pass.

Three kinds of document, each ended by ``<|endoftext|>``:

- ``pairs``: triples and the text that people wrote for them (WebNLG train; DART train without its E2E part), in the
  ``context<eos> completion<eos>`` form of fine-tuning;
- ``slots``: the same form made from SQuAD's sentences. The phrases of a sentence become a shuffled list
  ``key : value | key : value``, the sentence is the completion: it must be put together again from its parts;
- ``text``: SQuAD's paragraphs and questions as they are.

There are only some eight million tokens, read many times over, so every draw differs: order of the triples, form of the
context, names replaced by others in context and completion alike, neighbours joined. Everything follows from the seed.
"""

import random
import re

import numpy as np
from tokenizers import Tokenizer

from common.nano.pretraining_sources import FUNCTION_WORDS, Sources, plain, plain_key, spaced
from common.vocabulary import END_OF_TEXT as EOS

KINDS = ("pairs", "slots", "text")
PADDING, CONTEXT, COMPLETION = 0, 1, 2
DOCUMENTS_A_CHUNK = 2048
MOST_SLOTS = 10

KEY_OF_PREPOSITION = {"near": ("near",), "in": ("area", "location", "in"), "at": ("location", "at"),
                      "from": ("origin",), "by": ("by",), "with": ("with", "feature"), "for": ("for",),
                      "on": ("on",), "to": ("to",), "a": ("Type", "type"), "an": ("Type", "type"),
                      "as": ("role", "as"), "of": ("of", "part of")}
LOOSE_KEYS = ("fact", "about", "topic", "detail", "feature", "kind", "item", "group", "info", "subject")


# ---------------------------------------------------------------------------------------------------------- drawing

def draw_pair(sources, pair, rng):
    """``(context, completion)`` of one pair: in its data set's form, or in E2E's, with spaces around punctuation."""
    if rng.random() < 0.35:
        triples = list(pair.triples)
        if rng.random() < 0.5:
            rng.shuffle(triples)
        return " | ".join(f"{s} : {p} : {o}" for s, p, o in triples), pair.text
    triples, text = pair.triples, spaced(pair.text)
    if rng.random() < 0.25 and len(triples) <= 4:
        other = sources.pairs[rng.choice(sources.pairs_of_subject[triples[0][0]])]
        if len(other.triples) <= 4 and not {p for _, p, _ in other.triples} & {p for _, p, _ in triples}:
            triples, text = triples + other.triples, f"{text} {spaced(other.text)}"
    context = slot_form(triples, rng)
    if rng.random() < 0.4:
        context, text = replace_names(context, text, sources.names, rng)
    return context, text


def slot_form(triples, rng=None):
    """Triples as E2E would write them: ``name : SUBJECT | predicate : object | …``, a new name for each new subject."""
    groups = {}
    for subject, predicate, value in triples:
        groups.setdefault(plain(subject), []).append(f"{plain_key(predicate)} : {plain(value)}")
    slots = []
    for subject, group in groups.items():
        if rng is not None:
            rng.shuffle(group)
        slots += ([] if subject == "TABLECONTEXT" else [f"name : {subject}"]) + group
    return " | ".join(slots)


def replace_names(context, text, names, rng):
    """Puts other names and numbers for those that stand in both, so that they must be read, not remembered."""
    for value in sorted({slot.partition(" : ")[2] for slot in context.split(" | ")}, key=len, reverse=True):
        if not value or rng.random() < 0.4 or f" {value} " not in f" {text} ":
            continue
        if value[0].isupper():
            new = rng.choice(names)
        elif any(c.isdigit() for c in value):
            new = re.sub(r"\d", lambda match: str(rng.randrange(1, 10)), value)
        else:
            continue
        context = f" {context} ".replace(f" {value} ", f" {new} ").strip()
        text = f" {text} ".replace(f" {value} ", f" {new} ").strip()
    return context, text


def draw_slots(sources, index, rng):
    """``(context, completion)`` made from a sentence of SQuAD, or from two that follow each other."""
    sentence = sources.sentences[index]
    parts = [sentence]
    if len(sentence.words) < 25 and index + 1 < len(sources.sentences) and rng.random() < 0.3:
        following = sources.sentences[index + 1]
        if following.passage == sentence.passage and len(sentence.words) + len(following.words) <= 45:
            parts.append(following)
    context, text = describe(parts, rng)
    if rng.random() < 0.4:
        context, text = replace_names(context, text, sources.names, rng)
    return context, text


def describe(sentences, rng):
    """The slots of sentences, ``key : value`` joined by `` | ``, and their text."""
    share, slots, name = rng.choice((1.0, 1.0, 0.85, 0.6)), [], None
    for sentence in sentences:
        skip_until = 0
        for start, end, key in sentence.phrases:
            if start < skip_until or (key is None and rng.random() > share):
                continue
            value = " ".join(sentence.words[start:end])
            if name is None and value[0].isupper():
                name = value
                continue
            key, value, skip_until = _key_of(sentence.words, start, end, key, rng)
            slots.append(f"{key} : {value}")
    slots = list(dict.fromkeys(slots))
    rng.shuffle(slots)
    slots = slots[:MOST_SLOTS]
    title = spaced(sentences[0].title)
    if name is None or (name != title and rng.random() < 0.15):
        slots.insert(0, f"title : {title}")
    if name is not None:
        slots.insert(0 if rng.random() < 0.8 else rng.randrange(len(slots) + 1), f"name : {name}")
    return " | ".join(slots), " ".join(word for sentence in sentences for word in sentence.words)


def _key_of(words, start, end, key, rng):
    """Names a phrase. Returns ``(key, value, end of the words used)``."""
    value, before = " ".join(words[start:end]), words[start - 1].lower() if start else ""
    if key is not None and rng.random() < 0.9:
        return key, value, end
    following = words[end] if end < len(words) else "."
    if before == "not" and end - start == 1:
        return value, "no", end
    if before in ("is", "are", "was", "were") and end - start == 1 and value.islower() and rng.random() < 0.5:
        return value, "yes", end
    if value.islower() and end - start > 1 and rng.random() < 0.6:
        return words[end - 1], " ".join(words[start:end - 1]), end
    if (not value.islower() and following.isalpha() and following.islower() and following not in FUNCTION_WORDS
            and rng.random() < 0.6):
        return following, value, end + 1
    if value[0] in "$£€":
        return rng.choice(("price", "cost", "amount")), value, end
    if re.fullmatch(r"(?:1\d|20)\d\d", value):
        return rng.choice(("year", "date")), value, end
    if before in KEY_OF_PREPOSITION and rng.random() < 0.8:
        return rng.choice(KEY_OF_PREPOSITION[before]), value, end
    return rng.choice(LOOSE_KEYS), value, end


def draw_text(sources, index, rng):
    """One to three paragraphs that follow each other, or a paragraph and its questions; half with spaces throughout."""
    title, text, questions = sources.passages[index]
    if rng.random() < 0.4:
        text = "\n".join([text] + [question for question, _, _ in questions])
    else:
        following = [p for p in sources.passages[index + 1:index + rng.randrange(1, 4)] if p[0] == title]
        text = "\n".join([text] + [p[1] for p in following])
    return "\n".join(map(spaced, text.split("\n"))) if rng.random() < 0.5 else text


# ---------------------------------------------------------------------------------------------------------- packing

def draw_chunk(sources: Sources, tokenizer: Tokenizer, kind: str, number: int, seed: int,
               row_length: int) -> np.ndarray:
    """Rows of documents of one kind: chunk ``number`` of an endless series of shuffled passes over the sources.

    Args:
        tokenizer: a ``tokenizers.Tokenizer`` with GPT-2's vocabulary.

    Returns:
        uint16 array (rows, 3, row_length): see `pack`.
    """
    size = {"pairs": len(sources.pairs), "slots": len(sources.sentences), "text": len(sources.passages)}[kind]
    count = DOCUMENTS_A_CHUNK // (4 if kind == "text" else 1)
    first = number * count
    indexes = []
    for draw in range(first // size, (first + count - 1) // size + 1):
        order = list(range(size))
        random.Random(f"{seed} {kind} pass {draw}").shuffle(order)
        indexes += order[max(first - draw * size, 0):first + count - draw * size]
    rng = random.Random(f"{seed} {kind} chunk {number}")
    if kind == "text":
        return pack(encode_texts(tokenizer, [draw_text(sources, i, rng) for i in indexes], row_length), row_length)
    pairs = [draw_pair(sources, sources.pairs[i], rng) if kind == "pairs" else draw_slots(sources, i, rng)
             for i in indexes]
    return pack(encode_pairs(tokenizer, pairs), row_length)


def held_out_rows(sources: Sources, tokenizer: Tokenizer, row_length: int, most: int = 2000) -> dict[str, np.ndarray]:
    """``{kind: rows}`` of the held-out pairs (in E2E's form) and sentences, the same in every run."""
    rng = random.Random("held out")
    pairs = [(slot_form(pair.triples), spaced(pair.text)) for pair in sources.held_out_pairs[:most]]
    slots = [describe([sentence], rng) for sentence in sources.held_out_sentences[:most]]
    return {"pairs": pack(encode_pairs(tokenizer, pairs), row_length),
            "slots": pack(encode_pairs(tokenizer, slots), row_length)}


def encode_pairs(tokenizer, pairs):
    """``[(ids, flags)]``: context ids, eos, ids of a space and the completion, eos; flags tell the two apart."""
    contexts = tokenizer.encode_batch_fast([context for context, _ in pairs], add_special_tokens=False)
    completions = tokenizer.encode_batch_fast([" " + completion for _, completion in pairs], add_special_tokens=False)
    return [(c.ids + [EOS] + t.ids + [EOS], [CONTEXT] * (len(c.ids) + 1) + [COMPLETION] * (len(t.ids) + 1))
            for c, t in zip(contexts, completions)]


def encode_texts(tokenizer, texts, row_length):
    """``[(ids, flags)]`` of plain text, cut where it is longer than a row."""
    documents = []
    for encoded in tokenizer.encode_batch_fast(texts, add_special_tokens=False):
        ids = encoded.ids + [EOS]
        for start in range(0, len(ids), row_length):
            part = ids[start:start + row_length]
            documents.append((part, [COMPLETION] * len(part)))
    return documents


def pack(documents, row_length):
    """Packs whole documents into rows, each into the fullest row that has room; one longer than a row is left out.

    Returns:
        uint16 array (rows, 3, row_length): token ids, positions (0 at each document's start and in padding) and flags
        (``PADDING``, ``CONTEXT`` or ``COMPLETION``).
    """
    rows, room = [], [[] for _ in range(row_length + 1)]
    for ids, flags in documents:
        if len(ids) > row_length:
            continue
        space = next((s for s in range(len(ids), row_length) if room[s]), None)
        if space is None:
            rows.append([])
            number, space = len(rows) - 1, row_length
        else:
            number = room[space].pop()
        rows[number].append((ids, flags))
        room[space - len(ids)].append(number)
    packed = np.zeros((len(rows), 3, row_length), np.uint16)
    for row, parts in zip(packed, rows):
        start = 0
        for ids, flags in parts:
            row[:, start:start + len(ids)] = ids, range(len(ids)), flags
            start += len(ids)
    return packed
