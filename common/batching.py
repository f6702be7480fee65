"""Rows of token ids and the batches made of them: numpy arrays, the same for both frameworks."""

from dataclasses import dataclass

import numpy as np

from common.errors import UserError
from common.files import read_json_lines
from common.vocabulary import VOCABULARY_SIZE


@dataclass(frozen=True)
class Row:
    """One training example: token ids of the context and of the completion."""

    context: list
    completion: list


@dataclass(frozen=True)
class Batch:
    """What one training step reads.

    Attributes:
        input_ids: ``(batch, length)`` int32, filled up with 0 on the right.
        loss_positions: ``(count,)`` int32 indices into the flattened ``batch * length`` positions that carry a loss.
        loss_targets: ``(count,)`` int32, the token that each of them should predict.
        loss_mask: ``(count,)`` float32, 1 for each (0 would be filling).
    """

    input_ids: np.ndarray
    loss_positions: np.ndarray
    loss_targets: np.ndarray
    loss_mask: np.ndarray


def read_rows(path):
    """Reads an encoded data set, one ``{"context": ids, "completion": ids}`` a line.

    Raises:
        UserError: the file is missing or empty, or a line holds something else; with file and line.
    """
    rows = []
    for line_number, record in read_json_lines(path, keys=("context", "completion")):
        for key in ("context", "completion"):
            ids = record[key]
            if not (isinstance(ids, list)
                    and all(type(token) is int and 0 <= token < VOCABULARY_SIZE for token in ids)):
                raise UserError(f"{path}:{line_number}: {key!r} is not a list of token ids from 0 to "
                                f"{VOCABULARY_SIZE - 1}; encode the text with src/gpt2_encode.py first")
        if not record["context"]:
            raise UserError(f"{path}:{line_number}: the context is empty; encode with --add_bos")
        rows.append(Row(record["context"], record["completion"]))
    if not rows:
        raise UserError(f"{path}: no rows in it")
    return rows


def make_batch(rows, seq_len, objective="clm", pad_to=None):
    """Builds the arrays of some rows.

    Args:
        rows: list of Row.
        seq_len: a longer row loses its end.
        objective: ``clm`` puts the loss on the completion, ``jlm`` on context and completion.
        pad_to: length to fill up to; by default that of the longest row.

    Returns:
        Batch.
    """
    sequences = [(row.context + row.completion)[:seq_len] for row in rows]
    length = pad_to or max(map(len, sequences))
    input_ids = np.zeros((len(rows), length), np.int32)
    positions, targets = [], []
    for index, (row, sequence) in enumerate(zip(rows, sequences)):
        input_ids[index, :len(sequence)] = sequence
        first = 0 if objective == "jlm" else len(row.context) - 1
        positions.extend(range(index * length + first, index * length + len(sequence) - 1))
        targets.extend(sequence[first + 1:])
    return Batch(input_ids, np.array(positions, np.int32), np.array(targets, np.int32),
                 np.ones(len(positions), np.float32))


def pad_batch(batch, length_multiple, count_multiple):
    """Fills a batch up so that few shapes occur: a GPU prepares its work once for each.

    The rows and the loss stay what they are: filling positions follow the real ones, which cannot see them, and filling
    loss positions have mask 0.

    Args:
        batch: Batch.
        length_multiple: the length is rounded up to a multiple of this.
        count_multiple: the number of loss positions likewise.

    Returns:
        Batch.
    """
    rows, length = batch.input_ids.shape
    more_length, more_count = -length % length_multiple, -len(batch.loss_positions) % count_multiple
    row, column = np.divmod(batch.loss_positions, length)
    positions = (row * (length + more_length) + column).astype(np.int32)
    return Batch(np.pad(batch.input_ids, ((0, 0), (0, more_length))),
                 *(np.pad(array, (0, more_count)) for array in (positions, batch.loss_targets, batch.loss_mask)))


def batches_per_epoch(row_count, batch_size):
    """Returns ``ceil(row_count / batch_size)``."""
    return -(-row_count // batch_size)


def epoch_order(row_count, batch_size, seed, epoch, shuffle=True):
    """Returns the row indices of an epoch, ``(batches, batch_size)`` int64.

    The order depends on seed and epoch alone; the last batch is filled up with random rows.
    """
    generator = np.random.RandomState((seed * 1_000_003 + epoch) % 2**32)
    order = generator.permutation(row_count) if shuffle else np.arange(row_count)
    missing = batches_per_epoch(row_count, batch_size) * batch_size - row_count
    filling = generator.randint(0, row_count, size=missing)
    return np.concatenate([order, filling]).reshape(-1, batch_size)


def training_batches(rows, batch_size, seq_len, objective, seed, epoch, shuffle=True, skip=0):
    """Yields the batches of one epoch, the first ``skip`` left out."""
    for indices in epoch_order(len(rows), batch_size, seed, epoch, shuffle)[skip:]:
        yield make_batch([rows[index] for index in indices], seq_len, objective)


def validation_batches(rows, batch_size, seq_len, objective):
    """Yields the batches of a data set in file order; the last may be short."""
    for start in range(0, len(rows), batch_size):
        yield make_batch(rows[start:start + batch_size], seq_len, objective)
