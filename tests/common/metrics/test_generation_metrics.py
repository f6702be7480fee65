"""The WebNLG and DART scores without Java: tokens, TER, BLEU, chrF++ and BERTScore, each against something else."""

import math
import sys
import types
from collections import Counter

import pyter
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.translate.bleu_score import SmoothingFunction, corpus_bleu

from common.errors import UserError
from common.metrics import ter
from common.metrics.generation import tally_bertscore, tally_bleu, tally_character_f, tally_nltk_bleu, tally_systems
from common.metrics.nltk_tokenizer import nltk_tokenize
from common.metrics.segments import read_texts
from common.metrics.ter import segment_ter, translation_edit_rate

WORDS = st.lists(st.sampled_from(["a", "b", "c", "d", "e,", ".", "ab", "Äb"]), max_size=9)
TEXTS = WORDS.map(" ".join)
# segments of three references, of which some or all are blank
SEGMENTS = st.lists(st.tuples(st.tuples(TEXTS, TEXTS, TEXTS), TEXTS), min_size=1, max_size=5)


@pytest.mark.parametrize("text, tokens", [  # what nltk 3.5 gives with its own English model
    ("He was born in the U.S. Then he moved to St. Louis, Mo. on Jan. 5. It rained.",
     "He was born in the U.S. Then he moved to St. Louis , Mo . on Jan. 5 . It rained ."),
    ("He said \"don't go.\" 'n she can't, cannot, gonna wanna go...",
     "He said `` do n't go . '' ' n she ca n't , can not , gon na wan na go ..."),
    ("''08/26'' is piece 'n bacon, more'n mor'n it's the dogs' 'x'",
     "''08/26 '' is piece ' n bacon , more ' n mor ' n it 's the dogs ' ' x '"),
    ("It costs £20-30 (or $5,000.50): «good» – “yes”! Why? *No*",
     "It costs £20-30 ( or $ 5,000.50 ) : « good » – “ yes ” ! Why ? * No *"),
    ("A. B. Corp. is at 18L/36R. e.g. the runway; see No. 5.",
     "A . B. Corp. is at 18L/36R . e.g . the runway ; see No . 5 ."),
    ("the name is st . louis .", "the name is st . louis ."),
    ("   ", ""),
])
def test_tokens_are_those_of_nltk_3_5(text, tokens):
    assert nltk_tokenize(text) == tokens


# TER

def test_ter_of_a_shift_and_an_edit_by_hand():
    # the example of pyter's documentation: one shift, three edits, 13 words
    reference = "SAUDI ARABIA denied THIS WEEK information published in the AMERICAN new york times".split()
    hypothesis = "THIS WEEK THE SAUDIS denied information published in the new york times".split()
    assert translation_edit_rate(hypothesis, reference) == 4 / 13
    assert translation_edit_rate([], ["a", "b"]) == 1
    assert translation_edit_rate(["x"] * 6, ["a", "b"]) == 3


@given(*[st.lists(st.sampled_from("abcdXYÄ"), min_size=size, max_size=12) for size in (0, 1)])
@settings(max_examples=400, deadline=None)
def test_ter_is_exactly_pyters(hypothesis, reference):
    assert translation_edit_rate(hypothesis, reference) == pyter.ter(hypothesis, reference)


def test_ter_scores_each_distinct_reference_once_and_takes_the_least(monkeypatch):
    scored = []
    monkeypatch.setattr(ter, "translation_edit_rate", lambda words, reference: scored.append(reference) or len(scored))
    assert segment_ter("a", ["b", "c d", "b", "c d"]) == 1
    assert scored == [["b"], ["c", "d"]]


def test_a_blank_reference_has_rate_1():
    assert segment_ter("x y z u", ["a", ""]) == 1
    assert segment_ter("x", ["", ""]) == 1
    assert segment_ter("a", ["", "a"]) == 0


# BLEU

def grams(sequence, n):
    return [tuple(sequence[i:i + n]) for i in range(len(sequence) - n + 1)]


def plain_multi_bleu(references, hypotheses):
    """BLEU as multi-bleu computes it: blank references have a length, no smoothing."""
    hits, totals, length, closest = [0] * 5, [0] * 5, 0, 0
    for group, hypothesis in zip(references, hypotheses):
        words = hypothesis.split()
        length += len(words)
        closest += min((abs(len(words) - len(text.split())), len(text.split())) for text in group)[1]
        for n in range(1, 5):
            own, gold = Counter(grams(words, n)), Counter()
            for text in group:
                gold |= Counter(grams(text.split(), n))
            hits[n] += sum((own & gold).values())
            totals[n] += sum(own.values())
    if not closest or not all(hits[1:]):
        return 0.0
    brevity = min(1.0, math.exp(1 - closest / length))
    return 100 * brevity * math.prod(hits[n] / totals[n] for n in range(1, 5)) ** 0.25


@given(SEGMENTS)
@settings(max_examples=150, deadline=None)
def test_bleu_equals_a_plain_multi_bleu(segments):
    spaced = [([text.replace("e,", "e ,") for text in group], text.replace("e,", "e ,")) for group, text in segments]
    references, hypotheses = zip(*spaced)
    assert tally_bleu(references, list(hypotheses)).corpus_score == pytest.approx(
        plain_multi_bleu(references, hypotheses), rel=1e-9, abs=1e-9)


@given(SEGMENTS)
@settings(max_examples=150, deadline=None)
def test_bleu_of_nltk_is_nltks(segments):
    kept = [([text.split() for text in group if text], hypothesis.split())
            for group, hypothesis in segments if any(group)]
    expected = corpus_bleu(*zip(*kept), smoothing_function=SmoothingFunction().method3) if kept else 0
    references, hypotheses = zip(*segments)
    assert tally_nltk_bleu(references, list(hypotheses)).corpus_score == pytest.approx(expected, rel=1e-9, abs=1e-12)


# chrF++

def plain_character_f(references, hypotheses):
    """chrF++ (Popović, 2017) as its author's program counts: smoothed, by the best reference of each segment.

    That program skips an order of which the reference has no n-grams.
    """
    def words(text):
        for word in text.split():
            if len(word) > 1 and word[-1] in ".,":
                yield from (word[:-1], word[-1])
            elif len(word) > 1 and word[0] in ".,":
                yield from (word[0], word[1:])
            else:
                yield word

    def counts_of(text):
        units = [list(text.strip().replace(" ", ""))] * 6 + [list(words(text))] * 2
        for sequence, n in zip(units, [1, 2, 3, 4, 5, 6, 1, 2]):
            yield Counter(grams(sequence, n))

    def f_score(counts):
        def part(hits, own, gold):
            precision, recall = hits / own if own else 1e-16, hits / gold if gold else 1e-16
            return 5 * precision * recall / (4 * precision + recall) if precision + recall else 1e-16
        return sum(part(*numbers) for numbers in counts) / 8

    total = [[0, 0, 0] for _ in range(8)]
    for group, hypothesis in zip(references, hypotheses):
        candidates = [[(sum((own & gold).values()), sum(own.values()) if gold else 0, sum(gold.values()))
                       for own, gold in zip(counts_of(hypothesis), counts_of(text))] for text in group if text.strip()]
        if candidates:
            total = [[a + b for a, b in zip(*pair)] for pair in zip(total, max(candidates, key=f_score))]
    return f_score(total)


@given(SEGMENTS)
@settings(max_examples=100, deadline=None)
def test_character_f_equals_a_plain_implementation(segments):
    references, hypotheses = zip(*segments)
    assert tally_character_f(references, list(hypotheses)).corpus_score == pytest.approx(
        plain_character_f(references, hypotheses), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("space", ["\t", "\xa0", "\u2009"])
def test_character_f_takes_other_white_space_for_a_letter_and_a_border_of_words(space):
    references, hypotheses = [["the cat sat.", "a dog"]], [f"the{space}cat sat"]
    score = tally_character_f(references, hypotheses).corpus_score
    assert score == pytest.approx(plain_character_f(references, hypotheses), rel=1e-12)
    assert score < tally_character_f(references, ["the cat sat"]).corpus_score


def test_character_f_with_other_orders():
    # chrF1 of order 1, "ab" against "abcd": precision 1, recall 1/2
    tally = tally_character_f([["abcd"]], ["ab"], char_order=1, word_order=0, beta=1)
    assert tally.corpus_score == pytest.approx(2 / 3)


# All of them

@pytest.mark.parametrize("name", ["facts", "dart_loo_lora"])
def test_scores_of_the_official_program_without_java(metric_case, name):
    folder, case = metric_case(name)
    columns = [read_texts(f"{folder / case['references']}{index}") for index in range(case["num_refs"])]
    systems = tally_systems(list(zip(*columns)), [read_texts(folder / case["hypothesis"])], ["bleu", "chrf++", "ter"])
    scores = {metric: tally.corpus_score for metric, tally in systems[0].items()}
    assert f"{scores.pop('bleu'):.2f}" == f"{case['scores']['bleu']:.2f}"
    assert scores == pytest.approx({metric: case["scores"][metric] for metric in ("bleu_nltk", "chrf++", "ter")},
                                   abs=1e-12)


def test_a_segment_without_any_reference_counts_where_it_does_in_the_official_program():
    references, hypotheses = [["a b c d e", "a b"], ["", ""]], ["a b c d e", "x y"]
    scores = {metric: tally.corpus_score for metric, tally in
              tally_systems(references, [hypotheses], ["bleu", "chrf++", "ter"])[0].items()}
    # BLEU: 5/7, 4/5, 3/3, 2/2 n-grams; TER: (0 + 1) / 2; the others see the first segment alone, whose five letters
    # have no n-gram of order 6, one of chrF++'s eight
    assert scores == pytest.approx({"bleu": 100 * (5 / 7 * 4 / 5) ** 0.25, "bleu_nltk": 1, "chrf++": 7 / 8, "ter": .5})
    with pytest.raises(UserError, match="All references are blank"):
        tally_systems([["", " "]], [["a"]], ["ter"])


# BERTScore

def test_bertscore_takes_the_references_that_are_not_blank(monkeypatch):
    def score(hypotheses, references, lang):
        assert (hypotheses, references, lang) == (["a", "b"], [["x", "y"], [""]], "en")
        return [types.SimpleNamespace(tolist=lambda values=values: values) for values in ([.5, .7], [.4, .4], [1, 0])]

    monkeypatch.setitem(sys.modules, "bert_score", types.SimpleNamespace(score=score))
    tallies = tally_bertscore([["x", "", "y"], ["", "", ""]], ["a", "b"])
    assert [tally.corpus_score for tally in tallies] == pytest.approx([.6, .4, .5])


def test_a_bertscore_without_its_package_or_model_is_an_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "bert_score", None)
    with pytest.raises(UserError, match="bert_score, which cannot be imported .*pip install bert-score"):
        tally_bertscore([["a"]], ["a"])

    def score(*_, **__):
        raise OSError("no\nconnection")

    monkeypatch.setitem(sys.modules, "bert_score", types.SimpleNamespace(score=score))
    with pytest.raises(UserError, match="roberta-large.* cannot be loaded: no connection"):
        tally_bertscore([["a"]], ["a"])
