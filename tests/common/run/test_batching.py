"""Rows, batches and epochs by their definition."""

import contextlib
import io
import itertools
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from common.run.batching import (
    Row,
    batches_per_epoch,
    epoch_order,
    make_batch,
    pack,
    pad_batch,
    read_rows,
    read_usable_rows,
    training_batches,
    validation_batches,
)

ROWS = st.lists(st.builds(Row, st.lists(st.integers(1, 90), min_size=1, max_size=9),
                          st.lists(st.integers(1, 90), min_size=0, max_size=9)), min_size=1, max_size=5)


def padded_row(row, seq_len, objective):
    """Input, target and mask of one row padded to seq_len, as the original program builds them."""
    sequence = (row.context + row.completion)[:seq_len]
    filling = [0] * (seq_len - len(sequence))
    target = sequence[1:] + [0]
    if objective == "clm":
        mask = [0] * (len(row.context) - 1) + [1] * max(0, len(sequence) - len(row.context))
    else:
        mask = [1] * (len(sequence) - 1)
    return sequence + filling, target + filling, (mask + [0] * seq_len)[:seq_len]


@given(ROWS, st.sampled_from([4, 7, 30]), st.sampled_from(["clm", "jlm"]))
@settings(deadline=None)
def test_a_batch_holds_what_padded_rows_hold(rows, seq_len, objective):
    batch = make_batch(rows, seq_len, objective)
    padded = [padded_row(row, seq_len, objective) for row in rows]
    sequences = np.split(batch.input_ids, batch.offsets[1:-1])
    assert [ids.tolist() + [0] * (seq_len - len(ids)) for ids in sequences] == [ids for ids, _, _ in padded]
    expected = [(batch.offsets[index] + place, target[place]) for index, (_, target, mask) in enumerate(padded)
                for place in range(seq_len) if mask[place]]
    assert list(zip(batch.loss_positions.tolist(), batch.loss_targets.tolist())) == expected
    assert batch.loss_weights == pytest.approx([1 / (len(expected) + 0.0001)] * len(expected))


@given(st.lists(st.lists(st.integers(1, 90), min_size=1, max_size=9), min_size=1, max_size=5))
@settings(deadline=None)
def test_packed_sequences_are_found_again(sequences):
    packed = pack(sequences)
    assert [ids.tolist() for ids in np.split(packed.input_ids, packed.offsets[1:-1])] == sequences
    assert packed.offsets[0] == 0 and packed.offsets[-1] == len(packed.input_ids)
    assert packed.position_ids.tolist() == [place for sequence in sequences for place in range(len(sequence))]
    assert packed.length == max(map(len, sequences))


@given(ROWS, st.sampled_from([1, 4, 16]))
@settings(deadline=None)
def test_a_filled_up_batch_holds_the_same(rows, multiple):
    batch = make_batch(rows, 30)
    filled = pad_batch(batch, multiple)
    for each, more in ((batch.length, filled.length), (len(batch.input_ids), len(filled.input_ids)),
                       (len(batch.loss_targets), len(filled.loss_targets))):
        assert more % multiple == 0 and each <= more < each + multiple
    for name, array in vars(filled).items():
        if name not in ("offsets", "length"):
            before = getattr(batch, name)
            assert array.tolist() == before.tolist() + [0] * (len(array) - len(before)) and array.dtype == before.dtype
    assert filled.offsets.tolist() == [*batch.offsets, len(filled.input_ids)] and filled.offsets.dtype == np.int32
    assert len(filled.input_ids) - len(batch.input_ids) <= filled.length


@given(ROWS, st.integers(1, 4))
@settings(deadline=None)
def test_batches_put_together_weigh_as_they_do_alone(rows, batch_size):
    together = make_batch(rows, 30, batch_size=batch_size)
    alone = [make_batch(rows[start:start + batch_size], 30) for start in range(0, len(rows), batch_size)]
    for name in ("input_ids", "loss_targets", "loss_weights"):
        assert np.array_equal(getattr(together, name), np.concatenate([getattr(batch, name) for batch in alone]))


def test_rows_are_cut_at_seq_len():
    rows = [Row([1, 2], [3]), Row([4], [5, 6, 7, 8])]
    assert make_batch(rows, 512).offsets.tolist() == [0, 3, 8]
    assert make_batch(rows, 4).input_ids.tolist() == [1, 2, 3, 4, 5, 6, 7]


@given(st.integers(1, 60), st.integers(1, 9), st.integers(0, 5))
@settings(deadline=None)
def test_an_epoch_takes_every_row_once_and_fills_up_the_last_batch(count, batch_size, epoch):
    order = epoch_order(count, batch_size, 110, epoch)
    assert order.shape == (batches_per_epoch(count, batch_size), batch_size)
    assert sorted(order.reshape(-1)[:count]) == list(range(count))
    assert order.max() < count


def test_full_e2e_has_5258_batches_an_epoch():
    assert batches_per_epoch(42061, 8) == 5258  # semantics of the original: 26290 steps in 5 epochs


def test_the_order_depends_on_seed_and_epoch_alone():
    first = epoch_order(20, 4, 110, 1)
    assert np.array_equal(first, epoch_order(20, 4, 110, 1))
    assert not np.array_equal(first, epoch_order(20, 4, 110, 2))
    assert not np.array_equal(first, epoch_order(20, 4, 111, 1))
    # numpy's RandomState is frozen: these numbers hold for every version (made with numpy 2.4.6, checked with 1.26.4)
    assert epoch_order(6, 3, 110, 1).tolist() == [[2, 4, 1], [5, 3, 0]]
    assert epoch_order(5, 2, 1, 1, shuffle=False)[:2].tolist() == [[0, 1], [2, 3]]


def test_skipped_batches_leave_the_rest_as_they_are():
    rows = [Row([index + 1], [9]) for index in range(10)]

    def batches(done, count):
        made = training_batches(rows, 3, 8, "clm", 7, done=done)
        return [(epoch, index, batch.input_ids.tolist()) for epoch, index, batch in itertools.islice(made, count)]

    whole = batches(0, 12)
    assert [each[:2] for each in whole] == [(epoch, index) for epoch in (1, 2, 3) for index in (1, 2, 3, 4)]
    for done in (2, 4, 7):
        assert batches(done, 12 - done) == whole[done:]


@given(ROWS, st.sampled_from(["clm", "jlm"]), st.integers(1, 3), st.integers(1, 3))
@settings(deadline=None)
def test_the_parts_of_a_batch_are_its_rows(rows, objective, parts, share):
    """Put together they have its rows, its dropout masks and, target for target, its weights in the loss."""
    def first_batches(**part):
        return list(itertools.islice(training_batches(rows, share * parts, 7, objective, 5, **part), 3))

    shared = [first_batches(part=part, parts=parts) for part in range(parts)]
    for index, (epoch, number, batch) in enumerate(first_batches()):
        together = [each[index] for each in shared]
        assert all(each[:2] == (epoch, number) for each in together)
        for name in ("input_ids", "position_ids", "token_keys", "loss_targets", "loss_weights"):
            found = np.concatenate([getattr(each, name) for _, _, each in together])
            np.testing.assert_array_equal(found, getattr(batch, name), err_msg=name)
        assert all((each.step_key == batch.step_key).all() for _, _, each in together)


@pytest.mark.parametrize("parts", [2, 3, 9])
def test_the_parts_of_a_validation_are_its_batches(parts):
    rows = [Row([index + 1], [9] * (index + 1)) for index in range(11)]
    whole = list(validation_batches(rows, 2, 8, 1, 16))
    shared = [list(validation_batches(rows, 2, 8, 1, 16, part, parts)) for part in range(parts)]
    assert len(whole) == sum(map(len, shared)) > 3
    for index, batch in enumerate(whole):
        for name, array in vars(shared[index % parts][index // parts]).items():
            np.testing.assert_array_equal(array, getattr(batch, name), err_msg=name)


def test_validation_has_one_seeded_order_and_a_full_last_batch():
    rows = [Row([index + 1], [9]) for index in range(5)]
    batches = [batch.input_ids.tolist()[::2] for batch in validation_batches(rows, 2, 8, 110, most_tokens=1)]
    assert batches == [batch.input_ids.tolist()[::2] for batch in validation_batches(rows, 2, 8, 110, most_tokens=1)]
    assert [len(batch) for batch in batches] == [2, 2, 2]
    assert sorted(sum(batches, [])[:5]) == [1, 2, 3, 4, 5] != sum(batches, [])[:5]
    assert batches != [batch.input_ids.tolist()[::2] for batch in validation_batches(rows, 2, 8, 111, most_tokens=1)]


def test_validation_puts_whole_batches_together():
    rows = [Row([index + 1], [9] * (index + 1)) for index in range(7)]
    apart, together = (list(validation_batches(rows, 2, 8, 1, most_tokens)) for most_tokens in (1, 26))
    assert len(apart) == 4 and len(together) < 4 and sum(len(batch.offsets) - 1 for batch in together) == 8
    for name in ("input_ids", "loss_targets", "loss_weights"):
        assert (np.concatenate([getattr(batch, name) for batch in together])
                == np.concatenate([getattr(batch, name) for batch in apart])).all(), name


@pytest.mark.parametrize("line, message", [
    ('{"context": [1], "completion": "text"}', "2: .completion is text, expected ids"),
    ('{"context": [1.5], "completion": [1]}', "2: .context holds 1.5, expected ids from 0 to 50256"),
    ('{"context": [50257], "completion": [1]}', "2: .context holds 50257, expected ids from 0 to 50256"),
    ('{"context": [], "completion": [1]}', "2: the context is empty"),
    ('{"context": [1]}', "2: the JSON has no 'completion'"),
    ("[1]", "2: the JSON is a list"), ("oops", "2: cannot be read as JSON")])
def test_bad_rows_are_named_by_file_and_line(line, message, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"context": [1], "completion": [2]}) + "\n" + line + "\n")
    with pytest.raises(UserError, match="rows.jsonl:") as error:
        read_rows(path)
    assert message in str(error.value)


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "rows.jsonl").write_text("")
    with pytest.raises(UserError, match="no rows in it"):
        read_rows(tmp_path / "rows.jsonl")


def rows_file(path, *lengths):
    path.write_text("".join(json.dumps({"context": [1] * context, "completion": [2] * completion}) + "\n"
                            for context, completion in lengths))
    return path


def test_rows_without_a_token_to_predict_are_said(tmp_path, capsys):
    path = rows_file(tmp_path / "rows.jsonl", (3, 2), (8, 2), (7, 1), (9, 0), (2, 0), (6, 5))
    assert len(read_usable_rows(path, 8)) == 6
    assert capsys.readouterr().err.splitlines() == [
        f"note: {path}: 3 of 6 rows have no token to predict, the first in line 2: their completion is empty, or their "
        "context has --seq_len 8 tokens or more",
        f"note: {path}: 3 of 6 rows are longer than --seq_len 8 and lose their end"]
    assert len(read_usable_rows(path, 8, "jlm")) == 6  # the context's tokens are predicted too
    assert capsys.readouterr().err == f"note: {path}: 3 of 6 rows are longer than --seq_len 8 and lose their end\n"
    read_usable_rows(rows_file(path, (3, 2), (7, 1)), 8)
    assert not capsys.readouterr().err


@given(ROWS, st.sampled_from([2, 4, 7, 30]), st.sampled_from(["clm", "jlm"]))
@settings(deadline=None)
def test_rows_are_said_to_be_without_a_token_where_no_loss_is(rows, seq_len, objective):
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()) as said:
        path = rows_file(Path(folder, "rows.jsonl"), *((len(row.context), len(row.completion)) for row in rows))
        idle = sum(not len(make_batch([row], seq_len, objective).loss_targets) for row in rows)
        if idle == len(rows):
            with pytest.raises(UserError, match=f"none of its {idle} rows has a token to predict"):
                read_usable_rows(path, seq_len, objective)
        else:
            read_usable_rows(path, seq_len, objective)
            assert (f": {idle} of {len(rows)} rows have no token" in said.getvalue()) == (idle > 0)
