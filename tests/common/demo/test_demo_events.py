"""The demo data of events: a seed's bytes, spans that hold what their role says, and splits that share no sentence."""

from common.data.event_sets import PHEE, read_events, read_ontology
from common.demo.events import FILLERS, FORMS, QUESTIONS, SIZES, made_rows
from common.demo.rows import main
from common.files import sha256_of


def test_spans_hold_the_words_of_their_role():
    triggers = {form.event_type: {form.text[form.text.index("<") + 1:form.text.index(">")]
                                  for form in FORMS if form.event_type == kind} for form in FORMS
                for kind in (form.event_type,)}
    seen = set()
    for split, rows in made_rows(3).items():
        assert len(rows) == SIZES[split]
        for row in rows:
            for (start, end, kind), *arguments in row["event"]:
                assert " ".join(row["sentence"][start:end + 1]) in triggers[kind]
                for first, last, role in arguments:
                    assert " ".join(row["sentence"][first:last + 1]) in FILLERS[role]
                    seen.add(role)
    assert seen == set(QUESTIONS)


def test_no_sentence_is_in_two_splits():
    sentences = [tuple(row["sentence"]) for rows in made_rows(1).values() for row in rows]
    assert len(set(sentences)) == len(sentences) == sum(SIZES.values())


def test_the_files(tmp_path, capsys):
    digests = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        main(["events", "--seed", "5", "--output", str(folder)])
        digests.append([sha256_of(line) for line in capsys.readouterr().out.splitlines()])
    assert digests[0] == digests[1] and len(digests[0]) == 4
    ontology = read_ontology(folder / "train.json", PHEE, None, None)
    assert set(ontology.roles) == {"Break", "Repair", "Sale"} and list(ontology.questions) == list(QUESTIONS)
    events = read_events(folder / "dev.json", PHEE, ontology)
    assert len(events) > SIZES["dev"]  # some sentences have two
    assert any(len(event.arguments) < len(QUESTIONS) for event in events)
    assert capsys.readouterr().err == ""
