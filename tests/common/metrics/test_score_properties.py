"""What every score has to hold whatever the texts: its bounds, its best value, and that order does not matter."""

import math
import string

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.data.events import Event, Span
from common.data.span_counts import Found, micro_scores
from common.metrics.e2e import tally_ngrams
from common.metrics.events import tally_events
from common.metrics.generation import tally_systems
from common.metrics.squad import exact_match, f1, normalize, tally_squad

WORDS = st.sampled_from(["the", "A", "clock", "é", ".", "&amp;", "<x>", "12", "don't", "x\u3000y", "a-b", "日本"])
SENTENCE = st.lists(WORDS, min_size=1, max_size=7).map(" ".join)
ANY = st.one_of(SENTENCE, st.just(""), st.text(st.characters(codec="utf-8", exclude_categories=["Zl", "Zp", "Cc"]),
                                               max_size=15))
# (references, prediction) of each segment; GenerationEval's have the same number each.
SEGMENTS = st.integers(1, 3).flatmap(lambda count: st.lists(
    st.tuples(st.lists(SENTENCE, min_size=count, max_size=count), ANY), min_size=1, max_size=5))
QUICK = settings(max_examples=25, deadline=None)
WITHOUT_JAVA = ("bleu", "chrf++", "ter")
BEST = {"BLEU": 1.0, "bleu": 100.0, "bleu_nltk": 1.0, "chrf++": 1.0, "ter": 0.0}


def tallies_of(segments):
    """All tallies that need no Java, by name."""
    references, predictions = [group for group, _ in segments], [text for _, text in segments]
    return {**tally_ngrams(references, predictions), **{f"{name} corrected": tally for name, tally in tally_ngrams(
        references, predictions, corrected=True).items()}, **tally_systems(references, [predictions], WITHOUT_JAVA)[0]}


def scores_of(segments, without=()):
    return {name: tally.corpus_score for name, tally in tallies_of(segments).items() if name not in without}


@given(SEGMENTS)
@QUICK
def test_scores_are_numbers_within_their_bounds(segments):
    for name, tally in tallies_of(segments).items():
        for score in (tally.corpus_score, *tally.segment_scores):
            assert math.isfinite(score) and score >= 0, name
            # The official BLEU has no bound: it counts a negative number of n-grams in short outputs.
            if name != "BLEU" and "NIST" not in name and name != "ter":
                assert score <= (100 if name == "bleu" else 1) * (1 + 1e-9), name


@given(SEGMENTS, st.randoms(use_true_random=False))
@QUICK
def test_the_order_of_segments_and_of_references_does_not_matter(segments, random):
    random.shuffle(mixed := segments[:])
    assert scores_of(mixed) == pytest.approx(scores_of(segments), rel=1e-9, abs=1e-12)
    turned = [(random.sample(group, len(group)), text) for group, text in segments]
    # Of equally good references chrF++ counts the first.
    assert scores_of(turned, ["chrf++"]) == pytest.approx(scores_of(segments, ["chrf++"]), rel=1e-9, abs=1e-12)


@given(st.lists(st.lists(st.sampled_from(["clock", "broke", "Ada", "tower"]), min_size=4, max_size=8).map(" ".join),
                min_size=1, max_size=4))
@QUICK
def test_the_reference_itself_has_the_best_score(texts):
    scores = scores_of([([text, "another one"], text) for text in texts])
    assert {name: scores[name] for name in BEST} == pytest.approx(BEST)


@given(SEGMENTS)
@QUICK
def test_a_corpus_twice_has_the_score_of_one(segments):
    """NIST's too: its weights are of ratios of counts. E2E's and nltk's BLEU put constants in place of counts of 0."""
    constants = "BLEU", "BLEU corrected", "bleu_nltk"
    assert scores_of(segments * 2, constants) == pytest.approx(scores_of(segments, constants), rel=1e-9, abs=1e-12)


ANSWER = st.text(st.one_of(st.sampled_from("ab the. ,A"), st.characters(codec="utf-8")), max_size=12)


@given(ANSWER, ANSWER)
@QUICK
def test_answers_are_compared_both_ways_alike(one, other):
    assert exact_match(one, other) == exact_match(other, one) <= 1
    assert f1(one, other) == pytest.approx(f1(other, one)) and 0 <= f1(one, other) <= 1
    assert exact_match(one, one) == 1 and (f1(one, one) == 1 or not normalize(one))
    if exact_match(one, other) and normalize(one):
        assert f1(one, other) == 1
    assert not set(normalize(one)) & set(string.punctuation + string.ascii_uppercase)


@given(st.lists(st.tuples(st.lists(ANSWER, min_size=1, max_size=3), st.none() | ANSWER), min_size=1, max_size=6))
@QUICK
def test_one_more_gold_answer_never_lowers_a_score(pairs):
    before, after = (tally_squad(gold, [prediction for _, prediction in pairs]) for gold in (
        [gold for gold, _ in pairs], [[*gold, "another"] for gold, _ in pairs]))
    for name, tally in before.items():
        assert (np.array(after[name].segment_scores) >= np.array(tally.segment_scores)).all()
        assert 0 <= tally.corpus_score <= 100


ARGUMENTS = st.dictionaries(st.sampled_from(["Agent", "Thing"]), st.lists(
    st.tuples(st.integers(0, 8), st.integers(0, 3)).map(lambda pair: Span(pair[0], pair[0] + pair[1])), min_size=1,
    max_size=3, unique=True).map(tuple))


def event_of(arguments, sentence=0):
    return Event(sentence, "f:1", tuple("abcdefghijkl"), Span(0, 0), "Break", arguments)


def found_of(arguments):
    return [Found(role, span) for role, spans in arguments.items() for span in spans]


@given(st.lists(st.tuples(ARGUMENTS, ARGUMENTS), min_size=1, max_size=4))
@QUICK
def test_precision_and_recall_change_places(pairs):
    forth = micro_scores([event_of(gold) for gold, _ in pairs], [found_of(other) for _, other in pairs])
    back = micro_scores([event_of(other) for _, other in pairs], [found_of(gold) for gold, _ in pairs])
    for measure, counts in forth.items():
        assert (counts.precision, counts.recall, counts.f1) == (
            back[measure].recall, back[measure].precision, back[measure].f1)
        assert 0 <= counts.f1 <= 1 and min(counts.precision, counts.recall) <= counts.f1 + 1e-12
        assert counts.f1 <= max(counts.precision, counts.recall) + 1e-12
    # A right role needs a right span.
    assert forth["classification"].correct <= forth["token"].correct
    tallies = tally_events([event_of(gold, number) for number, (gold, _) in enumerate(pairs)],
                           [found_of(other) for _, other in pairs])
    for measure, counts in forth.items():
        assert tallies[f"{measure}_f1"].corpus_score == pytest.approx(counts.f1)


@given(st.lists(ARGUMENTS, min_size=1, max_size=4))
@QUICK
def test_gold_arguments_as_predictions_are_perfect(all_gold):
    scores = micro_scores([event_of(gold) for gold in all_gold], [found_of(gold) for gold in all_gold])
    expected = float(any(all_gold))
    assert all((each.precision, each.recall, each.f1) == (expected,) * 3 for each in scores.values())
