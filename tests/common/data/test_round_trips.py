"""What one program writes the next one reads: texts through the encoder and back, predictions to the scorers' files."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.data.decoding import cut_text, finish
from common.data.decoding import main as decode
from common.data.encoding import encode_file
from common.data.rows import read_encoded
from common.errors import UserError
from common.files import write_json_lines
from common.metrics.e2e import match_outputs, read_references
from common.metrics.segments import drop_trailing_blanks, read_texts
from common.run.batching import read_rows
from common.vocabulary import END_OF_TEXT

TEXT = st.text(st.one_of(st.characters(codec="utf-8"), st.sampled_from(" \n\r\t\x85\u2028\x1c|<>é.")), max_size=25)
ROWS = st.lists(st.fixed_dictionaries({"context": TEXT, "completion": TEXT}), min_size=1, max_size=5)
# More rows than contexts, so that some have several references.
FEW_CONTEXTS = st.lists(st.fixed_dictionaries({"context": st.sampled_from(["a", "b : c", "é"]), "completion": TEXT}),
                        min_size=1, max_size=6)
ONCE = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(rows=ROWS, add_bos=st.booleans(), add_eos=st.booleans())
@ONCE
def test_encoded_texts_come_back(tokenizer, tmp_path, rows, add_bos, add_eos):
    formatted, encoded = tmp_path / "formatted.jsonl", tmp_path / "encoded.jsonl"
    write_json_lines(formatted, rows)
    assert encode_file(tokenizer, formatted, encoded, add_bos, add_eos) == len(rows)
    try:
        found = [record for _, record in read_encoded(encoded)]
    except UserError as error:
        assert not add_bos and "the context is empty; encode with --add_bos" in str(error)
        assert any(not row["context"] for row in rows)
        return
    for row, record in zip(rows, found, strict=True):
        for name, start, has_end in (("context", "", add_bos), ("completion", " ", add_eos)):
            ids = record[name]
            assert ids.count(END_OF_TEXT) == has_end and (not has_end or ids[-1] == END_OF_TEXT)
            assert tokenizer.decode(ids[:len(ids) - has_end], skip_special_tokens=False) == start + row[name]
    assert [(row.context, row.completion) for row in read_rows(encoded)] == [
        (record["context"], record["completion"]) for record in found]


@given(rows=FEW_CONTEXTS, data=st.data(), ref_type=st.sampled_from(["e2e", "webnlg"]), flags=st.lists(
    st.sampled_from(["--tokenize", "--lower"]), unique=True))
@ONCE
def test_scorers_read_what_decoding_writes(vocab, tokenizer, tmp_path, rows, data, ref_type, flags):
    """One prediction for each context, in the order in which contexts appear, with all of its references."""
    texts = [data.draw(TEXT) for _ in rows]
    write_json_lines(tmp_path / "rows.jsonl", rows)
    write_json_lines(tmp_path / "predict.jsonl", (
        {"id": row, "predict": tokenizer.encode(text).ids + [END_OF_TEXT, 0, 0]} for row, text in enumerate(texts)))
    references, predictions = tmp_path / f"references_{ref_type}", tmp_path / "predictions"
    groups, kept = {}, {}
    for row, text in zip(rows, texts):
        groups.setdefault(row["context"], []).append(cut_text(row["completion"]))
        kept[row["context"]] = cut_text(text)
    try:
        decode(["--vocab", str(vocab), "--sample_file", str(tmp_path / "predict.jsonl"), "--input_file",
                str(tmp_path / "rows.jsonl"), "--output_ref_file", str(references), "--output_pred_file",
                str(predictions), "--ref_type", ref_type, "--ref_num", "6", *flags])
    except UserError as error:
        assert ref_type == "e2e" and "has only empty references" in str(error)
        assert any(not any(group) for group in groups.values())
        return

    def finished(text):
        return finish(text, "--tokenize" in flags, "--lower" in flags).strip()

    assert read_texts(predictions) == [finished(kept[context]) for context in groups]
    if ref_type == "e2e":
        found, outputs = match_outputs(read_references(references), read_texts(predictions), references, predictions)
        assert found == [[finished(text) for text in group if text] for group in groups.values()] or not all(
            finished(text) for group in groups.values() for text in group)
        assert outputs == read_texts(predictions)
    else:
        columns = {path.name: read_texts(path) for path in references.iterdir()}
        assert drop_trailing_blanks({**columns, "": read_texts(predictions)})[1] == []
        for number, group in enumerate(groups.values()):
            expected = [finished(text) for text in group] + [finished(group[0])] * (6 - len(group))
            assert [columns[f"reference{index}"][number] for index in range(6)] == expected


@pytest.mark.parametrize("line", ['{"context": "a"}', "[]", '{"context": 1, "completion": ""}'])
def test_what_is_no_row_is_not_encoded(tokenizer, tmp_path, line):
    path = tmp_path / "formatted.jsonl"
    path.write_text(json.dumps({"context": "a", "completion": "b"}) + f"\n{line}\n")
    with pytest.raises(UserError, match="formatted.jsonl:2: "):
        encode_file(tokenizer, path, tmp_path / "encoded.jsonl")
    assert not (tmp_path / "encoded.jsonl").exists()
