"""Bad files for the three scorers."""

import json

from tests.faults.cases import Case
from tests.faults.cases_data import pipe, squad
from tests.faults.hostile import GZIP, JSON, NO_FILE, NO_OUTPUT, hard_link, link

E2E, GENERATION, SQUAD = "eval/e2e/measure_scores.py", "eval/GenerationEval/eval.py", "eval/squad/evaluate.py"
SPACE = "\u2028"
# Program: (arguments, files, which of them are read).
PROGRAMS = {
    E2E: (["ref", "pred"], {"ref": "a pub\n\na river\n", "pred": "a pub\na river\n"}),
    GENERATION: (["-R", "ref", "-H", "pred", "-m", "ter"], {"ref": "a pub\na river\n",
                                                                 "pred": "a pub\na river\n"}),
    SQUAD: (["ref", "pred"], {"ref": json.dumps(squad()), "pred": '{"q1": "Ann Orme"}'}),
}


def inputs():
    """Yields cases of inputs that are no files, no gzip, no JSON or no text."""
    for program, (arguments, files) in PROGRAMS.items():
        for name, (make, sentence) in NO_FILE.items():
            for key in ("ref", "pred"):
                path = {"inside a file": "file/in", "too long a name": "x" * 300}.get(name, "in")
                if program == GENERATION and key == "ref":
                    # The references are looked up by the beginning of their names.
                    if name in ("a broken link", "a link to itself", "a folder"):
                        continue
                    expected = r"no such file; expected at least 1 \(-nr\)"
                else:
                    expected = sentence
                yield Case(f"{key} {name}", program, [path if word == key else word for word in arguments], expected,
                           files={**files, "file": ""},
                           prepare=lambda folder, make=make, path=path: make(folder / path))
        for name, (content, sentence) in GZIP.items():
            yield Case(f"gzip {name}", program, ["pred.gz" if word == "pred" else word for word in arguments],
                       r"pred\.gz: " + sentence, files={"ref": files["ref"], "pred.gz": content})
    for name, (content, sentence) in JSON.items():
        for key in ("ref", "pred"):
            yield Case(f"{key} {name}", SQUAD, ["ref", "pred"], sentence if "ESC" not in name else r"\\x1b\[2J|\\u001b",
                       files={**PROGRAMS[SQUAD][1], key: content})


def outputs():
    """Yields cases of result files that cannot be written, or that are an input."""
    for program, (arguments, files) in PROGRAMS.items():
        for flag in ("--json", "--segments"):
            for name, (path, sentence) in NO_OUTPUT.items():
                if path:  # an empty one is none
                    yield Case(f"{flag} {name}", program, [*arguments, flag, path], sentence,
                               files={**files, "file": ""})
            for key in ("ref", "pred"):
                yield Case(f"{flag} is {key}", program, [*arguments, flag, f"./{key}"],
                           rf"\./{key}: is the same file as the input {key}; give another name", files=files)
        yield Case("a link to the input", program, [*arguments, "--json", "link"], r"same file as the input pred",
                   files=files, prepare=link("pred", "link"))
        yield Case("a hard link to the input", program, [*arguments, "--json", "same"], r"same file as the input ref",
                   files=files, prepare=hard_link("ref", "same"))
        yield Case("both outputs one", program, [*arguments, "--json", "x", "--segments", "./x"],
                   r"x: is the same file as the output \./x", files=files)
        yield Case("few resamples", program, [*arguments, "--bootstrap", "3"], r"--bootstrap 3: expected", files=files)
    for program in (GENERATION, SQUAD):
        arguments, files = PROGRAMS[program]
        yield Case("disk is full", program, [*arguments, "--json", "/dev/full"],
                   r"/dev/full: No space left on device; make room", 3, files=files)


def accepted():
    """Yields cases of odd inputs and outputs that are right; those without Java."""
    for program in (GENERATION, SQUAD):
        arguments, files = PROGRAMS[program]
        for key in ("ref", "pred"):
            yield Case(f"byte order mark in {key}", program, [*arguments, "--segments", "out"], status=0, files={
                **files, key: b"\xef\xbb\xbf" + files[key].encode()}, written="out", output={"out": SEGMENTS[program]})
        yield Case("a pipe", program, ["in" if word == "pred" else word for word in arguments] + ["--json", "out"],
                   status=0, files={"ref": files["ref"]}, prepare=pipe(files["pred"].encode()), written="out")
        yield Case("results to nothing", program, [*arguments, "--json", "/dev/null", "--segments", "/dev/null"],
                   status=0, files=files)
        yield Case("results through a link", program, [*arguments, "--segments", "link"], status=0, files={
            **files, "target": "old"}, prepare=link("target", "link"), written="target",
            output={"target": SEGMENTS[program]})
    yield Case("blank lines at the end", GENERATION, PROGRAMS[GENERATION][0], r"blank lines at the end of pred", 0,
               files={"ref": "a pub\n", "pred": "a pub\n\n\n"})


SEGMENTS = {
    GENERATION: '{"segment": 1, "scores": {"ter": 0.0}}\n{"segment": 2, "scores": {"ter": 0.0}}\n',
    SQUAD: '{"segment": 1, "scores": {"exact_match": 100.0, "f1": 100.0}}\n',
}


def texts():
    """Yields cases of texts that scorers refuse."""
    for name, files, sentence in (
            ("empty references", {"ref": ""}, r"ref: the file is empty"),
            ("empty outputs", {"pred": ""}, r"pred: the file is empty"),
            ("two blank lines inside", {"ref": "a\n\n\nb\n"}, r"ref:3: found a blank line where a reference should be"),
            ("a blank line first", {"ref": "\na\n\nb\n"}, r"ref:1: found a blank line"),
            ("blank lines alone", {"ref": "\n \n"}, r"ref:1: found a blank line"),
            ("one output too many", {"pred": "a\nb\nc\n"}, r"pred:3: the first output without references"),
            ("one output too few", {"pred": "a\n"}, r"ref:3: the first group without an output"),
            ("a line separator", {"pred": f"a{SPACE}b\nc\n"}, r"pred:1: found U\+2028 at character 2"),
            ("Latin-1", {"pred": "café\nb\n".encode("latin-1")}, r"pred:1: not UTF-8 text"),
            ("UTF-16", {"ref": "a\n\nb\n".encode("utf-16")}, r"ref:1: not UTF-8 text: .*looks like UTF-16")):
        yield Case(name, E2E, ["ref", "pred"], sentence, files={**PROGRAMS[E2E][1], **files})
    for name, arguments, sentence in (
            ("no metric", ["-m", "bleurt"], r"no metric bleurt"),
            ("no references", ["-nr", "3"], r"ref0: no such file"),
            ("no number", ["-nr", "0"], r"-nr 0: expected"), ("itself", ["-H2", "pred"], r"the same file as -H")):
        yield Case(name, GENERATION, [*PROGRAMS[GENERATION][0], *arguments], sentence, files=PROGRAMS[GENERATION][1])
    for name, files, sentence in (
            ("fewer lines", {"pred": "a\n"}, r"the files differ in their number of lines"),
            ("blank references", {"ref": "\n\n"}, r"All references are blank")):
        yield Case(name, GENERATION, PROGRAMS[GENERATION][0], sentence, files={**PROGRAMS[GENERATION][1], **files})


def answers():
    """Yields cases of answers to questions."""
    for name, files, sentence in (
            ("an id twice", {"pred": '{"q1": "a", "q1": "b"}'}, r"pred: cannot .* the name 'q1' appears twice"),
            ("a number as answer", {"pred": '{"q1": 7}'}, r"\.q1 is 7, expected a string"),
            ("null as answer", {"pred": '{"q1": null}'}, r"\.q1 is null, expected a string"),
            ("half of a pair", {"pred": '{"q1": "\\ud83d"}'}, r"\.q1 holds half of a surrogate pair"),
            ("no questions", {"ref": '{"data": []}'}, r"ref: no questions in it"),
            ("no answers", {"ref": json.dumps(squad(answers=[]))}, r"question q1: no answers"),
            ("rows in place of a document", {"ref": '{"context": "a"}\n{"context": "b"}\n'}, r"Extra data"),
            ("a question twice", {"ref": json.dumps({"data": squad()["data"] * 2})}, r"question q1: appears twice")):
        yield Case(name, SQUAD, ["ref", "pred"], sentence, files={**PROGRAMS[SQUAD][1], **files})


CASES = [*inputs(), *outputs(), *accepted(), *texts(), *answers()]
