"""Rows of questions and answers: columns, history, empty rows."""

import json

import pytest

from common.data.chatglm_texts import Example, read_examples
from common.errors import UserError


@pytest.fixture
def write(tmp_path):
    def written(*rows):
        path = tmp_path / "rows.json"
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        return path
    return written


def test_columns(write):
    path = write({"q": "问", "a": "答", "h": [["早", "好"]]}, {"q": "二", "a": "三", "h": None})
    assert read_examples(path, "q", "a", "h") == [Example("问", "答", (("早", "好"),)), Example("二", "三")]
    assert read_examples(path, "q", "a", most=1) == [Example("问", "答")]
    assert read_examples(path, "q", None) == [Example("问", ""), Example("二", "")]


def test_empty_rows_are_counted(write, capsys):
    rows = {"q": "问", "a": ""}, {"q": "问", "a": "答"}, {"q": None, "a": "答"}
    assert len(read_examples(write(*rows), "q", "a")) == 1
    assert "2 of 3 rows are left out, the first in line 1" in capsys.readouterr().err


@pytest.mark.parametrize("rows, sentence", [
    ([{"q": "x", "b": "y"}], r"rows.json:1: has no column 'a'; it has 'q', 'b': .*--response_column"),
    ([{"a": "x"}], r"rows.json:1: has no column 'q'.*--prompt_column"),
    ([{"q": "x", "a": "y"}], r"rows.json:1: has no column 'h'.*--history_column"),
    ([{"q": 1, "a": "y", "h": None}], r"rows.json:1: \.q is 1"),
    ([{"q": "x", "a": "y", "h": [["one"]]}], r"\.h\[0\] has 1 texts"),
    ([{"q": "", "a": "", "h": None}], "none of its 1 rows has both"),
    ([], "holds no rows"),
    ([[1]], "rows.json:1: the JSON is a list")])
def test_what_is_refused(write, rows, sentence):
    with pytest.raises(UserError, match=sentence):
        read_examples(write(*rows), "q", "a", "h")
