"""Writes data/demo: small data sets in the formats of several published ones, from seeded grammars.

    python scripts/make_demo_data.py [e2e|webnlg|dart|squad|events|advertisegen] [--seed 1] [--output data/demo]

Writes the raw files, ``{train,valid,test}_formatted.jsonl`` and ``.jsonl`` (ids): restaurant MRs for ``e2e``, else
made-up triples, or passages with questions, into a folder of the set's name. For ``events`` these are ``train.json``,
``dev.json`` and ``test.json`` in PHEE's format and a file of questions, for ``advertisegen`` files of these names in
AdvertiseGen's; nothing of them is encoded. The same seed gives the same bytes on every machine: of Python's random
numbers only ``Random.random`` is used, whose sequence is fixed.
"""

import argparse
import os
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tokenizers import Tokenizer

from common.data.converting import SEEN_CATEGORIES, convert_dart, convert_e2e, convert_webnlg
from common.data.encoding import encode_file
from common.data.squad import convert_squad
from common.data.tokenizer import load_tokenizer
from common.demo.advertising import write_advertisements
from common.demo.events import write_events
from common.demo.grammar import VALUES, Draw, pick, reference, shuffled
from common.demo.triples import CATEGORIES, Fact, describe, draw_facts, draw_subject
from common.files import atomic_write, write_json, write_json_lines
from common.paths import ROOT

DATASETS = ("e2e", "webnlg", "dart", "squad")
EVENTS, ADVERTISEGEN = "events", "advertisegen"
MR_COUNTS = {"train": 300, "valid": 40, "test": 40}
REFERENCES = (3, 4, 5)
# The probability of each slot; a name is always there.
SLOT_SHARE = {"Type": 0.7, "food": 0.75, "price": 0.6, "customer rating": 0.55, "area": 0.6, "family friendly": 0.5,
              "near": 0.6}

TripleSet = tuple[str, str, list[tuple[Fact, str]], list[str]]  # category, subject, facts with values, texts
TRIPLES = (1, 2, 2, 3, 3, 4)  # the largest size of a triple set, drawn from these
TEXTS = 3  # per triple set, fewer where the grammar repeats itself
SEEN = tuple(sorted(SEEN_CATEGORIES.intersection(CATEGORIES)))
UNSEEN = tuple(sorted(set(CATEGORIES).difference(SEEN_CATEGORIES)))
WEBNLG_COUNTS = {"train": ((240, SEEN),), "valid": ((30, SEEN),), "test": ((24, SEEN), (16, UNSEEN))}
DART_COUNTS = {split: ((count, tuple(CATEGORIES)),) for split, count in (("train", 240), ("valid", 30), ("test", 40))}
PASSAGES = {"train": 260, "test": 15}
QUESTIONS = 4  # per passage, at most


def draw_mr(draw: Draw) -> dict[str, str]:
    """Returns a random MR, slot to value: a name and two to seven other slots, in E2E's order."""
    while True:
        mr = {"name": pick(draw, VALUES["name"])}
        for slot, share in SLOT_SHARE.items():
            if draw() < share:
                mr[slot] = pick(draw, VALUES[slot])
        if len(mr) - ("Type" in mr) >= 3:
            return mr


def make_splits(seed: int) -> dict[str, list[tuple[str, str]]]:
    """Returns ``{split: [(MR, text), ...]}``: no MR in two splits, three to five different texts for each.

    Train is shuffled; in valid and test the texts of one MR are consecutive.
    """
    draw = random.Random(seed).random
    mrs: dict[str, dict[str, str]] = {}
    while len(mrs) < sum(MR_COUNTS.values()):
        mr = draw_mr(draw)
        mrs.setdefault(" | ".join(f"{slot} : {value}" for slot, value in mr.items()), mr)
    remaining, splits = iter(mrs.items()), {}
    for split, count in MR_COUNTS.items():
        rows = []
        for _ in range(count):
            written, mr = next(remaining)
            wanted = pick(draw, REFERENCES)
            texts: dict[str, None] = {}
            while len(texts) < wanted:
                texts[reference(draw, mr)] = None
            rows += [(written, text) for text in texts]
        splits[split] = shuffled(draw, rows) if split == "train" else rows
    return splits


def draw_triple_sets(seed: int,
                     counts: Mapping[str, Sequence[tuple[int, Sequence[str]]]]) -> dict[str, list[TripleSet]]:
    """Returns ``{split: triple sets}``; no set of facts is in two splits.

    Args:
        seed: of the random numbers.
        counts: ``{split: ((number of sets, categories), ...)}``.
    """
    draw, seen = random.Random(seed).random, set()
    splits: dict[str, list[TripleSet]] = {}
    for split, parts in counts.items():
        splits[split] = []
        for count, categories in parts:
            wanted = len(splits[split]) + count
            while len(splits[split]) < wanted:
                category = pick(draw, categories)
                subject, facts = draw_subject(draw, category), draw_facts(draw, category, pick(draw, TRIPLES))
                key = (subject, frozenset((fact.predicate, value) for fact, value in facts))
                if key in seen:
                    continue
                seen.add(key)
                texts = dict.fromkeys(describe(draw, category, subject, facts) for _ in range(TEXTS))
                splits[split].append((category, subject, facts, list(texts)))
    return splits


def webnlg_document(sets: Iterable[TripleSet]) -> dict[str, Any]:
    """Returns triple sets in WebNLG's layout, which has underscores in names."""
    return {"entries": [{str(number): {
        "category": category, "size": str(len(facts)),
        "modifiedtripleset": [{"subject": subject.replace(" ", "_"), "property": fact.predicate,
                               "object": value.replace(" ", "_")} for fact, value in facts],
        "lexicalisations": [{"comment": "good", "lex": text} for text in texts]}}
        for number, (category, subject, facts, texts) in enumerate(sets, 1)]}


def dart_document(sets: Iterable[TripleSet]) -> list[dict[str, Any]]:
    """Returns triple sets in DART's layout, which has predicates in capitals."""
    return [{"tripleset": [[subject, re.sub("([A-Z])", r"_\1", fact.predicate).upper(), value]
                           for fact, value in facts],
             "subtree_was_extended": False, "annotations": [{"source": "grammar", "text": text} for text in texts]}
            for _, subject, facts, texts in sets]


def squad_document(draw: Draw, count: int, name: str) -> dict[str, Any]:
    """Returns articles in SQuAD's layout, each of one passage about two subjects.

    Args:
        draw: source of randomness.
        count: number of articles.
        name: prefix of the questions' ids.
    """
    articles: list[dict[str, Any]] = []
    while len(articles) < count:
        subjects = [(category, draw_subject(draw, category)) for category in shuffled(draw, CATEGORIES)[:2]]
        about = [(category, subject, draw_facts(draw, category, size))
                 for (category, subject), size in zip(subjects, (3, 2))]
        passage = " ".join(describe(draw, *one) for one in about)
        asked = [(subject, fact, value) for _, subject, facts in about for fact, value in facts
                 if len(re.findall(rf"\b{re.escape(value)}\b", passage)) == 1]
        entries = [{"id": f"{name}-{len(articles)}-{number}", "question": pick(draw, fact.questions).format(s=subject),
                    "answers": [{"text": text, "answer_start": passage.index(value) + value.index(text)}
                                for text in gold_answers(fact, value)]}
                   for number, (subject, fact, value) in enumerate(shuffled(draw, asked)[:QUESTIONS], 1)]
        articles.append({"title": f"{about[0][1]} ({len(articles)})",
                         "paragraphs": [{"context": passage, "qas": entries}]})
    return {"version": "1.1", "data": articles}


def gold_answers(fact: Fact, value: str) -> list[str]:
    """Returns the answers that count as right: the value and, for a person, also the surname."""
    return [value, value.split()[-1]] if fact.kind == "person" else [value]


def squad_documents(seed: int) -> dict[str, dict[str, Any]]:
    """Returns ``{name of the raw file: document}``."""
    draw = random.Random(seed).random
    return {name: squad_document(draw, count, name) for name, count in PASSAGES.items()}


def write_raw(name: str, folder: str, seed: int,
              tokenizer: Tokenizer) -> Iterator[tuple[str, Iterator[dict[str, Any]]]]:
    """Writes the raw files of a data set and yields ``(split, formatted records)``."""
    if name == "e2e":
        for split, rows in make_splits(seed).items():
            path = os.path.join(folder, split + ".txt")
            with atomic_write(path) as file:
                file.writelines(f"{mr}||{text} \n" for mr, text in rows)
            yield split, convert_e2e(path)
    elif name == "squad":
        for raw, document in squad_documents(seed).items():
            path = os.path.join(folder, raw + ".json")
            write_json(path, document)
            for split in ("train", "valid") if raw == "train" else ("test",):
                yield split, convert_squad(path, split, tokenizer)
    else:
        is_webnlg = name == "webnlg"
        for split, sets in draw_triple_sets(seed, WEBNLG_COUNTS if is_webnlg else DART_COUNTS).items():
            path = os.path.join(folder, split + ".json")
            write_json(path, webnlg_document(sets) if is_webnlg else dart_document(sets))
            yield split, convert_webnlg(path) if is_webnlg else convert_dart(path)


def make_demo_data(folder: str, vocab: str | os.PathLike, seed: int, name: str) -> dict[str, int]:
    """Writes the files of the data set ``name`` into ``folder`` and returns ``{split: number of rows}``."""
    tokenizer = load_tokenizer(vocab)
    counts = {}
    for split, records in write_raw(name, folder, seed, tokenizer):
        path = os.path.join(folder, split)
        counts[split] = write_json_lines(path + "_formatted.jsonl", records)
        encode_file(tokenizer, path + "_formatted.jsonl", path + ".jsonl")
    return counts


def main(argv: list[str]) -> None:
    """Makes the demo data."""
    parser = argparse.ArgumentParser(prog="make_demo_data.py", description=__doc__.split("\n")[0])
    parser.add_argument("dataset", nargs="?", default="e2e", choices=(*DATASETS, EVENTS, ADVERTISEGEN),
                        help="whose format (default: e2e)")
    parser.add_argument("--seed", type=int, default=1, help="default: 1")
    parser.add_argument("--output", help="folder (default: data/demo for e2e, else data/demo/DATASET)")
    parser.add_argument("--vocab", default=os.path.join(ROOT, "vocab"), help="folder with encoder.json and vocab.bpe")
    args = parser.parse_args(argv)
    folder = args.output or os.path.join(ROOT, "data", "demo", "" if args.dataset == "e2e" else args.dataset)
    if args.dataset in (EVENTS, ADVERTISEGEN):
        write = write_events if args.dataset == EVENTS else write_advertisements
        print("\n".join(write(folder, args.seed)))
        return
    for split, rows in make_demo_data(folder, args.vocab, args.seed, args.dataset).items():
        print(f"{os.path.join(folder, split)}.jsonl: {rows} rows")
