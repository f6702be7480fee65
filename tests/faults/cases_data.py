"""Bad files for the programs that read and write data sets."""

import json
import os
import threading

from tests.faults.cases import Case
from tests.faults.hostile import GZIP, JSON, NO_FILE, NO_OUTPUT, VOCAB, hard_link, link, rows

E2E = "name[A]||A.\n"
WEBNLG = {"entries": [{"1": {"category": "Food", "modifiedtripleset": [{"subject": "s", "property": "p",
                                                                        "object": "o"}],
                             "lexicalisations": [{"lex": "text", "comment": "good"}]}}]}
DART = [{"tripleset": [["s", "p", "o"]], "annotations": [{"source": "x", "text": "text"}]}]
PASSAGE = "The mill was built by Ann Orme in 1804."


def squad(**changes):
    """Returns a document of one question; changes are those of its entry."""
    entry = {"id": "q1", "question": "Who?", "answers": [{"text": "Ann Orme", "answer_start": 22}], **changes}
    return {"data": [{"title": "Mill", "paragraphs": [{"context": PASSAGE, "qas": [entry]}]}]}


FORMATTED = rows({"context": "a", "completion": "b"}, {"context": "c", "completion": "d"})
PREDICTED = rows({"id": 0, "predict": [15496, 50256]}, {"id": 1, "predict": [995, 50256]})

# Program: (content of a good input, arguments; IN and OUT stand for the two paths).
CONVERTERS = {
    "e2e": (E2E, ["IN", "OUT"]),
    "webnlg": (json.dumps(WEBNLG), ["IN", "OUT"]),
    "dart": (json.dumps(DART), ["IN", "OUT"]),
    "squad": (json.dumps(squad()), ["IN", "OUT", "--vocab", VOCAB]),
}
PROGRAMS = {f"src/format_converting_{name}.py": entry for name, entry in CONVERTERS.items()}
PROGRAMS["src/gpt2_encode.py"] = FORMATTED, ["--vocab", VOCAB, "--input", "IN", "--output", "OUT"]
JSON_PROGRAMS = {program: entry for program, entry in PROGRAMS.items() if "e2e" not in program}
DECODE = ["--vocab", VOCAB, "--sample_file", "p.jsonl", "--input_file", "in.jsonl", "--output_ref_file", "ref",
          "--output_pred_file", "pred"]
DECODE_FILES = {"p.jsonl": PREDICTED, "in.jsonl": FORMATTED}


def words(arguments, source="in", target="out"):
    """Returns the arguments with the two paths in them."""
    return [{"IN": source, "OUT": target}.get(word, word) for word in arguments]


def inputs():
    """Yields cases of inputs that are no files, or no gzip, or no JSON."""
    for program, (_, arguments) in PROGRAMS.items():
        for name, (make, sentence) in NO_FILE.items():
            path = {"inside a file": "file/in", "too long a name": "x" * 300}.get(name, "in")
            yield Case(f"input {name}", program, words(arguments, path), sentence, files={"file": ""},
                       prepare=lambda folder, make=make, path=path: make(folder / path))
        for name, (content, sentence) in GZIP.items():
            yield Case(f"gzip {name}", program, words(arguments, "in.gz"), r"in\.gz: " + sentence,
                       files={"in.gz": content})
    for program, (_, arguments) in JSON_PROGRAMS.items():
        for name, (content, sentence) in JSON.items():
            yield Case(f"JSON {name}", program, words(arguments), sentence, files={"in": content})


def outputs():
    """Yields cases of outputs that cannot be written, or that are the input under whatever name."""
    for program, (content, arguments) in PROGRAMS.items():
        for name, (path, sentence) in NO_OUTPUT.items():
            yield Case(f"output {name}", program, words(arguments, target=path), sentence,
                       files={"in": content, "file": ""})
        for name, target, prepare in (("its name", "in", None), ("another path", "./in", None),
                                      ("a link", "link", link("in", "link")),
                                      ("a hard link", "same", hard_link("in", "same"))):
            yield Case(f"output is input by {name}", program, words(arguments, target=target),
                       r": is the same file as the input in; give another name", files={"in": content},
                       prepare=prepare)
        yield Case("output is input by gz", program, words(arguments, target="in.gz"), r"is not gzipped",
                   files={"in": content})
        yield Case("disk is full", program, words(arguments, target="/dev/full"),
                   r"/dev/full: No space left on device; make room, then run it again", 3, files={"in": content})


def pipe(content):
    """Returns a function that makes a pipe ``in`` in a folder, with a writer at its other end."""
    def make(folder):
        os.mkfifo(folder / "in")
        threading.Thread(target=lambda: (folder / "in").write_bytes(content), daemon=True).start()
    return make


def accepted():
    """Yields cases of inputs and outputs that are odd and right."""
    for program, (content, arguments) in PROGRAMS.items():
        yield Case("byte order mark", program, words(arguments), status=0, written="out",
                   files={"in": b"\xef\xbb\xbf" + content.encode()})
        yield Case("a pipe", program, words(arguments), status=0, written="out", prepare=pipe(content.encode()))
        yield Case("output is nothing", program, words(arguments, target="/dev/null"), status=0, files={"in": content})
        yield Case("output is a link", program, words(arguments, target="link"), status=0, written="target",
                   files={"in": content, "target": "old"}, prepare=link("target", "link"))
        yield Case("standard input", program, words(arguments, "/dev/stdin"), status=0, written="out",
                   stdin=content.encode())
    for name, blanks in (("one", "\n"), ("several", "\n \n\t\n")):
        lines = "line" if name == "one" else "lines"
        for program in ("src/format_converting_e2e.py", "src/gpt2_encode.py"):
            content, arguments = PROGRAMS[program]
            yield Case(f"{name} blank {lines} at the end", program, words(arguments), rf"note: in: . blank {lines} at "
                       "its end ignored", 0, files={"in": content + blanks}, written="out")


def rows_of_text():
    """Yields cases of rows that converters refuse."""
    for name, content, sentence in (
            ("no bars", "name[A]\n", r"in:1: found 'name\[A\]', expected `MR\|\|text`"),
            ("four bars", "a||b||c\n", r"in:1: found 'a\|\|b\|\|c'"),
            ("blank inside", E2E + "\n" + E2E, r"in:2: found a blank line"),
            ("no MR", "||text\n", r"in:1: "), ("blank lines alone", "\n\n", r"holds no rows"),
            ("Latin-1", E2E.encode() + "name[B]||Café\n".encode("latin-1"), r"in:2: not UTF-8 text"),
            ("UTF-16", E2E.encode("utf-16"), r"in:1: not UTF-8 text: .*it looks like UTF-16")):
        yield Case(name, "src/format_converting_e2e.py", ["in", "out"], sentence, files={"in": content})
    entry = WEBNLG["entries"][0]["1"]
    for name, document, sentence in (
            ("another number", {"entries": [{"2": entry}]}, r"\.entries\[0\]: has '2', expected one member, '1'"),
            ("no comment", {"entries": [{"1": {**entry, "lexicalisations": [{"lex": "x"}]}}]},
             r'\["1"\]\.lexicalisations\[0\] has no \'comment\'; it has \'lex\''),
            ("no good text", {"entries": [{"1": {**entry, "lexicalisations": [{"lex": "x", "comment": ""}]}}]},
             r"holds no rows"),
            ("no triples", {"entries": [{"1": {**entry, "modifiedtripleset": []}}]}, r"the triple set is empty"),
            ("entries by name", {"entries": {"1": entry}}, r"\.entries is an object, expected a list")):
        yield Case(name, "src/format_converting_webnlg.py", ["in", "out"], sentence, files={"in": json.dumps(document)})
    yield Case("texts without a comment are counted", "src/format_converting_webnlg.py", ["in", "out"],
               r"note: in: 1 lexicalisations are left out, for their comment is not 'good': '' 1", 0, written="out",
               files={"in": json.dumps({"entries": [{"1": {**entry, "lexicalisations": [
                   {"lex": "a", "comment": ""}, {"lex": "b", "comment": "good"}]}}]})})
    for name, document, sentence in (
            ("a pair", [{**DART[0], "tripleset": [["s", "p"]]}], r"\[0\]: found the triple \['s', 'p'\]"),
            ("a number", [{**DART[0], "tripleset": [["s", "p", 3]]}], r"\.tripleset\[0\]\[2\] is 3, expected a string"),
            ("no text", [{**DART[0], "annotations": [{"source": "x"}]}], r"\.annotations\[0\] has no 'text'")):
        yield Case(name, "src/format_converting_dart.py", ["in", "out"], sentence, files={"in": json.dumps(document)})


def questions():
    """Yields cases of SQuAD's questions."""
    def start(index, text="Ann Orme"):
        return squad(answers=[{"text": text, "answer_start": index}])

    twice = squad()
    twice["data"].append(twice["data"][0])
    for name, document, sentence in (
            ("negative start", start(-17), r"in: question q1: found '' at character -17 of the passage, expected"),
            ("start behind the passage", start(10**6), r"question q1: found '' at character 1000000"),
            ("huge start", start(10**40), r"question q1: found '' at character 1"),
            ("start true", start(True), r"\.answers\[0\]\.answer_start is true, expected an integer"),
            ("start 1.5", start(1.5), r"\.answer_start is 1\.5, expected an integer"),
            ("start null", start(None), r"\.answer_start is null, expected an integer"),
            ("another answer", start(0), r"question q1: found 'The mill' at character 0"),
            ("a blank answer", start(3, " "), r"question q1: found ' ' at character 3"),
            ("no answers", squad(answers=[]), r"question q1: no answers; SQuAD v1\.1 has one"),
            ("an id twice", twice, r"question q1: appears twice"),
            ("a number as id", squad(id=7), r"\.qas\[0\]\.id is 7, expected a string"),
            ("half of a pair", squad(question="Who \ud83d?"), r"\.qas\[0\]\.question holds half of a surrogate pair")):
        yield Case(name, "src/format_converting_squad.py", ["in", "out", "--vocab", VOCAB], sentence,
                   files={"in": json.dumps(document)})
    yield Case("too long a question", "src/format_converting_squad.py", ["in", "out", "--vocab", VOCAB], status=2,
               sentence=r"question q1: question and answer leave no tokens for a passage",
               files={"in": json.dumps(squad(question="why " * 600))})


def predictions():
    """Yields cases of predicted ids."""
    for name, changes, sentence in (
            ("id of no row", rows({"id": 5, "predict": [1]}), r"p\.jsonl:1: id 5 is no row of the input file"),
            ("id negative", rows({"id": -1, "predict": [1]}), r"p\.jsonl:1: id -1 is no row"),
            ("id true", rows({"id": True, "predict": [1]}), r"\.id is true, expected an integer"),
            ("id twice", PREDICTED + rows({"id": 0, "predict": []}), r"id 0 appears twice, first in line 1"),
            ("token too large", rows({"id": 0, "predict": [50257]}), r"\.predict holds 50257, expected ids from 0 to"),
            ("token 1.5", rows({"id": 0, "predict": [1.5]}), r"\.predict holds 1\.5"),
            ("text", rows({"id": 0, "predict": "Hello"}), r'\.predict is "Hello", expected a list'),
            ("none", "", r"no prediction for 2 of 2 contexts, the first: 'a'"),
            ("blank line inside", "\n" + PREDICTED, r"p\.jsonl:1: cannot be read as JSON: it is blank"),
            ("a row missing", rows({"id": 0, "predict": [1]}), r"no prediction for 1 of 2 contexts, the first: 'c'")):
        yield Case(name, "src/gpt2_decode.py", DECODE, sentence, files={**DECODE_FILES, "p.jsonl": changes})
    same = rows({"context": "a", "completion": "b"}, {"context": "a", "completion": "c"})
    yield Case("rows that contradict", "src/gpt2_decode.py", DECODE,
               r"note: p\.jsonl: 1 of 1 contexts have rows with different predictions, the first 'a'; the last of them "
               "counts", 0, files={**DECODE_FILES, "in.jsonl": same}, written="ref|pred", output={"pred": "world\n"})
    yield Case("a row missing of a context", "src/gpt2_decode.py", DECODE,
               r"note: p\.jsonl: no prediction for 1 of the 2 rows", 0, written="ref|pred",
               files={"in.jsonl": same, "p.jsonl": rows({"id": 0, "predict": [15496, 50256]})},
               output={"pred": "Hello\n", "ref": "b\nc\n\n"})
    for name, flags, sentence in (
            ("predictions over the sample", ["--output_pred_file", "p.jsonl"], r"same file as the input p\.jsonl"),
            ("references over the input", ["--output_ref_file", "./in.jsonl"], r"same file as the input in\.jsonl"),
            ("both outputs one", ["--output_ref_file", "pred"], r"pred: is the same file as the output pred"),
            ("both one, under a path", ["--output_ref_file", "new/../pred"], r"is the same file as the output"),
            ("references inside the input's folder", ["--ref_type", "dart", "--output_ref_file", "in.jsonl"],
             r"in\.jsonl: is a file; --ref_type dart writes a folder"),
            ("no cate", ["--filter", "seen"], r"in\.jsonl:1: no true or false 'cate'"),
            ("no references", ["--reference_file", "p.jsonl"], r"p\.jsonl:1: the JSON has no 'context'"),
            ("no ids of questions", ["--ref_type", "squad"], r"in\.jsonl:1: the JSON has no 'id'")):
        yield Case(name, "src/gpt2_decode.py", [*DECODE, *flags], sentence, files=DECODE_FILES)
    yield Case("a reference file over the sample", "src/gpt2_decode.py",
               [*DECODE, "--ref_type", "webnlg", "--output_ref_file", "refs", "--sample_file", "refs/reference0"],
               r"refs/reference0: is the same file as the input refs/reference0",
               files={**DECODE_FILES, "refs/reference0": PREDICTED})


CASES = [*inputs(), *outputs(), *accepted(), *rows_of_text(), *questions(), *predictions()]
