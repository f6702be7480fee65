"""The demo data: the same bytes everywhere, in E2E's format, each text saying what its MR says."""

import hashlib
import random
import re

import pytest

from common.data.converting import convert_e2e
from common.data.strata import slots_of
from common.demo.grammar import VALUES, adjectives, modifiers, predicates, reference, sentences, shuffled
from common.demo.rows import MR_COUNTS, main, make_splits
from common.files import read_json_lines


@pytest.fixture(scope="module")
def splits():
    return make_splits(1)


def rows_of(splits):
    return [row for rows in splits.values() for row in rows]


def test_same_bytes_on_every_machine(splits):
    # This program's own output, so that a change of the grammar or of Python's random numbers cannot go unseen.
    text = "".join(f"{mr}||{text} \n" for mr, text in rows_of(splits))
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert digest == "a531c39228582aa9633de04a996f1ce54fc05f2fa5700e68a37280ad0e7277ab"


def test_another_seed_gives_other_texts(splits):
    assert not {text for _, text in rows_of(make_splits(2))} >= {text for _, text in rows_of(splits)}


def test_splits_share_no_mr(splits):
    mrs = {split: {mr for mr, _ in rows} for split, rows in splits.items()}
    assert {split: len(found) for split, found in mrs.items()} == MR_COUNTS
    assert len(set.union(*mrs.values())) == sum(MR_COUNTS.values())


def test_three_to_five_different_references(splits):
    for rows in splits.values():
        texts = {}
        for mr, text in rows:
            texts.setdefault(mr, []).append(text)
        assert all(3 <= len(found) <= 5 and len(set(found)) == len(found) for found in texts.values())


def test_valid_and_test_keep_references_together_and_train_is_shuffled(splits):
    for split in ("valid", "test"):
        mrs = [mr for mr, _ in splits[split]]
        assert mrs == sorted(mrs, key=mrs.index)
    mrs = [mr for mr, _ in splits["train"]]
    assert mrs != sorted(mrs, key=mrs.index)


def test_mrs_have_e2e_slots_in_order(splits):
    for mr, _ in rows_of(splits):
        slots = slots_of(mr)
        assert [slot for slot in VALUES if slot in slots] == list(slots) and "name" in slots
        assert all(value in VALUES[slot] for slot, value in slots.items())
        assert len(set(slots) - {"name", "Type"}) >= 1


def test_texts_are_tokenised_sentences(splits):
    for _, text in rows_of(splits):
        assert text == " ".join(text.split()) and text.isprintable() and text.endswith(" .") and text[0].isupper()
        assert not re.search(r"\w[,.?]|[,.?]\w|\ba [aeiou]|\b[Aa]n [^aeiouAEIO]|food food|\b(\w+) \1\b", text), text


@pytest.mark.parametrize("seed", range(40))
def test_a_text_says_every_slot(seed):
    draw = random.Random(seed).random
    mr = {slot: VALUES[slot][int(draw() * len(VALUES[slot]))] for slot in VALUES}
    text = reference(draw, mr)
    assert mr["name"] in text and f" {mr['Type']} " in text and text.count(mr["near"]) == 1
    assert text.lower().count(mr["food"].lower()) == 1
    assert text.count(mr["area"]) == 1
    for slot in ("price", "customer rating", "family friendly"):
        wordings = [wording for words in (adjectives, modifiers, predicates, sentences)
                    for wording in words(slot, mr[slot])]
        # "and low prices" stands for "with low prices" after another "with".
        wordings += [wording.removeprefix("with ") for wording in wordings if wording.startswith("with ")]
        assert any(wording in text for wording in wordings), (slot, mr[slot], text)


def test_shuffled_keeps_the_items():
    assert sorted(shuffled(random.Random(3).random, range(20))) == list(range(20)) != shuffled(random.Random(3).random,
                                                                                              range(20))


def test_files(tmp_path, vocab, capsys):
    main(["--output", str(tmp_path)])
    assert "test.jsonl: 155 rows" in capsys.readouterr().out
    for split in MR_COUNTS:
        formatted = [record for _, record in read_json_lines(tmp_path / f"{split}_formatted.jsonl")]
        assert formatted == list(convert_e2e(tmp_path / f"{split}.txt"))
        encoded = [record for _, record in read_json_lines(tmp_path / f"{split}.jsonl")]
        assert len(encoded) == len(formatted)
        assert all(row["context"][-1] == row["completion"][-1] == 50256 for row in encoded)
