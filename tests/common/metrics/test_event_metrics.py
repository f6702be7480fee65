"""Scores of event arguments: plain counting is the oracle; RAMS's, the table by role, the program and its errors."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.data.events import Event, Ontology, Span
from common.data.span_counts import MEASURES, Counts, Found
from common.errors import UserError
from common.files import read_json_lines, sha256_of
from common.metrics.events import PARTS, read_predictions, role_table, tally_events
from eval.events.measure_scores import main
from tests.common.data.event_cases import rams_record, write_phee, write_rams

ROLES = ("Agent", "Thing", "Place")
argument = st.tuples(st.sampled_from(ROLES), st.integers(0, 5), st.integers(0, 2))
arguments_of_event = st.sets(argument, max_size=5)


def spans_of(arguments):
    return {(role, Span(start, start + more)) for role, start, more in arguments}


def event_of(sentence, arguments):
    found = {}
    for role, span in sorted(spans_of(arguments)):
        found.setdefault(role, []).append(span)
    return Event(sentence, "x", tuple("abcdefghij"), Span(0, 0), "Break",
                 {role: tuple(spans) for role, spans in found.items()})


def plain_counts(pairs):
    """Counts pairs of gold and predicted arguments one by one; returns {measure: [predicted, gold, correct]}."""
    counts = {measure: [0, 0, 0] for measure in MEASURES}
    for gold, predicted in pairs:
        sets = {"classification": lambda arguments: list(arguments),
                "identification": lambda arguments: list({span for _, span in arguments}),
                "token": lambda arguments: list({(role, word) for role, (start, end) in arguments
                                                 for word in range(start, end + 1)})}
        for measure, of in sets.items():
            right, answered = of(gold), of(predicted)
            counts[measure][0] += len(answered)
            counts[measure][1] += len(right)
            for each in answered:
                counts[measure][2] += each in right
    return counts


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 2), arguments_of_event, arguments_of_event), min_size=1, max_size=6))
def test_equal_to_plain_counting(cases):
    events = [event_of(sentence, gold) for sentence, gold, _ in cases]
    found = [[Found(role, span) for role, span in spans_of(predicted)] for _, _, predicted in cases]
    tallies = tally_events(events, found)
    counts = plain_counts([(spans_of(gold), spans_of(predicted)) for _, gold, predicted in cases])
    for measure, (predicted, gold, correct) in counts.items():
        precision, recall = (correct / whole if whole else 0 for whole in (predicted, gold))
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0
        for part, expected in zip(PARTS, (precision, recall, f1)):
            assert tallies[f"{measure}_{part}"].corpus_score == pytest.approx(expected), (measure, part)
        summed = Counts(predicted, gold, correct)
        assert (summed.precision, summed.recall, summed.f1) == pytest.approx((precision, recall, f1))
    assert len(tallies["token_f1"].segment_scores) == len({sentence for sentence, _, _ in cases})
    for role, row in role_table(events, found, ROLES).items():
        alone = [[{one for one in spans_of(arguments) if one[0] == role} for arguments in pair] for _, *pair in cases]
        assert [row[name] for name in ("predicted", "gold", "correct")] == plain_counts(alone)["classification"]


def prediction(arguments, **more):
    return {"sentence": 0, "trigger": [2, 2], "event_type": "Break",
            "arguments": [{"role": role, "start": start, "end": end} for role, start, end in arguments], **more}


def write_lines(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def test_the_program(tmp_path, capsys):
    gold = write_phee(tmp_path)
    right = [("Thing", 0, 1), ("Agent", 4, 4), ("Agent", 6, 6)]
    first = write_lines(tmp_path / "a.jsonl", prediction([("Thing", 0, 1), ("Agent", 4, 6)]))
    second = write_lines(tmp_path / "b.jsonl", prediction(right))
    main([str(gold), first, "--pred2", second, "--bootstrap", "100", "--json", str(tmp_path / "s.json"), "--segments",
          str(tmp_path / "s.jsonl")])
    printed = capsys.readouterr().out
    assert "classification  precision 0.5000  recall 0.3333  f1 0.4000 (95 %: 0.4000 to 0.4000)" in printed
    assert "token           precision 0.8000  recall 1.0000  f1 0.8889" in printed
    assert "Agent" in printed and "DIFFERENCE, second - first" in printed and "f1 +0.6000" in printed
    results = json.loads((tmp_path / "s.json").read_text())
    assert results["scores2"]["classification_f1"] == 1.0
    assert results["roles"]["Thing"]["f1"] == 1.0 and results["roles"]["Agent"]["gold"] == 2
    assert results["counts"] == {"events": 1, "sentences": 1, "gold_arguments": 3, "predicted_arguments": 2}
    assert results["inputs"]["gold"]["sha256"] == sha256_of(gold)
    assert len(list(read_json_lines(tmp_path / "s.jsonl"))) == 1


def test_rams_is_counted_as_its_program_does(tmp_path, capsys):
    """Of four predicted arguments two are gold, of three gold ones two are found: 2/4, 2/3, and their harmonic mean."""
    gold = write_rams(tmp_path, rams_record())
    predictions = write_lines(tmp_path / "p.jsonl", prediction(
        [("attacker", 0, 0), ("target", 2, 3), ("target", 3, 3), ("attacker", 7, 7)], trigger=[1, 1],
        event_type="conflict.attack"))
    main([str(gold), predictions, "--format", "rams"])
    assert "classification  precision 0.5000  recall 0.6667  f1 0.5714" in capsys.readouterr().out


@pytest.mark.parametrize("lines, message", [
    ([], "has 0 lines, expected 1"),
    ([prediction([]), prediction([])], ":2: there are 1 gold events, and this is one more"),
    ([prediction([], trigger=[3, 3])], "were these predictions made from other data"),
    ([prediction([("Agent", 3, 10)])], "outside the sentence"),
    ([prediction([("Agent", 3, 2)])], "begins at word 3 and ends before"),
    ([prediction([("Buyer", 3, 3)])], "the role 'Buyer' is unknown"),
    ([prediction([("Agent", 3, 3), ("Agent", 3, 3)])], "the same argument appears twice"),
    ([{"sentence": 0}], ":1: the JSON has no 'trigger'")])
def test_wrong_predictions(tmp_path, lines, message):
    event = Event(0, "x:1", tuple("abcdefghij"), Span(2, 2), "Break", {})
    path = write_lines(tmp_path / "p.jsonl", *lines)
    with pytest.raises(UserError, match=message):
        read_predictions(path, [event], Ontology({"Agent": "Who?"}, {"Break": ("Agent",)}))
