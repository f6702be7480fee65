"""Beam search on the host: which hypotheses go on, which end, and when none can win any more.

The framework computes logits and the best few tokens of each hypothesis; the rest is small and is done here in numpy,
once for both frameworks. Rows of hypotheses are ordered by context, then by rank in the beam.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from common.run.batching import pack
from common.vocabulary import END_OF_TEXT


@dataclass(frozen=True)
class SearchModel:
    """What a framework does for the search.

    Attributes:
        prompt: ``(Packed of the contexts) -> (state, logits)``; logits ``(contexts, vocabulary)`` stay on the device.
        advance: ``(state, tokens (rows,) int32, origins (rows,) int32) -> logits (rows, vocabulary)``; hypothesis
            ``i`` continues what was row ``origins[i]`` with ``tokens[i]``. At the first call, ``origins[i]`` is a row
            of ``prompt`` and each context has its beam for the first time.
        top_tokens: ``(logits, penalised, banned, repetition_penalty, count) -> (log_probabilities, tokens)``, numpy
            arrays ``(rows, count)`` float32 and int, best first. ``penalised`` and ``banned`` are pairs of int32
            arrays (rows, tokens).
        peak_memory_bytes: ``() -> peak memory so far``.
        description: ``{framework, version, device, precision}``.
    """

    prompt: Callable
    advance: Callable
    top_tokens: Callable
    peak_memory_bytes: Callable
    description: dict


@dataclass(frozen=True)
class SearchSettings:
    """The flags that decide a search; see ``--help`` of gpt2_beam.py."""

    beam: int
    eval_len: int
    length_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    repetition_penalty: float = 1.0
    min_length: int = 0
    eos_token_id: tuple = (END_OF_TEXT,)

    @classmethod
    def of(cls, arguments):
        """Takes the settings from a namespace of beam_arguments."""
        fields = {name: getattr(arguments, name) for name in cls.__dataclass_fields__}
        return cls(**{**fields, "eos_token_id": tuple(arguments.eos_token_id)})


def banned_by_ngrams(history, size):
    """Finds the tokens that would complete an n-gram which the hypothesis already holds.

    Args:
        history: ``(rows, step)`` int, the generated tokens.
        size: n; 0 bans nothing.

    Returns:
        Pair of int arrays: rows and the token banned for each.
    """
    step = history.shape[1]
    if size == 0 or step < size:
        nothing = np.zeros(0, np.int64)
        return nothing, nothing
    windows = np.lib.stride_tricks.sliding_window_view(history, size, axis=1)
    tail = history[:, step - size + 1:]
    rows, places = np.nonzero((windows[:, :, :-1] == tail[:, None, :]).all(axis=2))
    return rows, windows[rows, places, -1]


def constraints(history, settings):
    """Returns the (rows, tokens) pairs to penalise and to ban, as int32 arrays, before the next token."""
    rows, step = history.shape
    penalised = (np.zeros(0, np.int32), np.zeros(0, np.int32))
    if settings.repetition_penalty != 1.0:
        penalised = (np.repeat(np.arange(rows, dtype=np.int32), step), history.reshape(-1).astype(np.int32))
    banned_rows, banned_tokens = banned_by_ngrams(history, settings.no_repeat_ngram_size)
    if step < settings.min_length:
        eos = np.array(settings.eos_token_id)
        banned_rows = np.concatenate([banned_rows, np.repeat(np.arange(rows), len(eos))])
        banned_tokens = np.concatenate([banned_tokens, np.tile(eos, rows)])
    return penalised, (banned_rows.astype(np.int32), banned_tokens.astype(np.int32))


def choose(scores, log_probabilities, tokens, beam):
    """Takes the best ``beam`` continuations of each context; on ties the lower hypothesis, then the lower token.

    Args:
        scores: ``(contexts, hypotheses)`` float32 running scores.
        log_probabilities, tokens: ``(contexts, hypotheses, count)`` the best tokens of each hypothesis.

    Returns:
        Scores, hypothesis and token of each choice, ``(contexts, beam)``.
    """
    contexts, hypotheses, count = tokens.shape
    totals = (scores[:, :, None] + log_probabilities).reshape(contexts, -1)
    origins = np.broadcast_to(np.arange(hypotheses)[None, :, None], tokens.shape).reshape(contexts, -1)
    flat_tokens = tokens.reshape(contexts, -1)
    order = np.lexsort((flat_tokens, origins, -totals), axis=-1)[:, :beam]
    return tuple(np.take_along_axis(array, order, axis=1) for array in (totals, origins, flat_tokens))


class Candidates:
    """The best finished hypothesis of each context; an earlier one stays on ties."""

    def __init__(self, contexts, settings):
        self.scores = np.full(contexts, -np.inf)
        self.outputs = [None] * contexts
        self.settings = settings

    def offer(self, scores, history, finished):
        """Takes in hypotheses ``finished (contexts, beam)`` with their sums of log-probabilities."""
        step = history.shape[-1]
        for context, rank in zip(*np.nonzero(finished)):
            score = float(scores[context, rank]) / step ** self.settings.length_penalty
            if self.outputs[context] is None or score > self.scores[context]:
                self.scores[context] = score
                self.outputs[context] = history[context, rank].copy()

    def can_improve(self, scores, step):
        """Returns ``(contexts,)`` bool: whether a live hypothesis might still win.

        Scores only fall, so the best that one can reach is its present sum over the length at which the penalty
        is kindest: eval_len, or the next step's where the penalty is negative.
        """
        best_length = self.settings.eval_len if self.settings.length_penalty >= 0 else step + 1
        bound = scores.max(axis=1).astype(np.float64) / best_length ** self.settings.length_penalty
        return bound > self.scores


def search(model, contexts, settings):
    """Decodes some contexts at once.

    Args:
        model: SearchModel.
        contexts: list of lists of token ids.
        settings: SearchSettings.

    Returns:
        List of int arrays, the best hypothesis of each context (its end token included), and their scores
        ``sum log p / length^length_penalty`` (Wu et al. 2016, section 7, with the plain power of the length).
    """
    beam, eos = settings.beam, np.array(settings.eos_token_id)
    state, logits = model.prompt(pack(contexts))
    history = np.zeros((len(contexts), 1, 0), np.int64)
    scores = np.zeros((len(contexts), 1), np.float32)
    candidates = Candidates(len(contexts), settings)
    for step in range(settings.eval_len):
        hypotheses = history.shape[1]
        penalised, banned = constraints(history.reshape(len(contexts) * hypotheses, step), settings)
        log_probabilities, tokens = model.top_tokens(logits, penalised, banned, settings.repetition_penalty, beam)
        shape = (len(contexts), hypotheses, beam)
        scores, origins, tokens = choose(scores, log_probabilities.reshape(shape), tokens.reshape(shape), beam)
        history = np.concatenate([np.take_along_axis(history, origins[:, :, None], axis=1), tokens[:, :, None]], axis=2)
        finished = np.isin(tokens, eos)
        candidates.offer(scores, history, finished)
        scores = np.where(finished, np.float32(-np.inf), scores)
        if step + 1 == settings.eval_len or not candidates.can_improve(scores, step + 1).any():
            break
        rows = origins + np.arange(len(contexts))[:, None] * hypotheses
        logits = model.advance(state, tokens.reshape(-1).astype(np.int32), rows.reshape(-1).astype(np.int32))
    candidates.offer(scores, history, np.isfinite(scores) if step + 1 == settings.eval_len else np.zeros_like(finished))
    return candidates.outputs, candidates.scores
