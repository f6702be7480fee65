"""Exact match and F1: torchmetrics' implementation is the oracle; the program's warnings, intervals and JSON."""

import json

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from common.errors import UserError
from common.files import read_json_lines, sha256_of, write_json
from common.metrics.squad import exact_match, f1, normalize, read_answers, tally_squad
from eval.squad.evaluate import main

answer = st.lists(st.sampled_from(["the", "The", "a", "an", "cat", "Cat,", "sat", "1804", "U.S.", "«mat»", "l'an",
                                   "–", "naïve", "A\u00a0b", "(b)"]), min_size=1, max_size=6).map(" ".join)


def scores(gold, predictions):
    return {name: tally.corpus_score for name, tally in tally_squad(gold, predictions).items()}


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(answer, st.lists(answer, min_size=1, max_size=3)), min_size=4, max_size=12))
def test_equal_to_torchmetrics(pairs):
    try:
        from torchmetrics.functional.text import squad
    except ImportError:
        pytest.skip("torchmetrics needs torch, which the Jittor environment does not have")
    # No answers of articles and punctuation alone: there torchmetrics follows SQuAD v2.0, where two empty ones match.
    pairs = [(prediction, gold) for prediction, gold in pairs if all(map(normalize, [prediction, *gold]))]
    assume(pairs)
    expected = squad([{"prediction_text": prediction, "id": str(row)} for row, (prediction, _) in enumerate(pairs)],
                     [{"answers": {"answer_start": [0] * len(gold), "text": gold}, "id": str(row)}
                      for row, (_, gold) in enumerate(pairs)])
    found = scores([gold for _, gold in pairs], [prediction for prediction, _ in pairs])
    # Theirs is float32.
    assert found == {name: pytest.approx(float(value), abs=1e-4) for name, value in expected.items()}


def test_by_hand():
    assert normalize("The  U.S. (a\u00a0country)!") == "us country"
    assert exact_match("the cat.", "Cat") == 1 and exact_match("cats", "cat") == 0
    # Two of three predicted words are among four: precision 2/3, recall 1/2.
    assert f1("red cat sat", "black cat sat down") == pytest.approx(2 * (2 / 3) * (1 / 2) / (2 / 3 + 1 / 2))
    assert f1("dog", "cat") == 0 and f1("the", "a") == 0
    assert scores([["cat", "a dog"], ["x"]], ["dog", None]) == {"exact_match": 50, "f1": 50}


@pytest.fixture
def files(tmp_path):
    entries = [{"id": str(row), "question": "?", "answers": [{"text": text, "answer_start": 0}]}
               for row, text in enumerate(["cat", "red dog", "1804", "Ann Orme"])]
    write_json(tmp_path / "gold.json", {"version": "1.1", "data": [
        {"title": "t", "paragraphs": [{"context": "c", "qas": entries}]}]})
    write_json(tmp_path / "good.json", {"0": "The cat", "1": "dog", "2": "1804", "3": "Ann Orme"})
    write_json(tmp_path / "bad.json", {"0": "cat", "1": "mouse", "9": "x"})
    return tmp_path


def test_program_writes_scores_intervals_and_segments(files, capsys):
    main([str(files / "gold.json"), str(files / "good.json"), "--pred2", str(files / "bad.json"), "--bootstrap", "200",
          "--json", str(files / "scores.json"), "--segments", str(files / "segments.jsonl")])
    out, err = capsys.readouterr()
    # f1 of "dog" for "red dog": 2/3.
    for words in ("exact_match: 75.00 (95 %: ", "f1: 91.67", "exact_match: -50.00", "p: exact_match"):
        assert words in out
    assert "no prediction for 2 of 4 questions (the first: 2); each scores 0" in err
    assert "1 predictions are for no question of the data set (the first: 9)" in err
    record = json.loads((files / "scores.json").read_text())
    assert record["scores"] == {"exact_match": 75, "f1": pytest.approx(100 * (3 + 2 / 3) / 4)}
    assert record["bootstrap"]["samples"] == 200 and record["intervals"]["f1"][0] <= record["scores"]["f1"]
    assert record["inputs"]["dataset"]["sha256"] == sha256_of(files / "gold.json")
    segments = [line["scores"]["exact_match"] for _, line in read_json_lines(files / "segments.jsonl")]
    assert segments == [100, 0, 100, 100] and record["counts"]["questions"] == 4


def test_program_names_what_it_cannot_read(files):
    with pytest.raises(UserError, match="--bootstrap 3"):
        main([str(files / "gold.json"), str(files / "good.json"), "--bootstrap", "3"])
    with pytest.raises(UserError, match="the JSON is a list, expected an object"):
        (files / "list.json").write_text("[1]")
        main([str(files / "gold.json"), str(files / "list.json")])
    with pytest.raises(UserError, match=r'\["0"\] is 3, expected a string'):
        (files / "number.json").write_text('{"0": 3}')
        main([str(files / "gold.json"), str(files / "number.json")])
    with pytest.raises(UserError, match="no 'data'"):
        main([str(files / "good.json"), str(files / "good.json")])


def test_the_published_answers_score_100(shared_data):
    gold = read_answers(shared_data / "squad/dev-v1.1.json")
    assert len(gold) == 10570
    assert scores(gold.values(), [answers[-1] for answers in gold.values()])["exact_match"] == 100
