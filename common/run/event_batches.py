"""Batches of queries about events: numpy arrays, the same for both frameworks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from common.data.word_pieces import Query
from common.run.batching import NO_STEP, Packed, pack, seeded_order
from common.run.dropout import step_key, token_keys


@dataclass(frozen=True)
class QueryBatch(Packed):
    """What one step reads; each sequence is a query.

    Attributes:
        token_type_ids: ``(count,)`` int32, 0 or 1.
        targets: ``(batch, 2)`` int32, the positions in the query of the gold span's first and last token; both are the
            first [SEP]'s where there is no such argument.
        loss_weights: ``(batch,)`` float64, the share of each query in the batch's loss, which is the sum over the
            queries of weight times (cross-entropy of the start + that of the end), each over all tokens of the query.
        step_key: ``(1,)`` int32, of common.run.dropout.step_key.
        token_keys: ``(count,)`` int32, of common.run.dropout.token_keys.
    """

    token_type_ids: np.ndarray
    targets: np.ndarray
    loss_weights: np.ndarray
    step_key: np.ndarray
    token_keys: np.ndarray

    def padded(self, multiple: int) -> "QueryBatch":
        """Fills the batch up so that few shapes occur; see common.run.batching.pad_batch.

        The tokens that fill up are a query of their own, of one token at least, whose loss weighs 0. ``length``, of
        which attention takes the square, becomes a multiple of half the number.
        """
        count = len(self.input_ids)
        more = multiple - count % multiple
        longest = max(self.length, more)
        tokens = {name: np.pad(getattr(self, name), (0, more))
                  for name in ("input_ids", "position_ids", "token_type_ids", "token_keys")}
        return replace(self, **tokens, offsets=np.append(self.offsets, np.int32(count + more)),
                       length=longest + -longest % max(1, multiple // 2),
                       targets=np.pad(self.targets, ((0, 1), (0, 0))),
                       loss_weights=np.append(self.loss_weights, 0.0))


def make_query_batch(queries: Sequence[Query], targets: Sequence[int] | None = None,
                     step_key: np.ndarray = NO_STEP) -> QueryBatch:
    """Builds the arrays of some queries; the loss is their mean.

    Args:
        queries: of common.data.word_pieces.make_queries.
        targets: for each query the index of the gold span that is trained, where it has any; by default the first.
        step_key: of common.run.dropout.step_key; there is none without dropout.
    """
    packed = pack([query.input_ids for query in queries])
    chosen = targets if targets is not None else [0] * len(queries)
    positions = [query.positions(query.spans[span]) if query.spans else (query.separator, query.separator)
                 for query, span in zip(queries, chosen)]
    keys = token_keys(np.repeat(np.arange(len(queries)), np.diff(packed.offsets)), packed.position_ids)
    return QueryBatch(
        **vars(packed), token_type_ids=np.concatenate([query.token_types for query in queries]).astype(np.int32),
        targets=np.array(positions, np.int32), loss_weights=np.full(len(queries), 1 / len(queries)),
        step_key=step_key, token_keys=keys)


def chosen_spans(queries: Sequence[Query], seed: int, epoch: int) -> np.ndarray:
    """Returns for each query which of its gold spans an epoch trains, ``(queries,)`` int64, by seed and epoch alone."""
    draws = np.random.RandomState([seed % 2**32, epoch, 1]).random_sample(len(queries))
    counts = np.array([max(1, len(query.spans)) for query in queries])
    return np.minimum((draws * counts).astype(np.int64), counts - 1)


def query_batches(queries: Sequence[Query], batch_size: int, seed: int, shuffle: bool = True,
                  done: int = 0) -> Iterator[tuple[int, int, QueryBatch]]:
    """Yields ``(epoch, index, QueryBatch)`` without end, as common.run.batching.training_batches does."""
    chosen_epoch, chosen = 0, np.zeros(0, np.int64)
    for epoch, index, step, indices in seeded_order(len(queries), batch_size, seed, shuffle, done):
        if epoch != chosen_epoch:
            chosen_epoch, chosen = epoch, chosen_spans(queries, seed, epoch)
        yield epoch, index, make_query_batch([queries[query] for query in indices], chosen[indices],
                                             step_key(seed, step))


def evaluation_batches(queries: Sequence[Query], batch_size: int) -> Iterator[tuple[np.ndarray, QueryBatch]]:
    """Yields ``(indices of the queries, QueryBatch)`` of all queries, those of similar length together.

    Args:
        batch_size: so many queries a batch; the last one may be smaller.
    """
    order = np.argsort([len(query.input_ids) for query in queries], kind="stable")
    for begin in range(0, len(order), batch_size):
        indices = order[begin:begin + batch_size]
        yield indices, make_query_batch([queries[index] for index in indices])
