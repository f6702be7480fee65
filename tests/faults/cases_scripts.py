"""Bad files and folders for the scripts on data sets, and texts for answer.py."""

import gzip
import json
import os

from common.paths import ROOT
from tests.faults.cases import Case
from tests.faults.cases_data import E2E, FORMATTED, squad
from tests.faults.hostile import GZIP, NO_FILE, VOCAB, link, rows

CREATE, SAMPLE = "scripts/create_datasets.py", "scripts/sample_datasets.py"
COUNT, DEMO, ANSWER = "scripts/count_datasets.py", "scripts/make_demo_data.py", "scripts/answer.py"
FROM_SOURCE = ["e2e", "--source", "source", "--data", "data", "--vocab", VOCAB]
RAW = {f"source/e2e/{split}.txt": E2E for split in ("train", "valid", "test")}
ENCODED = rows({"context": [1], "completion": [2]}, {"context": [3], "completion": [4]})
SETS = {f"data/e2e/{split}{ending}": content for split in ("train", "valid", "test")
        for ending, content in (("_formatted.jsonl", FORMATTED), (".jsonl", ENCODED))}
SAMPLING = ["--data", "data", "--datasets", "e2e", "--ratio", "1/2"]
ALL_CREATED = r"data(/e2e(/((train|valid|test)(\.txt|\.jsonl|_formatted\.jsonl)|created\.json))?)?"
# Of NO_FILE what has a name of its own.
LAST_OF_SOURCE = [(name, *NO_FILE[name]) for name in ("a folder", "a broken link", "a link to itself")]


def sources():
    """Yields cases of --source; nothing of what is refused may be copied into data/."""
    for name, files, sentence in (
            ("no such set", {"source/x": ""}, r"source/e2e/train\.txt: no such file \(nor \.gz\)"),
            ("malformed", {**RAW, "source/e2e/train.txt": "garbage\n"}, r"source/e2e/train\.txt:1: found 'garbage'"),
            ("an empty file", {**RAW, "source/e2e/train.txt": ""}, r"source/e2e/train\.txt: holds no rows"),
            ("Latin-1", {**RAW, "source/e2e/train.txt": "a||é\n".encode("latin-1")}, r"train\.txt:1: not UTF-8 text")):
        yield Case(name, CREATE, FROM_SOURCE, sentence, files=files)
    for name, (content, sentence) in GZIP.items():
        yield Case(f"gzip {name}", CREATE, FROM_SOURCE, r"train\.txt\.gz: " + sentence,
                   files={"source/e2e/train.txt.gz": content})
    yield Case("larger than any set", CREATE, FROM_SOURCE, r"train\.txt\.gz: holds more than 256 MiB",
               files={"source/e2e/train.txt.gz": gzip.compress(bytes((1 << 28) + 1), 1)})
    yield Case("a link out of the source", CREATE, FROM_SOURCE,
               r"source/e2e/train\.txt: is a link to .*/secret, outside of --source source", files={"secret": E2E},
               prepare=lambda folder: ((folder / "source/e2e").mkdir(parents=True),
                                       link("../../secret", "source/e2e/train.txt")(folder)))
    yield Case("a folder that leads out", CREATE, FROM_SOURCE, r"is a link to .*/other/train\.txt, outside",
               files={"other/train.txt": E2E, "source/x": ""}, prepare=link("../other", "source/e2e"))
    yield Case("no such folder", CREATE, FROM_SOURCE, r"--source source: no such folder")
    for name, make, sentence in (
            ("missing", lambda path: None, r": no such file \(nor \.gz\)"),
            ("a pipe", os.mkfifo, " is a pipe or a device"),
            ("malformed", lambda path: path.write_text("garbage\n"), r":1: found 'garbage'"), *LAST_OF_SOURCE):
        yield Case(f"the last file is {name}", CREATE, FROM_SOURCE, r"source/e2e/test\.txt:?" + sentence,
                   files={path: content for path, content in RAW.items() if "test" not in path},
                   prepare=lambda folder, make=make: make(folder / "source/e2e/test.txt"))
    yield Case("the last set is missing", CREATE, ["all", *FROM_SOURCE[1:]], r"webnlg_challenge_2017/train\.json: no",
               files=RAW)
    for path in ("train.txt", "valid_formatted.jsonl", "test.jsonl", "created.json"):
        yield Case(f"data/e2e/{path} is a pipe", CREATE, FROM_SOURCE,
                   rf"data/e2e/{path}: is a pipe or a device, expected",
                   files={**RAW, "data/e2e/x": ""},
                   prepare=lambda folder, path=path: os.mkfifo(folder / "data/e2e" / path))
    yield Case("data is a file", CREATE, FROM_SOURCE, r"data.* is a file, expected a folder", files={**RAW, "data": ""})
    for name, document, sentence in (
            ("a question twice", {"data": squad()["data"] * 2}, r"question q1: appears twice"),
            ("not SQuAD", {"rows": []}, r"train-v1\.1\.json: the JSON has no 'data'; it has 'rows'")):
        yield Case(name, CREATE, ["squad", *FROM_SOURCE[1:]], sentence,
                   files={"source/squad/train-v1.1.json": json.dumps(document)})
    for name, record in (("list", "[]"), ("text", '"done"'), ("number", "3"), ("cut off", "{"), ("empty", ""),
                         ("wrong splits", '{"train": 5}'), ("wrong hashes", '{"train": {"rows": 1, "sha256": []}}')):
        yield Case(f"created.json is {name}", CREATE, FROM_SOURCE,
                   r"note: data/e2e/created\.json: .*; every split is made again", 0,
                   files={**RAW, "data/e2e/created.json": record}, written=ALL_CREATED)


def samples():
    """Yields cases of the sets that samples are drawn from."""
    for name, content, sentence in (
            ("garbage of the right length", "x\ny\n", r":1: cannot be read as JSON"),
            ("text in place of ids", FORMATTED, r":1: \.context is text, expected ids"),
            ("ids too large", ENCODED.replace("4", "50257"), r":2: \.completion holds 50257, expected ids from 0"),
            ("an empty context", ENCODED.replace("[3]", "[]"), r":2: the context is empty"),
            ("a row less", rows({"context": [1], "completion": [2]}), r": 1 rows, but data/e2e/train_formatted")):
        yield Case(name, SAMPLE, SAMPLING, r"data/e2e/train\.jsonl" + sentence,
                   files={**SETS, "data/e2e/train.jsonl": content})
    yield Case("ids in place of text", SAMPLE, SAMPLING, r"\.context is a list, expected a string",
               files={**SETS, "data/e2e/train_formatted.jsonl": ENCODED})
    yield Case("no data", SAMPLE, ["--data", "none"], r"none: none of e2e, webnlg_challenge_2017, dart, squad")
    yield Case("no row", SAMPLE, [*SAMPLING[:-1], "1/100"], r"0\.01 of its 2 rows is no row", files=SETS)
    yield Case("sampled is the set itself", SAMPLE, SAMPLING,
               r"sampled/train_formatted\.jsonl: is the same file as the input data/e2e/train_formatted\.jsonl",
               files=SETS, prepare=link(".", "data/e2e/sampled"))
    yield Case("sampled is a file", SAMPLE, SAMPLING, r"sampled is a file, expected a folder",
               files={**SETS, "data/e2e/sampled": ""})
    yield Case("blank lines at the end", SAMPLE, SAMPLING, r"train\.jsonl: 2 blank lines at its end ignored", 0,
               files={**SETS, "data/e2e/train.jsonl": ENCODED + "\n\n"}, written=r"data/e2e/sampled.*")
    for name, flag in (("zero", "0"), ("more than all", "2"), ("nan", "nan"), ("a word", "half")):
        yield Case(f"ratio {name}", SAMPLE, ["--ratio", flag], r"argument --ratio: ")


def others():
    """Yields cases of the counts, the demo data and answer.py."""
    counting = ["--data", "data", "--counts", "counts", "--output", "figure"]
    for name, changes, sentence in (
            ("a set without files", {"data/dart/x": ""}, r"train_formatted\.jsonl: no such file; run `bash"),
            ("garbage", {"data/e2e/train_formatted.jsonl": "x\n"}, r"train_formatted\.jsonl:1: cannot be read as JSON"),
            ("WebNLG without categories", {f"data/webnlg_challenge_2017/{split}_formatted.jsonl": FORMATTED
                                           for split in ("train", "valid", "test")}, r"no 'cate' and 'category'")):
        yield Case(name, COUNT, counting, sentence, files={**SETS, **changes})
    yield Case("demo data into a file", DEMO, ["e2e", "--output", "file", "--vocab", VOCAB],
               r"file.* is a file, expected a folder", files={"file": ""})
    yield Case("another vocabulary", DEMO, ["e2e", "--output", "demo", "--vocab", "."],
               r"encoder\.json: not GPT-2's vocabulary", files={"encoder.json": "{}", "vocab.bpe": ""})
    yield Case("no vocabulary", DEMO, ["e2e", "--output", "demo", "--vocab", "none"], r"encoder\.json: no such file")
    for name, texts, sentence in (
            ("invalid passage", [os.fsdecode(b"caf\xe9"), "Who?"], r"argument passage: .* is not UTF-8 text"),
            ("invalid question", ["A cafe.", os.fsdecode(b"\xff?")], r"argument question: .* is not UTF-8 text"),
            ("a blank passage", [" ", "Who?"], r"the passage is blank"),
            ("a blank question", ["A cafe.", "\n"], r"the question is blank")):
        yield Case(name, ANSWER, ["--checkpoint", "none", *texts], sentence)
    yield Case("no checkpoint", ANSWER, ["--checkpoint", "none", "A cafe.", "Who?"], r"none: no such checkpoint")
    yield Case("a checkpoint of nobody", ANSWER,
               ["--checkpoint", str(ROOT / "pretrained_checkpoints/gpt2-nano"), "A cafe.", "Who?"],
               r"does not say which model it belongs to")


CASES = [*sources(), *samples(), *others()]
