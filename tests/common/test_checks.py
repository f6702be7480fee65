"""JSON of a given shape: what is taken, and how what is not is named."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.checks import check_shape, parse_json, token_ids
from common.errors import UserError

SHAPE = {"data": [{"title": str, "score": (float, None), "tags": {str: [int]}}]}
GOOD = {"data": [{"title": "a", "score": 1, "tags": {"x": [1, 2]}, "more": {}},
                 {"title": "", "score": None, "tags": {}}]}
VALUES = st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
                      | st.text(st.characters(codec="utf-8")),
                      lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner))


def test_a_value_of_the_shape_comes_back():
    assert check_shape(GOOD, SHAPE, "f") is GOOD
    assert check_shape([], SHAPE["data"], "f") == [] and check_shape(None, object, "f") is None


@pytest.mark.parametrize("value, shape, sentence", [
    ([], SHAPE, "f: the JSON is a list, expected an object"),
    ({"rows": 1}, SHAPE, "f: the JSON has no 'data'; it has 'rows'"),
    ({}, SHAPE, "f: the JSON has no 'data'; it has nothing"),
    ({"data": [3]}, SHAPE, "f: .data[0] is 3, expected an object"),
    ({"data": [{"title": 1, "score": 1, "tags": {}}]}, SHAPE, "f: .data[0].title is 1, expected a string"),
    ({"data": [{"title": "", "score": "1", "tags": {}}]}, SHAPE,
     'f: .data[0].score is "1", expected a number or null'),
    ({"data": [{"title": "", "score": 1, "tags": {"a b": [1, True]}}]}, SHAPE,
     'f: .data[0].tags["a b"][1] is true, expected an integer'),
    (True, int, "f: the JSON is true, expected an integer"), (True, float, "f: the JSON is true, expected a number"),
    (1, bool, "f: the JSON is 1, expected true or false"), (1.0, int, "f: the JSON is 1.0, expected an integer"),
    (math.inf, float, "f: the JSON is Infinity, expected a number"), (10**400, float, "expected a number"),
    ("x" * 100, int, 'f: the JSON is "' + "x" * 59 + "..., expected an integer"),
    ("\x1b[2J", int, r'f: the JSON is "\u001b[2J", expected an integer'),
    ({"\x1b": 1}, {"a": int}, r"it has '\x1b'"),
])
def test_a_value_of_another_shape_is_named_with_its_position(value, shape, sentence):
    with pytest.raises(UserError) as error:
        check_shape(value, shape, "f")
    assert sentence in str(error.value)


@given(VALUES)
def test_json_is_read_as_python_reads_it(value):
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False), json.dumps(value, indent=1)):
        assert parse_json(text, "f") == value


@pytest.mark.parametrize("text, sentence", [
    ("", "it is blank"), (" \n", "it is blank"), ("{", "Expecting property name"), ("nan", "Expecting value"),
    ("NaN", "NaN is no number of JSON"), ("[-Infinity]", "-Infinity is no number of JSON"),
    ('{"a": {"b": 1, "c": 2, "b": 1}}', "the name 'b' appears twice in one object"), ("1 2", "Extra data"),
    ("\ufeff{}", "Expecting value|Unexpected UTF-8 BOM"),
])
def test_what_is_no_json_is_refused(text, sentence):
    with pytest.raises(UserError, match=f"^f:3: cannot be read as JSON: .*({sentence})"):
        parse_json(text, "f:3")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "[" * 100_000 + "]" * 100_000])
def test_nesting_too_deep_for_python_is_refused(text):
    with pytest.raises(UserError, match="^f: its JSON is nested too deeply$"):
        parse_json(text, "f")


def test_every_depth_is_read_or_refused():
    for depth in range(900, 1100):
        text = "[" * depth + r'"\ud83d\ude00"' + "]" * depth
        try:
            value = parse_json(text, "f")
        except UserError as error:
            assert "nested too deeply" in str(error)
        else:
            for _ in range(depth):
                (value,) = value
            assert value == "😀"


@pytest.mark.parametrize("text, sentence", [
    (r'{"a": ["x", "\ud83d"]}', r"f: .a[1] holds half of a surrogate pair: '\ud83d'"),
    (r'{"a": {"\udc00": 1}}', r'f: .a["\udc00"] holds half of a surrogate pair'),
    (r'["\ude00\ud83d"]', "f: [0] holds half of a surrogate pair"),
])
def test_half_of_a_surrogate_pair_is_refused(text, sentence):
    with pytest.raises(UserError) as error:
        parse_json(text, "f")
    assert sentence in str(error.value)


def test_a_whole_surrogate_pair_is_a_character():
    assert parse_json(r'"\ud83d\ude00 \\ud83d"', "f") == r"😀 \ud83d"


@pytest.mark.parametrize("value, sentence", [
    ("1", 'x is "1", expected a list of ids'), (None, "x is null, expected a list of ids"),
    ([0, -1], "x holds -1, expected ids from 0 to 50256"), ([50257], "x holds 50257"), ([True], "x holds true"),
    ([1.0], "x holds 1.0"), ([[1]], "x holds a list"),
])
def test_what_is_no_list_of_ids_is_refused(value, sentence):
    with pytest.raises(UserError, match="^f:2: " + sentence):
        token_ids(value, "f:2", "x")
    assert token_ids([0, 50256], "f:2", "x") == [0, 50256] and token_ids([], "f:2", "x") == []
