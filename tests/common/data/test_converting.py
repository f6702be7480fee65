"""The converters on made-up files, on hostile ones and on the real data sets."""

import collections
import gzip
import json
import re
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.data.converting import convert_dart, convert_e2e, convert_webnlg, main_dart, main_e2e, main_webnlg
from common.errors import UserError
from common.files import read_json_lines

# UTF-8 cannot hold half of a surrogate pair; E2E's lines cannot hold a newline.
ONE_LINE = st.text(st.characters(codec="utf-8", exclude_characters="\n|"), max_size=20)
ANY_TEXT = st.text(st.characters(codec="utf-8"), max_size=20)


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def entry(number, triples, texts, category="Airport"):
    return {str(number): {
        "category": category,
        "modifiedtripleset": [dict(zip(("subject", "property", "object"), triple)) for triple in triples],
        "lexicalisations": [{"lex": text, "comment": comment} for text, comment in texts]}}


def test_e2e_lines(tmp_path):
    path = write(tmp_path / "a.txt", "name : A | Type : pub||A is a pub . \nname : B||Is\u2028B | C ?\r\nname : C||")
    assert list(convert_e2e(path)) == [
        {"context": "name : A | Type : pub", "completion": "A is a pub ."},
        {"context": "name : B", "completion": "Is\u2028B | C ?"},
        {"context": "name : C", "completion": ""},
    ]


@pytest.mark.parametrize("line", ["name : A", "", "   ", "||text", "a||b||c"])
def test_e2e_refuses_other_lines_with_file_and_line(tmp_path, line):
    path = write(tmp_path / "a.txt", f"name : A||text\n{line}\nname : B||text\n")
    with pytest.raises(UserError, match=rf"{re.escape(str(path))}:2: .*expected `MR\|\|text`"):
        list(convert_e2e(path))


@settings(max_examples=100, deadline=None)
@given(pairs=st.lists(st.tuples(ONE_LINE, ONE_LINE), max_size=5))
def test_e2e_gives_back_what_was_written(tmp_path_factory, pairs):
    pairs = [(f"name : {mr}".rstrip() + ".", text.strip()) for mr, text in pairs]
    path = write(tmp_path_factory.mktemp("e2e") / "a.txt", "".join(f"{mr}||{text}\n" for mr, text in pairs))
    assert [(record["context"], record["completion"]) for record in convert_e2e(path)] == pairs


def test_e2e_is_read_as_a_stream(tmp_path):
    path = write(tmp_path / "a.txt", "name : A||a\n" + "broken\n")
    records = convert_e2e(path)
    assert next(records) == {"context": "name : A", "completion": "a"}
    with pytest.raises(UserError, match="a.txt:2"):
        next(records)


def test_webnlg_keeps_good_texts_and_knows_seen_categories(tmp_path):
    document = {"entries": [
        entry(1, [("A_B", "runwayLength", "1 | 2"), ("A_B", "isIn", "C")],
              [("x", "good"), ("y", "toFix"), ("z", "good")]),
        entry(2, [("D", "p", "E")], [("", "good")], category="Artist")]}
    path = write(tmp_path / "a.json", json.dumps(document))
    assert list(convert_webnlg(path)) == [
        {"context": "A_B : runwayLength : 1 | 2 | A_B : isIn : C", "completion": text, "cate": True,
         "category": "Airport"}
        for text in ("x", "z")
    ] + [{"context": "D : p : E", "completion": "", "cate": False, "category": "Artist"}]


def test_dart_lower_cases_predicates_alone(tmp_path):
    document = [{"tripleset": [["A b", "EAT_Type", "C"], ["[TABLECONTEXT]", "[TITLE]", "D"]],
                 "annotations": [{"source": "s", "text": "one"}, {"source": "s", "text": ""}]}]
    path = write(tmp_path / "a.json", json.dumps(document))
    context = "A b : eat_type : C | [TABLECONTEXT] : [title] : D"
    assert list(convert_dart(path)) == [{"context": context, "completion": text} for text in ("one", "")]


@settings(max_examples=100, deadline=None)
@given(triples=st.lists(st.tuples(ANY_TEXT, ANY_TEXT, ANY_TEXT), min_size=1, max_size=4),
       texts=st.lists(ANY_TEXT, max_size=3))
def test_json_sets_keep_any_text(tmp_path_factory, triples, texts):
    folder = tmp_path_factory.mktemp("json")
    dart = [{"tripleset": triples, "annotations": [{"text": text} for text in texts]}]
    webnlg = {"entries": [entry(1, triples, [(text, "good") for text in texts])]}
    found = list(convert_dart(write(folder / "d.json", json.dumps(dart))))
    assert [record["completion"] for record in found] == texts
    assert {record["context"] for record in found} <= {" | ".join(f"{s} : {p.lower()} : {o}" for s, p, o in triples)}
    found = list(convert_webnlg(write(folder / "w.json", json.dumps(webnlg))))
    assert [record["completion"] for record in found] == texts
    assert {record["context"] for record in found} <= {" | ".join(f"{s} : {p} : {o}" for s, p, o in triples)}


@pytest.mark.parametrize("document, message", [
    ([], "the JSON is a list, expected an object"),
    ({"rows": []}, "the JSON has no 'entries'; it has 'rows'"),
    ({"entries": {}}, r"\.entries is an object, expected a list"),
    ({"entries": [entry(2, [("s", "p", "o")], [])]}, r"\.entries\[0\]: has '2', expected one member, '1'"),
    ({"entries": [entry(1, [], [])]}, r"\.entries\[0\]: the triple set is empty"),
    ({"entries": [entry(1, [("s", "p")], [])]},
     r'\.entries\[0\]\["1"\]\.modifiedtripleset\[0\] has no \'object\'; it has \'subject\', \'property\''),
    ({"entries": [entry(1, [("s", "p", 3)], [])]}, r"\.modifiedtripleset\[0\]\.object is 3, expected a string"),
    ({"entries": [entry(1, [("s", "p", "o")], [("x", None)])]}, r"\.lexicalisations\[0\]\.comment is null, expected"),
    ({"entries": [entry(1, [("s", "p", "\ud800")], [])]}, "half of a surrogate pair"),
])
def test_webnlg_refuses_other_shapes(tmp_path, document, message):
    with pytest.raises(UserError, match=message):
        list(convert_webnlg(write(tmp_path / "a.json", json.dumps(document))))


@pytest.mark.parametrize("document, message", [
    ({}, "the JSON is an object, expected a list"),
    ([3], r"\[0\] is 3, expected an object"),
    ([{"tripleset": [], "annotations": []}], r"\[0\]: the triple set is empty"),
    ([{"tripleset": [["s", "p"]], "annotations": []}],
     r"\[0\]: found the triple \['s', 'p'\], expected \[subject, predicate, object\]"),
    ([{"tripleset": ["s p o"], "annotations": []}], r'\[0\]\.tripleset\[0\] is "s p o", expected a list'),
    ([{"tripleset": [["s", "p", None]], "annotations": []}], r"\[0\]\.tripleset\[0\]\[2\] is null, expected a string"),
    ([{"tripleset": [["s", "p", "o"]]}], r"\[0\] has no 'annotations'"),
    ([{"tripleset": [["s", "p", "o"]], "annotations": [{"text": 1}]}], r"\[0\]\.annotations\[0\]\.text is 1"),
])
def test_dart_refuses_other_shapes(tmp_path, document, message):
    with pytest.raises(UserError, match=message):
        list(convert_dart(write(tmp_path / "a.json", json.dumps(document))))


@pytest.mark.parametrize("run, content", [
    (main_e2e, "name : A||ok\nbroken\n"), (main_e2e, b"name : A||\xff\n"), (main_e2e, ""),
    (main_webnlg, "{"), (main_webnlg, '{"entries": []}'), (main_dart, "[]"), (main_dart, "[{}]"),
])
def test_nothing_is_written_when_the_input_is_refused(tmp_path, run, content):
    path = write(tmp_path / "in", content)
    with pytest.raises(UserError, match=re.escape(str(path))):
        run([str(path), str(tmp_path / "out" / "o.jsonl")])
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == [path]


@pytest.mark.parametrize("tree", ["NLG_pytorch", "NLG_jittor"])
def test_programs_of_both_trees(project_root, tmp_path, tree):
    with gzip.open(tmp_path / "train.txt.gz", "wt", encoding="utf-8") as file:
        file.write("name : Caf\u00e9||Good .\n")
    command = [sys.executable, "src/format_converting_e2e.py", str(tmp_path / "train.txt"), str(tmp_path / "o.jsonl")]
    done = subprocess.run(command, cwd=project_root / tree, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    written = (tmp_path / "o.jsonl").read_text(encoding="utf-8")
    assert written == '{"context": "name : Caf\u00e9", "completion": "Good ."}\n'
    done = subprocess.run(command[:2] + [str(tmp_path / "none.txt"), "o"], cwd=project_root / tree, capture_output=True,
                          text=True)
    assert done.returncode == 2 and "none.txt: no such file" in done.stderr and "Traceback" not in done.stderr


# Texts per file as the README beside the data counts them; the published DART train file has 62659.
REAL_COUNTS = [
    (convert_e2e, "e2e/train.txt", 42061, 4862), (convert_e2e, "e2e/valid.txt", 4672, 547),
    (convert_e2e, "e2e/test.txt", 4693, 630),
    (convert_webnlg, "webnlg_challenge_2017/train.json", 18025, None),
    (convert_webnlg, "webnlg_challenge_2017/dev.json", 2258, None),
    (convert_webnlg, "webnlg_challenge_2017/test.json", 4928, None),
    (convert_dart, "dart/dart-v1.1.1-full-dev.json", 6980, None),
    (convert_dart, "dart/dart-v1.1.1-full-test.json", 12552, 4159),
    (convert_dart, "dart/dart-v1.1.1-full-train.partial.json", 54870, None),
]


@pytest.mark.parametrize("convert, name, rows, contexts", REAL_COUNTS, ids=[case[1] for case in REAL_COUNTS])
def test_counts_of_the_real_sets(shared_data, convert, name, rows, contexts):
    records = list(convert(shared_data / name))
    assert len(records) == rows
    if contexts:
        assert len({record["context"] for record in records}) == contexts
    if name.startswith("webnlg"):
        seen = collections.Counter(record["cate"] for record in records)
        assert seen == ({True: 2495, False: 2433} if name.endswith("test.json") else {True: rows})


def test_real_e2e_lines_stand_in_the_file(shared_data):
    with gzip.open(shared_data / "e2e/valid.txt.gz", "rb") as file:
        lines = file.read().decode("utf-8").split("\n")[:-1]
    records = convert_e2e(shared_data / "e2e/valid.txt")
    assert [f"{record['context']}||{record['completion']}" for record in records] == [line.rstrip() for line in lines]


def test_output_can_be_read_back(tmp_path, shared_data):
    main_webnlg([str(shared_data / "webnlg_challenge_2017/dev.json"), str(tmp_path / "o.jsonl")])
    first = next(read_json_lines(tmp_path / "o.jsonl"))[1]
    # The first entry of dev.json, by eye.
    assert first == {"context": "Aarhus : leaderName : Jacob_Bundsgaard", "cate": True, "category": "Airport",
                     "completion": "The leader of Aarhus is Jacob Bundsgaard."}
