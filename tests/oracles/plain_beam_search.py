"""A slow, plain beam search over one context, written from the definition; the oracle of the fast one.

Every step recomputes the whole sequence with the model it is given and sorts the whole vocabulary.
"""

import numpy as np


def log_softmax(logits):
    shifted = logits - logits.max()
    return shifted - np.log(np.exp(shifted).sum())


def next_log_probabilities(logits, generated, settings):
    """Penalty, then the minimum length, then the n-gram ban, then log-softmax; ``logits (vocabulary,)`` float64."""
    logits = logits.astype(np.float64).copy()
    if settings.repetition_penalty != 1.0:
        for token in set(generated):
            if logits[token] < 0:
                logits[token] *= settings.repetition_penalty
            else:
                logits[token] /= settings.repetition_penalty
    if len(generated) < settings.min_length:
        for token in settings.eos_token_id:
            logits[token] = -np.inf
    size = settings.no_repeat_ngram_size
    if size > 0:
        seen = {tuple(generated[start:start + size]) for start in range(len(generated) - size + 1)}
        for token in range(len(logits)):
            if len(generated) >= size - 1 and tuple(generated[len(generated) - size + 1:] + [token]) in seen:
                logits[token] = -np.inf
    return log_softmax(logits)


def plain_search(logits_of, context, settings):
    """Runs all eval_len steps without an early stop.

    Args:
        logits_of: function of a list of token ids to the logits ``(vocabulary,)`` behind its last.
        context: list of token ids.
        settings: SearchSettings.

    Returns:
        The best hypothesis, a list of token ids, and its score.
    """
    hypotheses, best_score, best = [([], 0.0)], -np.inf, None
    for step in range(1, settings.eval_len + 1):
        expanded = []
        for rank, (generated, score) in enumerate(hypotheses):
            if score == -np.inf:
                continue
            for token, value in enumerate(next_log_probabilities(logits_of(context + generated), generated, settings)):
                expanded.append((-(score + value), rank, token))
        expanded.sort()
        chosen = expanded[:settings.beam]
        if not chosen:
            break
        hypotheses = [(hypotheses[rank][0] + [token], -negative) for negative, rank, token in chosen]
        for index, (generated, score) in enumerate(hypotheses):
            if generated[-1] in settings.eos_token_id or step == settings.eval_len:
                final = score / step ** settings.length_penalty
                if best is None or final > best_score:
                    best_score, best = final, generated
                hypotheses[index] = (generated, -np.inf)
    return best, best_score
