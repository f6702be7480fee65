"""The host's half of beam search, with a made-up model in numpy, against the plain search."""

import os
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from common.errors import UserError
from common.run.batching import Row
from common.run.beam_search import (
    Candidates,
    SearchModel,
    SearchSettings,
    banned_by_ngrams,
    choose,
    constraints,
    search,
)
from common.run.searching import distinct_contexts, run_search, say_what_is_cut
from tests.oracles.plain_beam_search import log_softmax, plain_search

VOCABULARY = 12


def table_model(seed, scale=2.0, eos_bonus=0.0):
    """Logits that depend on the last two tokens and the length: enough for the search to have real choices."""
    table = np.random.RandomState(seed).randn(7, VOCABULARY, VOCABULARY, VOCABULARY) * scale

    def logits_of(ids):
        logits = table[len(ids) % 7, ids[-2] if len(ids) > 1 else 0, ids[-1]].copy()
        logits[0] += eos_bonus
        return logits
    return logits_of


class TableState:
    def __init__(self, sequences):
        self.sequences = sequences


def table_decoder(logits_of):
    """A SearchModel over ``logits_of`` that keeps whole sequences as its state."""
    def prompt(packed):
        sequences = [ids.tolist() for ids in np.split(packed.input_ids, packed.offsets[1:-1])]
        assert packed.length == max(map(len, sequences))
        return TableState(sequences), np.array([logits_of(sequence) for sequence in sequences])

    def advance(state, tokens, origins):
        state.sequences = [state.sequences[origin] + [int(token)] for token, origin in zip(tokens, origins)]
        return np.array([logits_of(sequence) for sequence in state.sequences])

    def top_tokens(logits, penalised, banned, repetition_penalty, count):
        logits = logits.copy()
        for row, token in set(zip(*map(tuple, penalised))):
            value = logits[row, token]
            logits[row, token] = value * repetition_penalty if value < 0 else value / repetition_penalty
        logits[banned] = -1e9
        values = np.array([log_softmax(row) for row in logits])
        order = np.argsort(-values, axis=1, kind="stable")[:, :count]
        return np.take_along_axis(values, order, axis=1).astype(np.float32), order
    return SearchModel(prompt, advance, top_tokens, lambda: 0, {})


SETTINGS = [
    SearchSettings(beam=1, eval_len=6, eos_token_id=(0,)),
    SearchSettings(beam=4, eval_len=8, length_penalty=0.8, eos_token_id=(0,)),
    SearchSettings(beam=4, eval_len=8, length_penalty=-0.5, eos_token_id=(0, 3)),
    SearchSettings(beam=5, eval_len=9, length_penalty=1.5, no_repeat_ngram_size=2, eos_token_id=(0,)),
    SearchSettings(beam=3, eval_len=9, no_repeat_ngram_size=1, eos_token_id=(0,)),
    SearchSettings(beam=4, eval_len=8, repetition_penalty=1.7, eos_token_id=(0,)),
    SearchSettings(beam=4, eval_len=8, min_length=4, length_penalty=0.0, eos_token_id=(0, 5)),
    SearchSettings(beam=6, eval_len=7, length_penalty=0.8, no_repeat_ngram_size=3, repetition_penalty=0.8, min_length=2,
                   eos_token_id=(0, 1)),
]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("eos_bonus", [0.0, 4.0])
def test_equals_plain_search(settings, eos_bonus):
    contexts = [[1, 2, 3], [4], [5, 6, 7, 8, 9], [11, 10]]
    for seed in range(6):
        logits_of = table_model(seed, eos_bonus=eos_bonus)
        outputs, scores = search(table_decoder(logits_of), contexts, settings)
        for context, output, score in zip(contexts, outputs, scores):
            expected, expected_score = plain_search(logits_of, context, settings)
            assert output.tolist() == expected
            assert score == pytest.approx(expected_score, rel=1e-5)


def test_batch_of_one_equals_batch_of_many():
    logits_of, settings = table_model(1, eos_bonus=2.0), SETTINGS[3]
    contexts = [[token, token + 1] for token in range(10)]
    together, _ = search(table_decoder(logits_of), contexts, settings)
    alone = [search(table_decoder(logits_of), [context], settings)[0][0] for context in contexts]
    assert [output.tolist() for output in together] == [output.tolist() for output in alone]


def test_early_stop_saves_steps():
    """A model that always ends at once needs no step after the first."""
    def logits_of(ids):
        return np.where(np.arange(VOCABULARY) == 0, 30.0, 0.0)

    calls = []
    decoder = table_decoder(logits_of)
    counting = replace(decoder, advance=lambda *inputs: calls.append(1) or decoder.advance(*inputs))
    outputs, _ = search(counting, [[1]], SearchSettings(beam=3, eval_len=8, eos_token_id=(0,)))
    assert outputs[0].tolist() == [0] and not calls


def test_ties_keep_the_lower_hypothesis_and_token():
    scores = np.zeros((1, 2), np.float32)
    tokens = np.array([[[7, 3], [1, 2]]])
    values = np.full((1, 2, 2), -1.0, np.float32)
    totals, origins, chosen = choose(scores, values, tokens, 3)
    assert origins.tolist() == [[0, 0, 1]] and chosen.tolist() == [[3, 7, 1]] and totals.tolist() == [[-1.0] * 3]


def test_the_earlier_candidate_stays_on_ties():
    settings = SearchSettings(beam=1, eval_len=4, length_penalty=0.0)
    candidates = Candidates(1, settings)
    candidates.offer(np.array([[-2.0]], np.float32), np.array([[[5]]]), np.array([[True]]))
    candidates.offer(np.array([[-2.0]], np.float32), np.array([[[6, 7]]]), np.array([[True]]))
    assert candidates.outputs[0].tolist() == [5]


@given(st.lists(st.integers(0, 3), min_size=0, max_size=14), st.integers(1, 5))
@hypothesis_settings(max_examples=200, deadline=None)
def test_ngram_bans_by_definition(history, size):
    """A token is banned exactly where appending it makes an n-gram that is there already."""
    _, found = banned_by_ngrams(np.array([history], np.int64).reshape(1, -1), size)
    grams = [tuple(history[start:start + size]) for start in range(len(history) - size + 1)]
    expected = {token for token in range(4)
                if len(history) >= size - 1 and tuple((history + [token])[len(history) - size + 1:]) in grams}
    assert set(found.tolist()) == expected


def test_constraints_for_the_first_token():
    penalised, banned = constraints(np.zeros((2, 0), np.int64),
                                    SearchSettings(beam=2, eval_len=4, min_length=1, repetition_penalty=1.2,
                                                   no_repeat_ngram_size=3, eos_token_id=(8, 9)))
    assert penalised[0].size == 0
    assert sorted(zip(*map(list, banned))) == [(0, 8), (0, 9), (1, 8), (1, 9)]


def test_distinct_contexts_keep_order_and_last_tokens():
    rows = [Row([1, 2, 3], []), Row([9], []), Row([5, 2, 3], []), Row([9], [4])]
    assert distinct_contexts(rows, 2) == ([[2, 3], [9]], [0, 1, 0, 1])


def test_contexts_of_which_only_the_end_is_read_are_said(capsys):
    rows = [Row([1, 2, 3], []), Row([9], []), Row([5, 2, 3], []), Row([9], [4]), Row([1, 2, 3], [7])]
    say_what_is_cut(rows, 2, "test.jsonl")
    assert capsys.readouterr().err == (
        "note: test.jsonl: 3 of 5 rows have a context of more than 2 tokens, --seq_len less --eval_len, of which only "
        "the end is read; so 3 distinct contexts become 2\n")
    say_what_is_cut(rows[:2], 2, "test.jsonl")
    assert capsys.readouterr().err.endswith("only the end is read\n")
    say_what_is_cut(rows, 3, "test.jsonl")
    assert not capsys.readouterr().err


@pytest.mark.parametrize("change, sentence", [
    ({"output_file": "here"}, "here: is a folder"), ({"output_file": "rows.jsonl"}, "is the same file as the input"),
    ({"data": "nowhere"}, "nowhere: no such file"), ({"work_dir": "rows.jsonl"}, "is a file")])
def test_what_is_wrong_without_a_model_is_found_before_it_is_built(change, sentence, tmp_path, monkeypatch):
    def no_model(arguments):
        raise AssertionError("the model was built")

    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    (tmp_path / "rows.jsonl").write_text('{"context": [1], "completion": [2]}\n')
    arguments = SimpleNamespace(**{"work_dir": ".", "data": "rows.jsonl", "output_file": "predict.jsonl", "seq_len": 8,
                                   "init_checkpoint": "random", "lora_checkpoint": None, "eval_len": 4, **change})
    with pytest.raises(UserError, match=sentence):
        run_search(arguments, no_model)
    assert sorted(os.listdir()) == ["here", "rows.jsonl"]
