"""The text that gpt2-nano is pretrained on: what is left out, what is drawn, how it is packed."""

import gzip
import json
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from common.nano.pretraining_data import (
    COMPLETION,
    CONTEXT,
    EOS,
    PADDING,
    describe,
    draw_chunk,
    draw_pair,
    draw_slots,
    encode_pairs,
    pack,
    replace_names,
    slot_form,
)
from common.nano.pretraining_sources import (
    find_phrases,
    plain,
    question_key,
    read_sources,
    source_paths,
    space_words,
    spaced,
)

PASSAGE = ("Ada Lovelace was born in London in 1815. She wrote the first program for the Analytical Engine near "
           "St. James. The engine is expensive and cost over $20 million.")

# As create_datasets.sh leaves them in data/, and the copies that it accepts where the published files cannot be had.
PUBLISHED = ("squad/train-v1.1.json", "webnlg_challenge_2017/train.json", "dart/dart-v1.1.1-full-train.json")
COPIES = ("squad/train-v1.1.rebuilt.json", "webnlg_challenge_2017/train.json",
          "dart/dart-v1.1.1-full-train.partial.json")


@pytest.fixture
def folder(tmp_path):
    """The three data sets in their forms, a few texts each; DART's second entry comes from E2E."""
    articles = [{"title": f"Title_{i}", "paragraphs": [{"context": PASSAGE, "qas": [
        {"question": "What city was Ada Lovelace born in?", "answers": [{"text": "London", "answer_start": 25}]}]}]}
        for i in range(60)]
    webnlg = {"entries": [{str(i): {"category": "Food", "modifiedtripleset": [
        {"subject": f"Dish_{i}", "property": "mainIngredient", "object": "Rice"}],
        "lexicalisations": [{"comment": "good", "lex": f"Dish {i} is made of Rice."},
                            {"comment": "toFix", "lex": "No good."}]}} for i in range(1, 61)]}
    dart = [{"tripleset": [["Aarhus", "LEADER_NAME", "Jacob"]], "annotations": [
                {"source": "WikiTableQuestions_or_WikiSQL", "text": "Jacob leads Aarhus."}]},
            {"tripleset": [["The Vaults", "eatType", "pub"]], "annotations": [
                {"source": "e2e", "text": "The Vaults is a pub."}]}]
    for document, path in zip(({"data": articles}, webnlg, dart), PUBLISHED):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text(json.dumps(document), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("names", [PUBLISHED, COPIES], ids=["published", "copies"])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_published_files_and_copies_are_read_alike(folder, tmp_path_factory, names, ending):
    other = tmp_path_factory.mktemp("other")
    for published, name in zip(PUBLISHED, names):
        content = (folder / published).read_bytes()
        (other / name).parent.mkdir()
        (other / (name + ending)).write_bytes(gzip.compress(content) if ending else content)
    assert read_sources(other) == read_sources(folder)
    assert list(source_paths(other).values()) == [str(other / (name + ending)) for name in names]


def test_a_published_file_goes_before_its_copy(folder):
    (folder / COPIES[0]).write_text("{}")
    assert source_paths(folder)["squad"] == str(folder / PUBLISHED[0])


def test_a_missing_file_is_named_with_what_gets_it(folder):
    (folder / PUBLISHED[2]).unlink()
    with pytest.raises(UserError, match=r"dart: no dart-v1.1.1-full-train.json or dart-v1.1.1-full-train.partial.json "
                       r"\(nor .gz\) there; `bash scripts/create_datasets.sh dart`"):
        read_sources(folder)


def test_neither_e2e_nor_bad_texts_are_read(folder):
    sources = read_sources(folder)
    texts = [pair.text for pair in sources.pairs + sources.held_out_pairs]
    assert len(texts) == 61 and "Jacob leads Aarhus." in texts
    assert not any("Vaults" in text or "No good" in text for text in texts)


def test_real_sources_leave_out_e2e(shared_data):
    # 18,025 `good` WebNLG texts and 18,102 + 3,286 DART texts that are not E2E's: the data folder's README.
    sources = read_sources(shared_data)
    pairs = sources.pairs + sources.held_out_pairs
    assert len(pairs) == 18025 + 18102 + 3286
    predicates = {predicate.lower() for pair in pairs for _, predicate, _ in pair.triples}
    assert not predicates & {"eattype", "pricerange", "familyfriendly", "customer rating"}


def test_held_out_parts_share_nothing_with_training(folder):
    sources = read_sources(folder)
    names = {frozenset(plain(n) for s, _, o in pair.triples for n in (s, o)) for pair in sources.held_out_pairs}
    assert not names & {frozenset(plain(n) for s, _, o in pair.triples for n in (s, o)) for pair in sources.pairs}
    titles = {sentence.title for sentence in sources.held_out_sentences}
    assert titles and not titles & ({s.title for s in sources.sentences} | {p[0] for p in sources.passages})


def test_words_are_set_apart_as_e2e_has_them():
    # The right-hand sides are E2E's own spelling of such words.
    assert spaced("It isn't family-friendly, £20-25.") == "It isn 't family - friendly , £ 20 - 25 ."
    assert space_words("the 24th of 1,000.5m") == ["the", "24th", "of", "1,000.5", "m"]


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_words_lose_nothing_but_white_space(text):
    assert "".join(space_words(text)) == "".join(text.split())


@pytest.mark.parametrize("question, key", [
    ("In what era was Chopin active?", "era"), ("How many students are there?", "number of students"),
    ("Where did he live?", "location"), ("What is it?", None), ("", None)])
def test_question_key(question, key):
    assert question_key(question) == key


def test_phrases_and_slots_come_from_the_sentence(folder):
    sources = read_sources(folder)
    words = sources.sentences[0].words
    found = {" ".join(words[start:end]): key for start, end, key in sources.sentences[0].phrases}
    assert found == {"Ada Lovelace": None, "born": None, "London": "city", "1815": None}
    for seed in range(50):
        sentence = sources.sentences[seed % 3]
        context, text = describe([sentence], random.Random(seed))
        assert text == " ".join(sentence.words)
        for slot in context.split(" | "):
            key, separator, value = slot.partition(" : ")
            assert separator and key
            assert key == "title" or value in ("yes", "no") or f" {value} " in f" {text} ", slot


def test_find_phrases_of_function_words_alone():
    assert find_phrases(("It", "is", "not", "."), ()) == ()


def test_names_are_replaced_on_both_sides():
    changed = 0
    for seed in range(20):
        context, text = replace_names("name : Ada Lovelace | year : 1815", "Ada Lovelace was born in 1815 .",
                                      ["Oslo"], random.Random(seed))
        for slot in context.split(" | "):
            assert slot.partition(" : ")[2] in text
        changed += "Oslo" in text
    assert 0 < changed < 20


def test_slot_form_names_each_subject_once():
    triples = (("Aarhus_Airport", "cityServed", '"Aarhus, Denmark"'), ("Denmark", "LEADER_NAME", "Jacob"),
               ("Aarhus_Airport", "elevation", "25.0"))
    assert slot_form(triples) == ("name : Aarhus Airport | city served : Aarhus , Denmark | elevation : 25.0 | "
                                  "name : Denmark | leader name : Jacob")
    assert slot_form((("[TABLECONTEXT]", "[title]", "Olympiad"),)) == "title : Olympiad"


def test_pairs_are_encoded_as_fine_tuning_has_them(tokenizer):
    (ids, flags), = encode_pairs(tokenizer, [("name : A", "A is .")])
    context, completion = tokenizer.encode("name : A").ids, tokenizer.encode(" A is .").ids
    assert ids == context + [EOS] + completion + [EOS]
    assert flags == [CONTEXT] * (len(context) + 1) + [COMPLETION] * (len(completion) + 1)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 40), max_size=30))
def test_packing_keeps_every_document_that_fits(lengths):
    documents = [([number + 1] * length, [COMPLETION] * length) for number, length in enumerate(lengths)]
    rows = pack(documents, 32)
    assert rows.dtype == np.uint16 and rows.shape[1:] == (3, 32)
    found = {}
    for ids, positions, flags in rows:
        for i in np.flatnonzero(flags != PADDING):
            assert positions[i] == (0 if i == 0 or ids[i - 1] != ids[i] else positions[i - 1] + 1)
            found[ids[i] - 1] = found.get(ids[i] - 1, 0) + 1
        assert not positions[flags == PADDING].any()
    assert found == {number: length for number, length in enumerate(lengths) if length <= 32}


@pytest.mark.parametrize("kind", ["pairs", "slots", "text"])
def test_chunks_follow_from_seed_and_number(folder, tokenizer, kind):
    sources = read_sources(folder)
    first, again, other = (draw_chunk(sources, tokenizer, kind, number, 1, 128) for number in (0, 0, 1))
    assert np.array_equal(first, again)
    assert first.shape != other.shape or not np.array_equal(first, other)
    assert (first[:, 2] != PADDING).mean() > 0.7


def test_draws_differ(folder):
    sources = read_sources(folder)
    assert len({draw_slots(sources, 0, random.Random(seed)) for seed in range(20)}) > 10
    assert len({draw_pair(sources, sources.pairs[0], random.Random(seed)) for seed in range(20)}) > 2


def test_mistakes_are_told(folder):
    path = folder / PUBLISHED[0]
    path.write_text('{"data": [{"title": 1}]}')
    with pytest.raises(UserError, match="train-v1.1.json: not a squad training file"):
        read_sources(folder)
    path.write_text('{"data": []}')
    with pytest.raises(UserError, match="no training text"):
        read_sources(folder)
