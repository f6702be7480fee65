"""Beam search over encoded contexts; ``python src/gpt2_beam.py --help`` lists the flags."""

import jittor_setup  # noqa: F401  decides the environment before Jittor is imported

import jittor as jt
import numpy as np

from common.errors import run_main
from common.run.arguments import beam_arguments
from common.run.batching import converted
from common.run.beam_search import Decoder, run_search

import device
from model import MASKED, GPT2LMModel


class State:
    """What the model remembers of the hypotheses: the contexts' cache once, the generated tokens' for each row."""

    def __init__(self, lengths, prompt, prompt_mask):
        self.lengths, self.prompt, self.prompt_mask = lengths, prompt, prompt_mask
        self.generated, self.step = None, 0

    def reorder(self, origins):
        """Makes row ``i`` continue what was row ``origins[i]``, with a free place for one more token."""
        def extended(cache):
            kept = cache[origins] if self.step > 0 else None
            if self.step % 16 > 0:
                return kept
            room = jt.zeros((len(origins), cache.shape[1], 16, cache.shape[3]))
            return room if kept is None else jt.concat([kept, room], dim=2)

        if self.step % 16 == 0:
            jt.gc()  # Jittor keeps the memory of every size that was in use
        self.generated = [(extended(keys), extended(values), self.step)
                          for keys, values, *_ in self.generated or self.prompt]


def read_prompt(model, packed):
    """Reads the contexts of a Packed; returns the State and the logits behind each."""
    lengths = device.from_numpy(np.diff(packed.offsets))
    with jt.no_grad():
        logits, prompt, prompt_mask = model.prompt(converted(packed, device.from_numpy), lengths)
    return State(lengths, prompt, prompt_mask), logits


def advance(model, state, tokens, origins):
    """Continues row ``origins[i]`` with ``tokens[i]``; returns logits ``(rows, vocabulary)``."""
    rows, contexts = len(tokens), len(state.lengths)
    tokens, origins = device.from_numpy(tokens), device.from_numpy(origins)
    positions = jt.repeat_interleave(state.lengths, rows // contexts, 0) + state.step
    with jt.no_grad():
        state.reorder(origins)
        logits, state.generated = model.decode(tokens, positions, state.prompt, state.generated, state.prompt_mask)
    state.step += 1
    return logits


def best(log_probabilities, count):
    """Returns the ``count`` highest values of each row and their places, best first.

    Repeated argmax: Jittor's topk sorts the whole row, a hundred times slower for a vocabulary.
    """
    rows = jt.arange(log_probabilities.shape[0])
    values, places = [], []
    for _ in range(count):
        place, value = jt.argmax(log_probabilities, dim=1)
        values.append(value)
        places.append(place)
        log_probabilities = log_probabilities.clone()
        log_probabilities[rows, place] = 2.0 * MASKED
    return jt.stack(values, dim=1), jt.stack(places, dim=1)


def log_softmax(logits):
    """Log-probabilities of each row; the sum over the vocabulary runs in float64."""
    shifted = logits - logits.max(dim=1, keepdims=True)
    return shifted - shifted.exp().float64().sum(1).float32().log().reshape(-1, 1)


def top_tokens(logits, penalised, banned, repetition_penalty, count):
    """Applies penalties and bans to the logits and returns the best log-probabilities and tokens, as numpy.

    A penalised logit is divided by the penalty where positive and multiplied where negative (Keskar et al. 2019,
    section 4.1, in the form that makes a repetition less likely for either sign).
    """
    with jt.no_grad():
        if len(penalised[0]):
            rows, tokens = device.from_numpy(penalised[0]), device.from_numpy(penalised[1])
            chosen = logits[rows, tokens]
            logits[rows, tokens] = jt.ternary(chosen < 0, chosen * repetition_penalty, chosen / repetition_penalty)
        if len(banned[0]):
            logits[device.from_numpy(banned[0]), device.from_numpy(banned[1])] = MASKED
        log_probabilities, tokens = best(log_softmax(logits), count)
    return device.to_numpy(log_probabilities), device.to_numpy(tokens)


def build_decoder(card, arrays):
    """Returns the Decoder of the plain model with these arrays, ``{name: float32 array}``."""
    model = GPT2LMModel(card)
    model.load_arrays(arrays)
    model = device.to_device(model)
    return Decoder(prompt=lambda packed: read_prompt(model, packed),
                   advance=lambda *inputs: advance(model, *inputs), top_tokens=top_tokens)


def main(argv):
    arguments = beam_arguments(argv, __doc__)
    device.set_up(arguments.device, arguments.random_seed, arguments.precision)
    run_search(arguments, build_decoder, device.describe, device.peak_memory_bytes)


if __name__ == "__main__":
    run_main(main)
