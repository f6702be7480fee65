"""Bad files for the programs of events: training, prediction, the scorer and what obtains PHEE."""

import json
import os

from tests.common.data.event_cases import EVENT, PIECES, QUESTIONS, ROLES, SENTENCE, rams_record
from tests.faults.cases import Case
from tests.faults.hostile import GZIP, JSON, NO_FILE

TRAIN, PREDICT, SCORE = "src/bert_eae_ft.py", "src/bert_eae_predict.py", "eval/events/measure_scores.py"


def line(events=(EVENT,), sentence=SENTENCE, **more):
    """A line of PHEE's format."""
    return json.dumps({"sentence": sentence, "event": list(events), "id": "s1", **more}) + "\n"


PREDICTION = json.dumps({"sentence": 0, "trigger": [2, 2], "event_type": "Break", "arguments": []}) + "\n"
FILES = {"gold.json": line(), "q.csv": QUESTIONS, "vocab.txt": "\n".join(PIECES) + "\n", "pred.jsonl": PREDICTION}
SCORED = ["gold.json", "pred.jsonl", "--questions", "q.csv"]
TRAINED = ["--train_data", "gold.json", "--valid_data", "gold.json", "--questions", "q.csv", "--vocab", "vocab.txt",
           "--init_checkpoint", "random", "--max_epoch", "1", "--work_dir", "work", "--device", "cpu"]
# {name: (what is in gold.json, the sentence)}
WRONG_EVENTS = {
    "a trigger outside": (line([[[2, 10, "Break"]]]), r"gold\.json:1: the trigger 'Break' is at words 2 to 10, out"),
    "a reversed argument": (line([[[2, 2, "Break"], [6, 4, "Agent"]]]), r"begins at word 6 and ends before, at word 4"),
    "a reversed trigger": (line([[[3, 2, "Break"]]]), r"the trigger 'Break' begins at word 3 and ends before"),
    "a role without a question": (line([[[2, 2, "Break"], [4, 4, "Buyer"]]]), r"the role 'Buyer' has no question"),
    "no words": (line(sentence=["", " "]), r"no events in it; 1 sentences have no words, 0 no event"),
    "no event": (line([]), r"no events in it; 0 sentences have no words, 1 no event"),
    "an event without a trigger": (line([[]]), r"an event is an empty list, expected its trigger first"),
    "a number as a word": (line(sentence=["a", 3]), r"\.sentence\[1\] is 3, expected a string"),
    "nothing": ("", r"no events in it|is empty"),
}


def scorer():
    """Yields cases of the scorer."""
    for name, (make, sentence) in NO_FILE.items():
        path = {"inside a file": "file/in", "too long a name": "x" * 300}.get(name, "in")
        for key in ("gold.json", "pred.jsonl"):
            yield Case(f"{key} {name}", SCORE, [path if word == key else word for word in SCORED], sentence,
                       files={**FILES, "file": ""}, prepare=lambda folder, make=make, path=path: make(folder / path))
    for name in ("no gzip", "its head alone"):  # what is damaged further on holds other lines first
        content, sentence = GZIP[name]
        yield Case(f"gzip {name}", SCORE, ["gold.json", "pred.gz", *SCORED[2:]], r"pred\.gz: " + sentence,
                   files={**FILES, "pred.gz": content})
    for name, (content, sentence) in JSON.items():
        sentence = r"cannot be read as JSON|not UTF-8 text" if name == "binary" else sentence  # a line break is in it
        yield Case(f"JSON {name}", SCORE, SCORED, sentence if "ESC" not in name else r"\\x1b\[2J|\\u001b",
                   files={**FILES, "gold.json": content})
    for name, (content, sentence) in WRONG_EVENTS.items():
        yield Case(name, SCORE, SCORED, sentence, files={**FILES, "gold.json": content})
    yield Case("no questions", SCORE, SCORED[:2], r"no arg_queries_stage1\.csv or .*--questions", files=FILES)
    yield Case("a question without a role", SCORE, SCORED, r"q\.csv:1: 'Who acts\?', expected a role, a comma",
               files={**FILES, "q.csv": "Who acts?\n"})
    yield Case("fewer predictions", SCORE, SCORED, r"pred\.jsonl: has 0 lines, expected 1", files={**FILES,
                                                                                                 "pred.jsonl": ""})
    yield Case("other predictions", SCORE, SCORED, r"were these predictions made from other data",
               files={**FILES, "pred.jsonl": PREDICTION.replace("Break", "Sale")})
    yield Case("RAMS as PHEE", SCORE, ["gold.json", "pred.jsonl", "--questions", "q.csv"], r"has no 'sentence'",
               files={**FILES, "gold.json": json.dumps(rams_record()) + "\n"})
    yield Case("PHEE as RAMS", SCORE, ["gold.json", "pred.jsonl", "--format", "rams", "--roles", "roles"],
               r"gold\.json:1: the JSON has no 'doc_key'", files={**FILES, "roles": ROLES})
    yield Case("overlapping spans are scored", SCORE, SCORED, r"1 pairs of arguments of one role overlap", 0,
               files={**FILES, "gold.json": line([[*EVENT, [6, 7, "Agent"]]])})


def trees():
    """Yields cases of training and prediction."""
    for name, (content, sentence) in WRONG_EVENTS.items():
        yield Case(name, TRAIN, TRAINED, sentence, files={**FILES, "gold.json": content})
    yield Case("a vocabulary of other lines", TRAIN, TRAINED, r"vocab\.txt: ", files={**FILES, "vocab.txt": "a\nb\n"})
    yield Case("a rank above the width", TRAIN, [*TRAINED, "--lora_dim", "385"], r"expected at most 384", files=FILES)
    yield Case("targets of GPT-2", TRAIN, [*TRAINED, "--lora_targets", "q,v"], r"expected some of query,key",
               files=FILES)
    yield Case("frozen heads on all weights", TRAIN, [*TRAINED, "--lora_dim", "0", "--heads", "frozen"],
               r"--lora_dim 0 trains all weights", files=FILES)
    yield Case("no checkpoint", PREDICT, ["--checkpoint", "nowhere.safetensors", "It [broke]."],
               r"nowhere\.safetensors: no such checkpoint", files=FILES)
    yield Case("no checkpoint of ours", PREDICT, ["--checkpoint", "x.safetensors", "It [broke]."],
               r"x\.safetensors: truncated or damaged", files={**FILES, "x.safetensors": b"\x08\0\0\0\0\0\0\0{"})
    yield Case("nothing to read", PREDICT, ["--checkpoint", "x"], r"found nothing to read", files=FILES)


def sources():
    """Yields cases of --source; nothing of what is refused may be copied."""
    event = line([[[2, 2, "Adverse_event"]]])
    for name, make, sentence in (
            ("missing", lambda path: None, r"no phee/test\.json there"),
            ("malformed", lambda path: path.write_text("garbage\n"), r"test\.json:1: cannot be read as JSON"),
            ("an event outside", lambda path: path.write_text(line([[[2, 99, "Break"]]])), r"json:1: the trigger"),
            ("a pipe", os.mkfifo, r"test\.json: is a pipe or a device"),
            ("a folder", os.mkdir, r"test\.json: is a folder, expected a file"),
            ("a link out", lambda path: path.symlink_to("/etc/passwd"), r"test\.json: is a link to /etc/passwd")):
        yield Case(f"the last file is {name}", "scripts/create_events.py", ["--source", "source", "--data", "data"],
                   sentence, files={"source/phee/train.json": event, "source/phee/dev.json": event},
                   prepare=lambda folder, make=make: make(folder / "source/phee/test.json"))


CASES = [
    *scorer(), *trees(),
    Case("a source that is none", "scripts/create_events.py", ["--source", "nowhere"],
         r"--source nowhere: no such folder"),
    *sources(),
]
