"""What gpt2-nano is pretrained on, as read: WebNLG's and DART's pairs, SQuAD's passages, sentences and their phrases.

DART's E2E part is left out, and nothing but training files is read.
"""

import os
import random
import re
from dataclasses import dataclass
from itertools import takewhile

from common.data.raw_files import RAW_FILES, find_raw
from common.data.strata import FOLDERS
from common.errors import UserError
from common.files import read_json

LONGEST_SENTENCE = 60

TOKEN = re.compile(r"'(?:s|t|re|ll|ve|m|d)\b|\d+(?:[.,]\d+)*(?:(?:st|nd|rd|th|s)\b)?|[^\W\d_]+|[^\w\s]|\w+")
SENTENCE_END = re.compile(r"(?<=[a-z0-9)\"][.!?])(?<!\bSt\.)(?<!\b[A-Z][a-z]\.)\s+(?=[A-Z\"(])")
FUNCTION_WORDS = frozenset(
    "a about above after again against all also although am among an and another any are around as at be because been "
    "before being between both but by can could did do does during each either even few first for from further had "
    "has have having he her here him his how however i if in into is it its itself just later less like made many may "
    "might more most much must near neither no nor not of off on once only or other others our out over own same "
    "several she should since so some such than that the their them themselves then there these they this those three "
    "through to too two under until up upon us used very via was we well were what when where which while who whom "
    "whose why will with within without would yet you your".split())
VERB_LIKE = re.compile(r"[a-z]+(?:ed|ing|ly)$")


@dataclass(frozen=True)
class Pair:
    """One text and its triples ``(subject, predicate, object)``, as the data set writes them."""

    triples: tuple[tuple[str, str, str], ...]
    text: str


@dataclass(frozen=True)
class Sentence:
    """One sentence of SQuAD: its words, set apart by spaces, and the phrases ``(start, end, key or None)`` in it."""

    title: str
    words: tuple[str, ...]
    phrases: tuple[tuple[int, int, str | None], ...]
    passage: int


@dataclass(frozen=True)
class Sources:
    """All that documents are drawn from; the ``held_out_*`` parts are never trained on."""

    pairs: list[Pair]
    sentences: list[Sentence]
    passages: list[tuple]
    names: list[str]
    pairs_of_subject: dict[str, list[int]]
    held_out_pairs: list[Pair]
    held_out_sentences: list[Sentence]


def space_words(text):
    """Words and punctuation of a text, one by one, in the manner of E2E's files (``isn 't``, ``£ 20 - 25``)."""
    return TOKEN.findall(text)


def spaced(text):
    return " ".join(space_words(text))


def plain(name):
    """Returns a name or a predicate of a triple (``Aarhus_Airport``, ``"1907"``, ``[TITLE]``) as ordinary words."""
    name = re.sub(r"@\w+$|\^\^\S+$", "", name.replace("_", " ").strip()).strip("\"[]")
    return spaced(name)


def plain_key(predicate):
    return plain(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", predicate)).lower()


def read_webnlg(path):
    """Pairs of a WebNLG 2017 file: lexicalisations marked ``good``."""
    pairs = []
    for number, entry in enumerate(read_json(path)["entries"], 1):
        entry = entry[str(number)]
        triples = tuple((t["subject"], t["property"], t["object"]) for t in entry["modifiedtripleset"])
        pairs += [Pair(triples, lex["lex"].strip()) for lex in entry["lexicalisations"] if lex["comment"] == "good"]
    return pairs


def read_dart(path):
    """Pairs of a DART v1.1.1 file whose ``source`` is not E2E; predicates in lower case, as fine-tuning has them."""
    pairs = []
    for entry in read_json(path):
        triples = tuple((s, p.lower(), o) for s, p, o in entry["tripleset"])
        pairs += [Pair(triples, " ".join(note["text"].split())) for note in entry["annotations"]
                  if "e2e" not in note["source"].lower() and note["text"].strip()]
    return pairs


def read_squad(path):
    """Passages ``(title, paragraph, [(question, answer, start)])`` of a SQuAD v1.1 file, in its order."""
    return [(article["title"].replace("_", " "), paragraph["context"],
             [(qa["question"].strip(), qa["answers"][0]["text"], qa["answers"][0]["answer_start"])
              for qa in paragraph["qas"]])
            for article in read_json(path)["data"] for paragraph in article["paragraphs"]]


READERS = {"squad": read_squad, "webnlg": read_webnlg, "dart": read_dart}


def source_paths(folder: str | os.PathLike) -> dict[str, str]:
    """Returns ``{data set: path}`` of the training files in a folder that is laid out as data/ is.

    Each is the published file or else a copy that common.data.raw_files knows as good to use, gzipped or not.

    Raises:
        UserError: one is missing.
    """
    paths = {}
    for name in READERS:
        raw_file, place = RAW_FILES[name]["train"], os.path.join(folder, FOLDERS[name])
        path = find_raw(place, raw_file)
        if path is None:
            raise UserError(f"{place}: no {' or '.join([raw_file.name, *raw_file.variants])} (nor .gz) there; `bash "
                            f"scripts/create_datasets.sh {name}` downloads the published file to data/{FOLDERS[name]}/")
        paths[name] = path
    return paths


def read_sources(folder: str | os.PathLike) -> Sources:
    """Reads the three training files below ``folder``, see ``source_paths``.

    Held out: pairs whose set of subjects and objects falls into one of 50 classes (so that a WebNLG entry and its copy
    in DART go together), and the sentences of every 50th article.

    Raises:
        UserError: a file is missing or has not the form of its data set.
    """
    paths, parsed = source_paths(folder), {}
    for name, reader in READERS.items():
        try:
            parsed[name] = reader(paths[name])
        except (KeyError, TypeError, IndexError, ValueError, AttributeError) as error:
            raise UserError(f"{paths[name]}: not a {name} training file: {type(error).__name__} {error}") from error
        if not parsed[name]:
            raise UserError(f"{paths[name]}: no training text in it")
    pairs = parsed["webnlg"] + parsed["dart"]
    apart = [_class_of(pair) == 0 for pair in pairs]
    titles = sorted({title for title, _, _ in parsed["squad"]})[7::50]
    sentences = [s for i, passage in enumerate(parsed["squad"]) for s in split_sentences(passage, i)]
    kept_pairs = [pair for pair, out in zip(pairs, apart) if not out]
    by_subject = {}
    for index, pair in enumerate(kept_pairs):
        by_subject.setdefault(pair.triples[0][0], []).append(index)
    kept_sentences = [s for s in sentences if s.title not in titles]
    names = sorted({" ".join(s.words[a:b]) for s in kept_sentences for a, b, _ in s.phrases if s.words[a][0].isupper()})
    return Sources(kept_pairs, kept_sentences, [p for p in parsed["squad"] if p[0] not in titles], names, by_subject,
                   [pair for pair, out in zip(pairs, apart) if out], [s for s in sentences if s.title in titles])


def _class_of(pair):
    names = sorted({plain(name).lower() for s, _, o in pair.triples for name in (s, o)})
    return random.Random("|".join(names)).randrange(50)


def split_sentences(passage, number):
    """Sentences of a passage that have from 4 to ``LONGEST_SENTENCE`` words and a phrase in them."""
    title, text, questions = passage
    sentences, start = [], 0
    for end in [match.start() for match in SENTENCE_END.finditer(text)] + [len(text)]:
        tokens = list(TOKEN.finditer(text, start, end))
        if 4 <= len(tokens) <= LONGEST_SENTENCE:
            words = tuple(token.group() for token in tokens)
            answers = []
            for question, answer, first in questions:
                inside = [i for i, t in enumerate(tokens) if t.start() >= first and t.end() <= first + len(answer)]
                if inside and len(inside) <= 6 and start <= first < end:
                    answers.append((inside[0], inside[-1] + 1, question_key(question)))
            phrases = find_phrases(words, answers)
            if phrases:
                sentences.append(Sentence(title, words, phrases, number))
        start = end
    return sentences


def question_key(question):
    """A name for what a question asks: ``In what era was …`` gives ``era``; None where no noun is named."""
    words = question.lower().rstrip("?").split()
    for i, word in enumerate(words[:-1]):
        if word in ("what", "which"):
            noun = list(takewhile(lambda w: w not in FUNCTION_WORDS and not VERB_LIKE.match(w), words[i + 1:i + 4]))
            # A run that no function word ends is likely to hold the verb: only its first word is sure.
            return " ".join(noun if len(noun) < 3 else noun[:1]) or None
        if word == "how" and words[i + 1] in ("many", "much") and i + 2 < len(words):
            return "number of " + words[i + 2]
    return {"who": "person", "when": "date", "where": "location", "why": "reason"}.get(words[0]) if words else None


def find_phrases(words, answers=()):
    """Phrases of a sentence as ``(start, end, key or None)``: answers first, then runs of content words of one case."""
    taken, phrases = set(), []
    for start, end, key in answers:
        if not taken.intersection(range(start, end)):
            phrases.append((start, end, key))
            taken.update(range(start, end))
    start = 0
    while start < len(words):
        end = start
        while end < len(words) and end - start < 5 and end not in taken and _continues(words, start, end):
            end += 1
        if end > start:
            phrases.append((start, end, None))
        start = max(end, start + 1)
    return tuple(sorted(phrases))


def _continues(words, start, end):
    word = words[end]
    large = word[0].isupper() or word[0].isdigit() or word in "$£€%"
    if end == start:
        return (large or word.isalpha()) and word.lower() not in FUNCTION_WORDS and not VERB_LIKE.match(word)
    if word in ("of", "-", "the") and words[start][0].isupper():
        following = words[end + 1:end + 2]
        return bool(following) and following[0][0].isupper() and end - start < 4
    same_case = large == (words[start][0].isupper() or words[start][0].isdigit() or words[start] in "$£€%")
    return same_case and (large or word.isalpha()) and word.lower() not in FUNCTION_WORDS and not VERB_LIKE.match(word)
