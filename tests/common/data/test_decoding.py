"""Predictions to text and references to the scorers' files."""

import json
import re
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.data.converting import convert_e2e, convert_webnlg
from common.data.decoding import cut_ids, cut_text, finish, main, write_references
from common.errors import UserError
from common.files import write_json_lines


@pytest.fixture
def decode(tmp_path, vocab, tokenizer):
    """Runs the program on rows ``(context, completion[, cate])`` and predictions ``{row: text or ids}``."""
    def run(rows, predictions, *flags, eos=50256, length=24):
        names = ("context", "completion", "cate")
        write_json_lines(tmp_path / "in.jsonl", (dict(zip(names, row)) for row in rows))

        def ids(predicted):
            if isinstance(predicted, list):
                return predicted
            found = tokenizer.encode(" " + predicted).ids + [eos]
            return found + [0] * (length - len(found))

        lines = predictions.items() if isinstance(predictions, dict) else predictions
        write_json_lines(tmp_path / "predict.jsonl", ({"id": row, "predict": ids(text)} for row, text in lines))
        main(["--vocab", str(vocab), "--sample_file", str(tmp_path / "predict.jsonl"), "--input_file",
              str(tmp_path / "in.jsonl"), "--output_ref_file", str(tmp_path / "ref"), "--output_pred_file",
              str(tmp_path / "pred"), *flags])
        return (tmp_path / "pred").read_text(encoding="utf-8")
    return run


ROWS = [("A", "a one"), ("B", "b one"), ("A", "a two"), ("C", "c one")]


def test_e2e_groups_references_by_context(decode, tmp_path):
    assert decode(ROWS, {0: "pa", 1: "pb", 3: "pc"}) == "pa\npb\npc\n"
    assert (tmp_path / "ref").read_text() == "a one\na two\n\nb one\n\nc one\n\n"


def test_last_prediction_of_a_context_wins(decode):
    assert decode(ROWS, [(2, "last"), (1, "pb"), (3, "pc"), (0, "first")]) == "first\npb\npc\n"
    assert decode(ROWS, {0: "first", 1: "pb", 2: "last", 3: "pc"}) == "last\npb\npc\n"


@pytest.mark.parametrize("eos", [50256, 628])
def test_filling_after_the_end_is_no_text(decode, eos):
    assert decode([("A", "a")], {0: "Hello !"}, eos=eos) == "Hello !\n"


def test_a_hypothesis_that_never_ended_keeps_its_exclamation_marks(decode):
    # 15496 is "Hello", 0 is "!".
    assert decode([("A", "a")], {0: [15496, 0, 0]}) == "Hello!!\n"


def test_empty_prediction_is_an_empty_line(decode, capsys):
    assert decode([("A", "a"), ("B", "b")], {0: [50256, 0], 1: "x"}) == "\nx\n"
    assert "2 predictions, 1 of them empty" in capsys.readouterr().out


def test_half_a_character_and_single_newline(decode, tokenizer):
    newline, half = tokenizer.encode("\n").ids, tokenizer.encode("\u6771").ids[:1]
    assert decode([("A", "a")], {0: [15496] + newline + [15496] + half + [50256]}) == "Hello Hello\ufffd\n"


SEPARATORS = ["\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029", "\n"]


@pytest.mark.parametrize("separator", SEPARATORS, ids=ascii)
def test_separators_stay_inside_their_line(decode, tmp_path, separator):
    text = f"one{separator}two"
    assert decode([("A", text)], {0: text}) == "one two\n"
    assert (tmp_path / "ref").read_bytes() == b"one two\n\n"


@settings(max_examples=200, deadline=None)
@given(st.text(st.one_of(st.characters(codec="utf-8"), st.sampled_from("\n\r\u2028\x85 "))))
def test_cut_text_is_one_stripped_line(text):
    cut = cut_text(text)
    assert len(cut.splitlines()) <= 1 and cut == cut.strip() and "<|endoftext|>" not in cut
    assert cut_text(cut) == cut
    if len(text.splitlines()) <= 1:
        # What the original program does to a text of one line.
        assert cut == text.split("<|endoftext|>")[0].split("\n\n")[0].strip()


@given(st.lists(st.sampled_from([0, 1, 628, 50256, 198])))
def test_cut_ids_takes_what_stands_before_the_first_end(ids):
    cut = cut_ids(ids)
    assert cut == ids[:len(cut)] and not {628, 50256} & set(cut)
    assert len(cut) == len(ids) or ids[len(cut)] in (628, 50256)


def test_references_in_a_folder_repeat_the_first(decode, tmp_path, capsys):
    decode(ROWS, {0: "pa", 1: "pb", 3: "pc"}, "--ref_type", "webnlg", "--ref_num", "3")
    found = [(tmp_path / "ref" / f"reference{i}").read_text() for i in range(3)]
    assert found == ["a one\nb one\nc one\n", "a two\nb one\nc one\n", "a one\nb one\nc one\n"]
    assert capsys.readouterr().err == f"note: {tmp_path}/predict.jsonl: no prediction for 1 of the 4 rows\n"
    decode(ROWS, {0: "pa", 1: "pb", 3: "pc"}, "--ref_type", "dart", "--ref_num", "1")
    assert "1 contexts have more than 1 references" in capsys.readouterr().err


def test_filter_keeps_seen_or_unseen(decode, tmp_path):
    rows = [("A", "a", True), ("B", "b", False), ("A", "a two", True)]
    assert decode(rows, {0: "pa", 1: "pb"}, "--filter", "seen") == "pa\n"
    assert (tmp_path / "ref").read_text() == "a\na two\n\n"
    assert decode(rows, {1: "pb"}, "--filter", "unseen") == "pb\n"
    with pytest.raises(UserError, match="in.jsonl: no row is unseen"):
        decode(rows[:1], {0: "pa"}, "--filter", "unseen")
    with pytest.raises(UserError, match="in.jsonl:1: no true or false 'cate'"):
        decode(ROWS, {0: "pa"}, "--filter", "seen")


def test_tokenize_and_lower(decode, tmp_path):
    assert decode([("A", "It's 5-Star, (A_b).")], {0: "Caf\u00e9 X's"}, "--tokenize", "--lower") == "caf\u00e9 x ' s\n"
    assert (tmp_path / "ref").read_text() == "it ' s 5 - star , ( a_b ) .\n\n"
    assert finish("A  b.", False, False) == "A  b."


def test_all_references_of_a_sampled_context(decode, tmp_path):
    write_json_lines(tmp_path / "full.jsonl", ({"context": c, "completion": r} for c, r in [("Z", "z"), *ROWS]))
    full = ["--reference_file", str(tmp_path / "full.jsonl")]
    assert decode([("C", "c one"), ("A", "a two")], {0: "pc", 1: "pa"}, *full) == "pc\npa\n"
    assert (tmp_path / "ref").read_text() == "c one\n\na one\na two\n\n"
    with pytest.raises(UserError, match="no references for 1 of 2 contexts, the first: 'Q'"):
        decode([("A", "a"), ("Q", "q")], {0: "p", 1: "p"}, *full)


def test_empty_references(decode, tmp_path, capsys):
    rows = [("A", ""), ("A", "a"), ("B", "b")]
    decode(rows, {0: "p", 2: "p"})
    assert (tmp_path / "ref").read_text() == "a\n\nb\n\n"
    assert "1 empty references are left out" in capsys.readouterr().err
    with pytest.raises(UserError, match="the context 'A' has only empty references"):
        decode([("A", " ")], {0: "p"})


@pytest.mark.parametrize("predictions, message", [
    ({0: "p", 1: "p"}, "no prediction for 1 of 3 contexts, the first: 'C'"),
    ({0: "p", 4: "p"}, r"predict.jsonl:2: id 4 is no row of the input file: it has rows 0 to 3"),
    ({-1: "p"}, r"predict.jsonl:1: id -1 is no row"),
    ({"0": "p"}, r'predict.jsonl:1: \.id is "0", expected an integer'),
    ([(0, "p"), (1, "p"), (0, "q")], r"predict.jsonl:3: id 0 appears twice, first in line 1"),
    ({0: [1, 50257]}, r"predict.jsonl:1: \.predict holds 50257, expected ids from 0 to 50256"),
    ({0: [1.5]}, r"predict.jsonl:1: \.predict holds 1.5, expected ids"),
    ({0: [True]}, r"predict.jsonl:1: \.predict holds true, expected ids"),
])
def test_wrong_predictions_are_refused_and_nothing_written(decode, tmp_path, predictions, message):
    with pytest.raises(UserError, match=message):
        decode(ROWS, predictions)
    assert not (tmp_path / "ref").exists() and not (tmp_path / "pred").exists()


def test_predict_must_be_a_list(decode, tmp_path, vocab):
    decode(ROWS, {0: "pa", 1: "pb", 3: "pc"})
    (tmp_path / "predict.jsonl").write_text('{"id": 0, "predict": "text"}\n')
    with pytest.raises(UserError, match=r'predict.jsonl:1: \.predict is "text", expected a list'):
        main(["--vocab", str(vocab), "--sample_file", str(tmp_path / "predict.jsonl"), "--input_file",
              str(tmp_path / "in.jsonl"), "--output_ref_file", "r", "--output_pred_file", "p"])


def test_file_and_folder_are_not_mixed_up(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file: is a file; --ref_type dart writes a folder"):
        write_references(str(tmp_path / "file"), [["a"]], "dart", 2)
    with pytest.raises(UserError, match="is a folder; --ref_type e2e writes one file"):
        write_references(str(tmp_path), [["a"]], "e2e", 2)


def original_groups(records, kept):
    """The groups of references as the original program makes them, in a few plain lines."""
    groups = {}
    for record in records:
        if kept(record):
            text = record["completion"].split("<|endoftext|>")[0].split("\n\n")[0].strip().lower()
            groups.setdefault(record["context"], []).append(" ".join(" ".join(re.split(r"(\W)", text)).split()))
    return list(groups.values())


def test_real_e2e_references(decode, tmp_path, shared_data):
    records = list(convert_e2e(shared_data / "e2e/test.txt"))
    rows = [(record["context"], record["completion"]) for record in records]
    predictions = decode(rows, {row: [15496, 50256, 0] for row in range(len(rows))}, "--lower", "--tokenize")
    # 630 distinct MRs: the README beside the data.
    assert predictions == "hello\n" * 630
    groups = original_groups(records, lambda record: True)
    assert (tmp_path / "ref").read_text(encoding="utf-8") == "".join("\n".join(group) + "\n\n" for group in groups)


def test_real_webnlg_references(decode, tmp_path, shared_data):
    records = list(convert_webnlg(shared_data / "webnlg_challenge_2017/test.json"))
    rows = [(record["context"], record["completion"], record["cate"]) for record in records]
    decode(rows, {row: [15496, 50256] for row in range(len(rows))}, "--ref_type", "webnlg", "--filter", "unseen",
           "--lower", "--tokenize")
    groups = original_groups(records, lambda record: not record["cate"])
    assert len(groups) == 891  # the README beside the data counts 891 entries of unseen categories
    for i in range(6):
        expected = "".join((group[i] if i < len(group) else group[0]) + "\n" for group in groups)
        assert (tmp_path / "ref" / f"reference{i}").read_text(encoding="utf-8") == expected


@pytest.mark.parametrize("tree", ["NLG_pytorch", "NLG_jittor"])
def test_programs_of_both_trees(project_root, vocab, tmp_path, tree):
    (tmp_path / "in.jsonl").write_text(json.dumps({"context": "A", "completion": "a"}) + "\n")
    (tmp_path / "p.jsonl").write_text(json.dumps({"id": 0, "predict": [15496, 50256, 0]}) + "\n")
    command = [sys.executable, "src/gpt2_decode.py", "--vocab", "./vocab", "--sample_file", str(tmp_path / "p.jsonl"),
               "--input_file", str(tmp_path / "in.jsonl"), "--output_ref_file", str(tmp_path / "r"),
               "--output_pred_file", str(tmp_path / "p")]
    done = subprocess.run(command, cwd=project_root / tree, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "p").read_text() == "Hello\n"
    done = subprocess.run(command + ["--ref_num", "0"], cwd=project_root / tree, capture_output=True, text=True)
    assert done.returncode == 2 and "--ref_num 0: expected 1 or more" in done.stderr
