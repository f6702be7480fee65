"""The demo data of WebNLG, DART and SQuAD: the same bytes everywhere, disjoint splits, texts that say every fact."""

import hashlib
import json
import random
import re

import pytest

from common.data.converting import convert_dart, convert_webnlg
from common.data.rows import read_formatted
from common.data.squad import read_questions
from common.demo.rows import (
    DART_COUNTS,
    WEBNLG_COUNTS,
    dart_document,
    draw_triple_sets,
    main,
    squad_documents,
    webnlg_document,
)
from common.demo.triples import CATEGORIES, PLAIN, describe, draw_facts, draw_subject
from common.files import write_json


@pytest.fixture(scope="module")
def sets():
    return draw_triple_sets(1, WEBNLG_COUNTS)


def test_same_bytes_on_every_machine(sets):
    # This program's own output, so that a change of the grammar or of Python's random numbers cannot go unseen.
    text = json.dumps([webnlg_document(sets["train"]), dart_document(draw_triple_sets(1, DART_COUNTS)["test"]),
                       squad_documents(1)])
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert digest == "5ffa0ab137ba78929f64b7b48301b30e1dfabce6797fd9a12ef8614ddcdc30e2"


def test_no_set_of_facts_in_two_splits(sets):
    keys = [(subject, frozenset((fact.predicate, value) for fact, value in facts))
            for rows in sets.values() for _, subject, facts, _ in rows]
    assert len(keys) == len(set(keys)) == sum(count for parts in WEBNLG_COUNTS.values() for count, _ in parts)


def test_webnlg_has_unseen_categories_in_the_test_set_alone(sets, tmp_path):
    seen = {}
    for split, rows in sets.items():
        write_json(tmp_path / "raw.json", webnlg_document(rows))
        records = list(convert_webnlg(tmp_path / "raw.json"))
        seen[split] = {record["cate"] for record in records}
        assert len(records) == sum(len(texts) for *_, texts in rows)
    assert seen == {"train": {True}, "valid": {True}, "test": {True, False}}


def test_dart_has_its_layout(tmp_path):
    rows = draw_triple_sets(1, DART_COUNTS)["test"]
    write_json(tmp_path / "raw.json", dart_document(rows))
    predicates = {part.split(" : ")[1] for record in convert_dart(tmp_path / "raw.json")
                  for part in record["context"].split(" | ")}
    assert predicates <= {re.sub("([A-Z])", r"_\1", fact.predicate).lower()
                          for category in CATEGORIES.values() for fact in category.facts}


@pytest.mark.parametrize("category", list(CATEGORIES))
def test_a_text_says_every_fact_once(category):
    draw = random.Random(category).random
    for _ in range(60):
        subject, facts = draw_subject(draw, category), draw_facts(draw, category, 4)
        text = describe(draw, category, subject, facts)
        assert text.startswith(subject) and text.endswith(".") and "{" not in text and "  " not in text
        for fact, value in facts:
            assert sum(text.count(wording.format(o=value)) for wording in fact.wordings) == 1, (text, fact)


def test_every_kind_of_value_exists():
    for category in CATEGORIES.values():
        for fact in category.facts:
            assert isinstance(fact.kind, tuple) or fact.kind in ("person", "town", "year", *PLAIN)
            assert all("{o}" in wording for wording in fact.wordings) and all("{s}" in one for one in fact.questions)


def test_squad_answers_are_where_they_are_said_to_be(tmp_path):
    passages = []
    for name, document in squad_documents(1).items():
        write_json(tmp_path / f"{name}.json", document)
        rows = list(read_questions(tmp_path / f"{name}.json"))  # which checks the places
        assert all(len(re.findall(rf"\b{re.escape(answers[0][0])}\b", passage)) == 1
                   for _, _, passage, *_, answers in rows)
        passages.append({row[2] for row in rows})
    assert not passages[0] & passages[1]


@pytest.mark.parametrize("name", ["webnlg", "dart", "squad"])
def test_files(name, tmp_path, vocab, capsys):
    main([name, "--output", str(tmp_path), "--vocab", str(vocab)])
    printed = capsys.readouterr().out
    for split in ("train", "valid", "test"):
        rows = sum(1 for _ in read_formatted(tmp_path / f"{split}_formatted.jsonl"))
        assert f"{split}.jsonl: {rows} rows" in printed and rows >= 50
        assert len((tmp_path / f"{split}.jsonl").read_text().splitlines()) == rows
