"""Formatted rows to ids, against a plain BPE."""

import itertools
import json
import subprocess
import sys

import pytest

from common.data.converting import convert_dart, convert_e2e, convert_webnlg
from common.data.encoding import ROWS_AT_ONCE, encode_rows, main
from common.data.tokenizer import load_tokenizer
from common.errors import UserError
from common.files import read_json_lines


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("flags, context_end, completion_end", [
    ([], [], []), (["--add_bos"], [50256], []), (["--add_eos"], [], [50256]),
    (["--add_bos", "--add_eos"], [50256], [50256]),
])
def test_flags(tmp_path, vocab, flags, context_end, completion_end):
    source = write_rows(tmp_path / "in.jsonl", [{"context": "Hello world", "completion": "Hello world", "cate": True}])
    main(["--vocab", str(vocab), "--input", str(source), "--output", str(tmp_path / "o.jsonl"), *flags])
    # "Hello world" is [15496, 995] in Hugging Face's documentation of GPT-2; " Hello" is 18435 in encoder.json.
    assert (tmp_path / "o.jsonl").read_text() == json.dumps(
        {"context": [15496, 995] + context_end, "completion": [18435, 995] + completion_end}) + "\n"


def test_empty_texts_and_special_text(tmp_path, vocab, plain):
    rows = [{"context": "", "completion": ""}, {"context": "<|endoftext|>", "completion": "a\u2028b\n\nc"}]
    found = list(encode_rows(load_tokenizer(vocab), rows, True, True))
    assert found[0] == {"context": [50256], "completion": plain.encode(" ") + [50256]}
    assert found[1] == {"context": plain.encode("<|endoftext|>") + [50256],
                        "completion": plain.encode(" a\u2028b\n\nc") + [50256]}


def test_rows_keep_their_order_over_batches(vocab, plain):
    rows = [{"context": str(i), "completion": str(-i)} for i in range(2 * ROWS_AT_ONCE + 3)]
    for row, found in zip(rows, encode_rows(load_tokenizer(vocab), rows, False, False), strict=True):
        assert found == {"context": plain.encode(row["context"]), "completion": plain.encode(" " + row["completion"])}


@pytest.mark.parametrize("convert, name", [
    (convert_e2e, "e2e/test.txt"), (convert_webnlg, "webnlg_challenge_2017/dev.json"),
    (convert_dart, "dart/dart-v1.1.1-full-dev.json"),
])
def test_real_rows(shared_data, vocab, plain, convert, name):
    rows = list(itertools.islice(convert(shared_data / name), 1500))
    for row, found in zip(rows, encode_rows(load_tokenizer(vocab), rows, True, True), strict=True):
        assert found["context"] == plain.encode(row["context"]) + [50256]
        assert found["completion"] == plain.encode(" " + row["completion"]) + [50256]


def test_longest_e2e_row(shared_data, vocab):
    rows = encode_rows(load_tokenizer(vocab), convert_e2e(shared_data / "e2e/test.txt"), True, True)
    # 133 is what the original program's ids give for E2E's longest row, which is in the test set.
    assert max(len(row["context"]) + len(row["completion"]) for row in rows) == 133


@pytest.mark.parametrize("line, message", [
    ('{"context": "a"}', r"in.jsonl:2: the JSON has no 'completion'; it has 'context'"),
    ('{"context": "a", "completion": [1, 2]}', r"in.jsonl:2: \.completion is a list, expected a string"),
    ('{"context": "\\ud83d", "completion": "a"}', r"in.jsonl:2: \.context holds half of a surrogate pair"),
    ('\n{"context": "a", "completion": "b"}', r"in.jsonl:2: cannot be read as JSON: it is blank"),
    ("[]", r"in.jsonl:2: the JSON is a list, expected an object"),
])
def test_other_lines_are_refused_and_nothing_written(tmp_path, vocab, line, message):
    source = tmp_path / "in.jsonl"
    source.write_text('{"context": "a", "completion": "b"}\n' + line + "\n")
    with pytest.raises(UserError, match=message):
        main(["--vocab", str(vocab), "--input", str(source), "--output", str(tmp_path / "o.jsonl")])
    assert list(tmp_path.iterdir()) == [source]


def test_empty_file_is_refused(tmp_path, vocab):
    source = write_rows(tmp_path / "in.jsonl", [])
    with pytest.raises(UserError, match="in.jsonl: holds no rows"):
        main(["--vocab", str(vocab), "--input", str(source), "--output", str(tmp_path / "o.jsonl")])


@pytest.mark.parametrize("tree", ["NLG_pytorch", "NLG_jittor"])
def test_programs_of_both_trees(project_root, vocab, tmp_path, tree):
    source = write_rows(tmp_path / "in.jsonl", [{"context": "a", "completion": "b"}])
    command = [sys.executable, "src/gpt2_encode.py", "--vocab", "vocab", "--input", str(source),
               "--output", str(tmp_path / "o.jsonl"), "--add_bos"]
    done = subprocess.run(command, cwd=project_root / tree, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(list(read_json_lines(tmp_path / "o.jsonl"))) == 1
