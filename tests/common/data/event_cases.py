"""Small files of events, in PHEE's format and RAMS's, and a vocabulary of word pieces for them."""

import json

QUESTIONS = "Agent,Who acts?\nThing,Which thing?\n"
SENTENCE = ["The", "clock", "broke", "because", "Ada", "and", "Ben", "dropped", "it", "."]
EVENT = [[2, 2, "Break"], [0, 1, "Thing"], [4, 4, "Agent"], [6, 6, "Agent"]]
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "who", "acts", "which", "thing", "?", "the", "clock", "bro", "##ke",
          "because", "ada", "and", "ben", "drop", "##ped", "it", ".", "a", "b", ","]
ROLES = "conflict.attack\tattacker\t1\ttarget\t2\nlife.die\tvictim\t1\n"


def write_phee(folder, events=(EVENT,), name="train.json", sentence=SENTENCE, **more):
    """Writes one sentence with events and the file of questions; returns the sentence's path."""
    (folder / "arg_queries_stage1.csv").write_text(QUESTIONS)
    path = folder / name
    path.write_text(json.dumps({"sentence": sentence, "event": list(events), "id": "s1", **more}) + "\n")
    return path


def write_vocab(folder):
    """Writes a vocab.txt; returns its path."""
    path = folder / "vocab.txt"
    path.write_text("\n".join(PIECES) + "\n")
    return path


def rams_record(**more):
    """Returns a document of RAMS with one event, whose attacker has two mentions."""
    return {"doc_key": "nw_1", "sentences": [["Rebels", "attacked", "the", "town", "."], ["They", "fled", "."]],
            "evt_triggers": [[1, 1, [["conflict.attack", 1.0]]]],
            "gold_evt_links": [[[1, 1], [0, 0], "evt089arg01attacker"], [[1, 1], [5, 5], "evt089arg01attacker"],
                               [[1, 1], [2, 3], "evt089arg02target"]],
            "ent_spans": [], **more}


def write_rams(folder, *records):
    """Writes documents and the file of roles; returns the documents' path."""
    (folder / "event_role_multiplicities.txt").write_text(ROLES)
    path = folder / "train.jsonlines"
    path.write_text("".join(json.dumps(record) + "\n" for record in records or (rams_record(),)))
    return path
