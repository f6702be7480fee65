"""Batches of queries: packed arrays, targets, which gold span an epoch trains, and filling up."""

import itertools

import numpy as np
import pytest

from common.data.events import Span
from common.data.word_pieces import Query
from common.run.dropout import step_key, token_keys
from common.run.event_batches import chosen_spans, evaluation_batches, make_query_batch, query_batches


def query_of(length, spans=(), event=0):
    """A query of two pieces and ``length`` words, each of one piece."""
    ids = [2, 5, 6, 3, *range(10, 10 + length), 3]
    places = list(range(4, 4 + length))
    return Query(event, "Agent", ids, [0, 1, 1, 0] + [0] * (length + 1), 3, 0, places, places, tuple(spans))


QUERIES = [query_of(3, [Span(0, 1)]), query_of(6), query_of(5, [Span(1, 1), Span(3, 4), Span(0, 0)])]


def test_the_arrays_of_a_batch():
    batch = make_query_batch(QUERIES, [0, 0, 1], step_key(1, 2))
    assert batch.offsets.tolist() == [0, 8, 19, 29] and batch.length == 11
    assert batch.input_ids[8:12].tolist() == [2, 5, 6, 3] and batch.position_ids[8:11].tolist() == [0, 1, 2]
    assert batch.token_type_ids.tolist() == [0, 1, 1, 0, 0, 0, 0, 0] + [0, 1, 1] + [0] * 8 + [0, 1, 1] + [0] * 7
    assert batch.targets.tolist() == [[4, 5], [3, 3], [7, 8]]
    assert batch.loss_weights == pytest.approx([1 / 3] * 3)
    np.testing.assert_array_equal(batch.token_keys, token_keys(np.repeat(np.arange(3), [8, 11, 10]),
                                                               batch.position_ids))
    for name, array in vars(batch).items():
        if name != "length":
            assert array.dtype == (np.float64 if name == "loss_weights" else np.int32), name


@pytest.mark.parametrize("multiple", [8, 29, 64])
def test_a_filled_up_batch_holds_the_same(multiple):
    batch = make_query_batch(QUERIES)
    padded = batch.padded(multiple)
    assert len(padded.input_ids) % multiple == 0
    assert len(padded.offsets) == 5 and padded.offsets[-1] == len(padded.input_ids) > padded.offsets[-2]
    assert padded.offsets[-1] - padded.offsets[-2] <= padded.length
    for name in ("input_ids", "position_ids", "token_type_ids", "token_keys", "offsets", "targets", "loss_weights"):
        before = getattr(batch, name)
        np.testing.assert_array_equal(getattr(padded, name)[:len(before)], before)
    assert padded.targets[-1].tolist() == [0, 0] and padded.loss_weights[-1] == 0
    assert len(padded.token_type_ids) == len(padded.token_keys) == len(padded.position_ids) == len(padded.input_ids)


def test_which_span_an_epoch_trains():
    queries = QUERIES * 2000
    first, second = (chosen_spans(queries, 110, epoch) for epoch in (1, 2))
    assert np.array_equal(first, chosen_spans(queries, 110, 1)) and not np.array_equal(first, second)
    assert not np.array_equal(first, chosen_spans(queries, 111, 1))
    assert not first.reshape(-1, 3)[:, :2].any()
    counts = np.bincount(first.reshape(-1, 3)[:, 2], minlength=3)
    assert (np.abs(counts / 2000 - 1 / 3) < 0.05).all()


def test_batches_of_an_epoch_and_behind_some():
    taken = list(itertools.islice(query_batches(QUERIES, 2, 7), 5))
    assert [(epoch, index) for epoch, index, _ in taken] == [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1)]
    lengths = sorted(length for _, _, batch in taken[:2] for length in np.diff(batch.offsets).tolist())
    assert set(lengths) == {8, 10, 11} and len(lengths) == 4  # the last batch is filled up
    for (epoch, index, batch), (_, _, other) in zip(query_batches(QUERIES, 2, 7, done=3), taken[3:]):
        assert (epoch, index) in ((2, 2), (3, 1))
        for name in ("input_ids", "targets", "step_key"):
            np.testing.assert_array_equal(getattr(batch, name), getattr(other, name))
    assert len({int(batch.step_key[0]) for _, _, batch in taken}) == 5


def test_evaluation_reads_each_query_once_by_length():
    batches = list(evaluation_batches(QUERIES, 2))
    assert [indices.tolist() for indices, _ in batches] == [[0, 2], [1]]
    assert batches[0][1].offsets.tolist() == [0, 8, 18]
    assert batches[0][1].targets.tolist() == [[4, 5], [5, 5]]  # the first gold span
