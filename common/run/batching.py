"""Rows of token ids and the batches made of them: numpy arrays, the same for both frameworks."""

import itertools
from dataclasses import dataclass, replace

import numpy as np

from common.data.rows import read_encoded
from common.errors import UserError, note
from common.run.dropout import step_key, token_keys


@dataclass(frozen=True)
class Row:
    """One training example: token ids of the context and of the completion."""

    context: list
    completion: list


@dataclass(frozen=True)
class Packed:
    """Token sequences one after another, ``count`` tokens in all and none of them filling.

    Attributes:
        input_ids: ``(count,)`` int32, the tokens.
        position_ids: ``(count,)`` int32, the place of each in its sequence.
        offsets: ``(batch + 1,)`` int32, where each sequence begins, and the end of the last.
        length: int, the length of the longest, or more.
    """

    input_ids: np.ndarray
    position_ids: np.ndarray
    offsets: np.ndarray
    length: int


@dataclass(frozen=True)
class Batch(Packed):
    """What one training step reads.

    Attributes:
        loss_positions: ``(losses,)`` int32, which of the tokens carry a loss.
        loss_targets: ``(losses,)`` int32, the token that each of them should predict.
        loss_weights: ``(losses,)`` float64, the share of each in the batch's loss.
        step_key: ``(1,)`` int32, of common.run.dropout.step_key.
        token_keys: ``(count,)`` int32, of common.run.dropout.token_keys.
    """

    loss_positions: np.ndarray
    loss_targets: np.ndarray
    loss_weights: np.ndarray
    step_key: np.ndarray
    token_keys: np.ndarray

    def padded(self, multiple):
        """Fills the batch up: the tokens that do are a sequence of their own, the losses weigh 0; see pad_batch."""
        more_tokens, more_losses = (-len(array) % multiple for array in (self.input_ids, self.loss_positions))
        more = {"input_ids": more_tokens, "position_ids": more_tokens, "token_keys": more_tokens,
                "loss_positions": more_losses, "loss_targets": more_losses, "loss_weights": more_losses}
        return replace(self, offsets=np.append(self.offsets, self.offsets[-1] + np.int32(more_tokens)),
                       length=self.length + -self.length % multiple,
                       **{name: np.pad(getattr(self, name), (0, count)) for name, count in more.items()})


def read_rows(path):
    """Reads an encoded data set, one ``{"context": ids, "completion": ids}`` a line.

    Raises:
        UserError: the file is missing or empty, or a line holds something else; with file and line.
    """
    rows = []
    for _, record in read_encoded(path):
        rows.append(Row(record["context"], record["completion"]))
    if not rows:
        raise UserError(f"{path}: no rows in it")
    return rows


def first_loss(row, objective):
    """Returns the position of the first token of a Row that carries a loss, by ``--obj``."""
    return 0 if objective == "jlm" else len(row.context) - 1


def read_usable_rows(path, seq_len, objective="clm"):
    """Reads an encoded data set as read_rows; says how many rows have nothing to predict, or lose their end.

    Raises:
        UserError: as read_rows, or no row has a token to predict.
    """
    rows = read_rows(path)
    lengths = [len(row.context) + len(row.completion) for row in rows]
    idle = [line for line, (row, length) in enumerate(zip(rows, lengths), 1)
            if min(length, seq_len) <= first_loss(row, objective) + 1]
    reason = f"their completion is empty, or their context has --seq_len {seq_len} tokens or more"
    if len(idle) == len(rows):
        raise UserError(f"{path}: none of its {len(rows)} rows has a token to predict: {reason}")
    if idle:
        note(f"{path}: {len(idle)} of {len(rows)} rows have no token to predict, the first in line {idle[0]}: {reason}")
    cut = sum(length > seq_len for length in lengths)
    if cut:
        note(f"{path}: {cut} of {len(rows)} rows are longer than --seq_len {seq_len} and lose their end")
    return rows


def pack(sequences):
    """Returns lists of token ids, none of them empty, as Packed."""
    lengths = [len(sequence) for sequence in sequences]
    return Packed(np.concatenate(sequences).astype(np.int32),
                  np.concatenate([np.arange(length, dtype=np.int32) for length in lengths]),
                  np.cumsum([0, *lengths], dtype=np.int32), max(lengths))


def converted(batch, convert):
    """Returns a Packed or a Batch with each of its arrays through ``convert``."""
    return replace(batch, **{name: convert(value) for name, value in vars(batch).items()
                             if isinstance(value, np.ndarray)})


NO_STEP = np.zeros(1, np.int32)


def count_targets(row, seq_len, objective="clm"):
    """Returns how many tokens of a Row are to be predicted."""
    return max(min(len(row.context) + len(row.completion), seq_len) - first_loss(row, objective) - 1, 0)


def make_batch(rows, seq_len, objective="clm", batch_size=None, step_key=NO_STEP, first_row=0, targets=None):
    """Builds the arrays of some rows.

    The loss of a batch is the mean over its targets, by the original program's denominator: their number and 0.0001.

    Args:
        rows: list of Row.
        seq_len: a longer row loses its end.
        objective: ``clm`` puts the loss on the completion, ``jlm`` on context and completion.
        batch_size: the rows are batches of so many, whose losses add up; by default one batch.
        step_key: of common.run.dropout.step_key; there is none without dropout.
        first_row: index of the first row in the whole batch, of which these may be a part.
        targets: number of targets of the whole batch, where these rows are a part of one; the losses of all parts add
            up to its loss.

    Returns:
        Batch.
    """
    sequences = [(row.context + row.completion)[:seq_len] for row in rows]
    packed = pack(sequences)
    positions, tokens, counts = [], [], []
    for row, sequence, start in zip(rows, sequences, packed.offsets.tolist()):
        first = first_loss(row, objective)
        predicted = sequence[first + 1:]
        positions.extend(range(start + first, start + first + len(predicted)))
        tokens.extend(predicted)
        counts.append(len(predicted))
    batch_counts = np.add.reduceat(counts, range(0, len(rows), batch_size or len(rows)))
    weights = np.repeat(1.0 / ((batch_counts if targets is None else targets) + 0.0001), batch_counts)
    return Batch(**vars(packed), loss_positions=np.array(positions, np.int32),
                 loss_targets=np.array(tokens, np.int32), loss_weights=weights, step_key=step_key,
                 token_keys=token_keys(np.repeat(np.arange(first_row, first_row + len(rows)), np.diff(packed.offsets)),
                                       packed.position_ids))


def pad_batch(batch, multiple):
    """Fills a batch up so that few shapes occur: a GPU prepares its work once for each.

    Args:
        batch: one of a class with a method ``padded``.
        multiple: the numbers of tokens and of losses and ``length`` are rounded up to multiples of this.

    Returns:
        A batch of that class with the same loss.
    """
    return batch.padded(multiple)


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


def rows_of_step(row_count, batch_size, seed, step, shuffle=True):
    """Returns the indices of the rows in the batch of a training step; steps are counted from 1 on."""
    return next(seeded_order(row_count, batch_size, seed, shuffle, step - 1))[-1]


def seeded_order(row_count, batch_size, seed, shuffle=True, done=0):
    """Yields ``(epoch, index, step, row indices)`` of batches without end, all from 1 on, behind ``done`` batches."""
    epochs_done, batches_done = divmod(done, batches_per_epoch(row_count, batch_size))
    for epoch in itertools.count(epochs_done + 1):
        order = epoch_order(row_count, batch_size, seed, epoch, shuffle)
        for index in range(batches_done, len(order)):
            done += 1
            yield epoch, index + 1, done, order[index]
        batches_done = 0


def training_batches(rows, batch_size, seq_len, objective, seed, shuffle=True, done=0, part=0, parts=1):
    """Yields ``(epoch, index, Batch)`` without end, both from 1 on, after the first ``done`` batches of the run.

    Of each batch these are the rows of one of ``parts`` equal parts; the losses of all add up to the batch's loss.
    """
    share = batch_size // parts
    for epoch, index, step, indices in seeded_order(len(rows), batch_size, seed, shuffle, done):
        whole = [rows[row] for row in indices]
        yield epoch, index, make_batch(whole[part * share:(part + 1) * share], seq_len, objective,
                                       step_key=step_key(seed, step), first_row=part * share,
                                       targets=sum(count_targets(row, seq_len, objective) for row in whole))


def validation_batches(rows, batch_size, seq_len, seed, most_tokens=1024, part=0, parts=1):
    """Yields the batches of a data set in one seeded order, the last of them filled up, several at a time.

    The loss is on the completion, whatever training's is. A processor works best on many tokens; the loss of what is
    yielded is the sum of the batches' losses.

    Args:
        rows, batch_size, seq_len: as for make_batch.
        seed: of the run; every pass has the same order.
        most_tokens: batches are put together up to so many tokens.
        part, parts: of what would be yielded, every ``parts``-th is, from number ``part`` on.
    """
    for number, together in enumerate(_rows_put_together(rows, batch_size, seq_len, seed, most_tokens)):
        if number % parts == part:
            yield make_batch(together, seq_len, batch_size=batch_size)


def _rows_put_together(rows, batch_size, seq_len, seed, most_tokens):
    """Yields the lists of rows of validation_batches."""
    together, tokens = [], 0
    for indices in epoch_order(len(rows), batch_size, seed, epoch=0):
        more = [rows[index] for index in indices]
        count = sum(min(len(row.context) + len(row.completion), seq_len) for row in more)
        if together and tokens + count > most_tokens:
            yield together
            together, tokens = [], 0
        together, tokens = together + more, tokens + count
    yield together
