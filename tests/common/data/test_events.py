"""Readers of events: PHEE's files, RAMS's, sentences with a marked trigger, and how PHEE's files are obtained."""

import gzip
import json
from pathlib import Path

import pytest

from common.data import event_files
from common.data.event_sets import PHEE, RAMS, read_events, read_ontology
from common.data.events import Span, read_phee, read_questions
from common.data.marked_sentences import read_marked, read_marked_file
from common.data.rams import read_rams, read_roles, role_name
from common.errors import UserError
from common.paths import ROOT
from tests.common.data.event_cases import EVENT, SENTENCE, rams_record, write_phee, write_rams

ASKED = {"Agent": "Who acts?", "Thing": "Which thing?"}
SHARED = ROOT.parent / "shared" / "data"


def test_an_event_of_phee(tmp_path, capsys):
    (event,) = read_phee(write_phee(tmp_path), ASKED)
    assert event.words == tuple(SENTENCE) and event.trigger == Span(2, 2) and event.event_type == "Break"
    assert event.arguments == {"Thing": (Span(0, 1),), "Agent": (Span(4, 4), Span(6, 6))}
    assert event.where.endswith("train.json:1") and event.identity == "s1" and event.sentence == 0
    assert capsys.readouterr().err == ""


def test_positions_count_from_s_start(tmp_path):
    shifted = [[start + 7, end + 7, name] for start, end, name in EVENT]
    assert read_phee(write_phee(tmp_path, [shifted], s_start=7), ASKED)[0].arguments == {
        "Thing": (Span(0, 1),), "Agent": (Span(4, 4), Span(6, 6))}


def test_the_same_argument_twice_counts_once(tmp_path):
    (event,) = read_phee(write_phee(tmp_path, [[*EVENT, [4, 4, "Agent"]]]), ASKED)
    assert event.arguments["Agent"] == (Span(4, 4), Span(6, 6))


def test_what_is_left_out_is_said(tmp_path, capsys):
    path = write_phee(tmp_path, [[*EVENT, [4, 6, "Agent"]]])
    with path.open("a") as file:
        file.write(json.dumps({"sentence": [" ", ""], "event": [EVENT]}) + "\n")
        file.write(json.dumps({"sentence": ["Nothing", "."], "event": []}) + "\n")
    assert len(read_phee(path, ASKED)) == 1
    said = capsys.readouterr().err
    assert "1 sentences have no words and are left out, the first in line 2" in said
    assert "1 of 3 sentences have no event" in said
    # Sorted, the two single words lie around and inside the long span.
    assert "2 pairs of arguments of one role overlap, and all count" in said
    assert "the first: words 4 to 4 and 4 to 6 of Agent" in said
    read_phee(path, ASKED, says=False)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("triples, message", [
    ([[2, 10, "Break"]], "the trigger 'Break' is at words 2 to 10, outside the sentence, whose words are 0 to 9"),
    ([[-1, 1, "Break"]], "the trigger 'Break' is at words -1 to 1, outside"),
    ([[2, 2, "Break"], [6, 4, "Agent"]], "an argument 'Agent' begins at word 6 and ends before, at word 4"),
    ([[2, 2, "Break"], [4, 4, "Buyer"]], "the role 'Buyer' has no question; expected one of Agent, Thing"),
    ([[2, 2, "Break"], [4, 4]], r"an argument is \[4, 4\], expected \[first word, last word, name\]"),
    ([[2, 2, "Break"], [4, True, "Agent"]], "an argument is .*, expected"),
    ([[2, 2, " "]], "the trigger .* has no name"),
    ([], "an event is an empty list, expected its trigger first"),
])
def test_wrong_events_of_phee(tmp_path, triples, message):
    with pytest.raises(UserError, match=r"train\.json:1: " + message):
        read_phee(write_phee(tmp_path, [triples]), ASKED)


def test_wrong_lines_of_phee(tmp_path):
    path = tmp_path / "dev.json"
    for text, message in (("{", "dev.json:1: cannot be read as JSON"), ('{"sentence": ["a"]}', "has no 'event'"),
                          ('{"sentence": "a b", "event": []}', "expected a list"),
                          ('{"sentence": ["a"], "event": [], "s_start": "0"}', "s_start is '0', expected an integer"),
                          ('{"sentence": ["a"], "event": []}', "no events in it")):
        path.write_text(text + "\n")
        with pytest.raises(UserError, match=message):
            read_phee(path, ASKED)


def test_questions(tmp_path):
    path = tmp_path / "questions.csv"
    path.write_text('Agent,Who acts?\n\n"Thing","Which thing, if any?"\n')
    assert read_questions([path]) == {"Agent": "Who acts?", "Thing": "Which thing, if any?"}
    for text, message in (("Agent\n", ":1: 'Agent', expected a role, a comma and its question"),
                          ("Agent,Who?\nAgent,Who?\n", ":2: the role Agent has a question already"),
                          ("\n", "no questions in it")):
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            read_questions([path])


def test_every_type_is_asked_for_every_role(tmp_path):
    path = write_phee(tmp_path)
    ontology = read_ontology(path, PHEE, None, None)
    assert ontology.questions == ASKED and ontology.roles == {"Break": ("Agent", "Thing")}
    assert len(read_events(path, PHEE, ontology)) == 1
    (tmp_path / "arg_queries_stage1.csv").unlink()
    with pytest.raises(UserError, match="give the files of questions as --questions"):
        read_ontology(path, PHEE, None, None)


@pytest.mark.skipif(not (SHARED / "phee").is_dir(), reason="PHEE is not beside the checkout")
def test_phee_itself(tmp_path, capsys):
    event_files.main(["--source", str(SHARED), "--data", str(tmp_path)])
    printed = capsys.readouterr()
    assert [line.split(": ")[1] for line in printed.out.splitlines()] == [
        "3006 events in 2898 sentences", "1003 events in 961 sentences", "1010 events in 968 sentences"]
    assert "NOT the published file" not in printed.err
    assert len(read_questions([tmp_path / "phee" / f"arg_queries_stage{stage}.csv" for stage in (1, 2)])) == 16


def test_files_of_phee_from_a_folder(tmp_path, capsys):
    source = tmp_path / "source"
    source.mkdir()
    event = [[2, 2, "Adverse_event"], [4, 4, "Subject"]]
    for name in event_files.FILES:
        with gzip.open(source / f"eeqa_{name}.gz", "wt") as file:
            file.write(write_phee(tmp_path, [event], name).read_text())
    event_files.main(["--source", str(source), "--data", str(tmp_path / "data")])
    assert capsys.readouterr().err.count("NOT the published file") == 3
    folder = tmp_path / "data" / "phee"
    assert sorted(path.name for path in folder.iterdir()) == [
        "arg_queries_stage1.csv", "arg_queries_stage2.csv", "dev.json", "test.json", "train.json"]
    assert read_questions([folder / "arg_queries_stage2.csv"])["Treatment.Route"] == (
        "What is the route of the treatment?")
    event_files.main(["--data", str(tmp_path / "data")])  # they are there: nothing is downloaded
    Path(source / "eeqa_dev.json.gz").unlink()
    with pytest.raises(UserError, match=r"no phee/dev\.json there"):
        event_files.main(["--source", str(source), "--data", str(tmp_path / "data")])


def test_a_download_that_is_another_file(tmp_path, monkeypatch):
    monkeypatch.setattr(event_files, "download", lambda url: b"{}")
    with pytest.raises(UserError, match=r"41489b0/data/eeqa/train\.json: the download is not the published file"):
        event_files.main(["--data", str(tmp_path)])

    def fail(url):
        raise OSError("no route")
    monkeypatch.setattr(event_files, "download", fail)
    with pytest.raises(UserError, match=r"no route\nWithout network: .*DIR/phee/train\.json"):
        event_files.main(["--data", str(tmp_path)])


def test_an_event_of_rams(tmp_path):
    path = write_rams(tmp_path)
    ontology = read_ontology(path, RAMS, None, None)
    assert ontology.roles == {"conflict.attack": ("attacker", "target"), "life.die": ("victim",)}
    (event,) = read_rams(path, ontology)
    assert event.words[5] == "They" and event.trigger == Span(1, 1) and event.event_type == "conflict.attack"
    assert event.arguments == {"attacker": (Span(0, 0), Span(5, 5)), "target": (Span(2, 3),)}
    assert role_name("evt043arg01killer") == "killer"


@pytest.mark.parametrize("change, message", [
    ({"evt_triggers": [[1, 9, [["conflict.attack", 1.0]]]]}, "the trigger is at words 1 to 9, outside"),
    ({"evt_triggers": [[1, 1, [["conflict.feud", 1.0]]]]}, "the event type 'conflict.feud' is unknown"),
    ({"evt_triggers": [[1, 1, []]]}, "the trigger has 0 event types, expected one"),
    ({"gold_evt_links": [[[1, 1], [3, 2], "evt089arg02target"]]}, "begins at word 3 and ends before"),
    ({"gold_evt_links": [[[1, 1], [2, 2], "evt001arg01victim"]]}, "the role 'evt001arg01victim' has no question; "
                                                                  "conflict.attack has attacker, target"),
    ({"gold_evt_links": [[[1, 1], [2, 2]]]}, "a link is .*, expected"),
    ({"sentences": [[]]}, "no events in it"),
])
def test_wrong_documents_of_rams(tmp_path, change, message):
    path = write_rams(tmp_path, rams_record(**change))
    with pytest.raises(UserError, match=message):
        read_rams(path, read_roles(tmp_path / "event_role_multiplicities.txt"))


def test_wrong_roles_of_rams(tmp_path):
    path = tmp_path / "event_role_multiplicities.txt"
    for text, message in (("life.die victim\n", ":1: .*expected an event type and, by turns"), ("\n", "no event types"),
                          ("a b 1\na b 1\n", ":2: the event type a appears twice")):
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            read_roles(path)


def test_marked_sentences(tmp_path, capsys):
    event = read_marked("Then the patient's heart [gave way], at 3.", "Break")
    assert event.words == ("Then", "the", "patient", "'", "s", "heart", "gave", "way", ",", "at", "3", ".")
    assert event.trigger == Span(6, 7) and event.event_type == "Break"
    for sentence in ("no trigger", "[two] [of] them", "]back[ to front", "[] empty"):
        with pytest.raises(UserError, match="brackets"):
            read_marked(sentence, "Break")
    path = tmp_path / "sentences.txt"
    path.write_text("It [broke].\n\nHe [fell].\n")
    assert [(event.sentence, event.where) for event in read_marked_file(path, "Break")] == [
        (0, f"{path}:1"), (2, f"{path}:3")]
    assert "1 blank lines are left out" in capsys.readouterr().err
    path.write_text("\n")
    with pytest.raises(UserError, match="no sentences in it"):
        read_marked_file(path, "Break")
