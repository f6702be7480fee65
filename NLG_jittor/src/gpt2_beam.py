"""Beam search over encoded contexts; ``python src/gpt2_beam.py --help`` lists the flags."""

import jittor_setup  # noqa: F401  decides the environment before Jittor is imported

from functools import partial

import jittor as jt
import numpy as np

from common.run.arguments import beam_arguments
from common.run.batching import converted
from common.run.beam_search import SearchModel
from common.run.processes import run_main
from common.run.searching import load_merged, run_search

import device
import kernels
import process_group
from model import GPT2LMModel

GROWTH = 16  # positions by which the cache grows: few different sizes, so that their memory is used again


class State:
    """What the model remembers of the hypotheses: the contexts' cache once, the generated tokens' for each row."""

    def __init__(self, lengths, prompt, prompt_mask):
        self.lengths, self.prompt, self.prompt_mask = lengths, prompt, prompt_mask
        self.generated, self.step = None, 0

    def reorder(self, origins):
        """Makes row ``i`` continue what was row ``origins[i]``, with a free position for one more token."""
        def extended(cache):
            kept = cache[origins] if self.step > 0 else None
            if self.step % GROWTH > 0:
                return kept
            room = jt.zeros((len(origins), cache.shape[1], GROWTH, cache.shape[3]), dtype=cache.dtype)
            return room if kept is None else jt.concat([kept, room], dim=2)

        if self.step % GROWTH == 0:
            jt.gc()  # Jittor keeps the memory of every size that was in use
        generated = self.generated or list(self.prompt)
        for layer, (keys, values, *_) in enumerate(generated):  # the old ones go layer by layer, not all at the end
            generated[layer] = extended(keys), extended(values), self.step
        self.generated = generated


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
    positions = jt.repeat_interleave(state.lengths, rows // contexts, dim=0) + state.step
    with jt.no_grad():
        state.reorder(origins)
        logits, state.generated = model.decode(tokens, positions, state.prompt, state.generated, state.prompt_mask)
    state.step += 1
    return logits


def top_tokens(logits, penalised, banned, repetition_penalty, count):
    """Applies penalties and bans to the logits and returns the best log-probabilities and tokens, as numpy.

    A penalised logit is divided by the penalty where positive and multiplied where negative (Keskar et al. 2019,
    section 4.1, in the form that makes a repetition less likely for either sign).
    """
    with jt.no_grad():
        if len(penalised[0]):
            rows, tokens = device.from_numpy(penalised[0]), device.from_numpy(penalised[1])
            chosen, penalty = logits[rows, tokens], device.number(repetition_penalty)
            logits[rows, tokens] = jt.ternary(chosen < 0, chosen * penalty, chosen / penalty)
        if len(banned[0]):
            logits[device.from_numpy(banned[0]), device.from_numpy(banned[1])] = kernels.MASKED
        log_probabilities, tokens = kernels.top_k(kernels.log_softmax(logits), count)
    return device.to_numpy(log_probabilities), device.to_numpy(tokens)


def build_search_model(card, arrays):
    """Returns the SearchModel of the plain model with these arrays, ``{name: float32 array}``."""
    model = GPT2LMModel(card)
    model.load_arrays(arrays)
    model = device.to_device(model)
    return SearchModel(prompt=partial(read_prompt, model), advance=partial(advance, model), top_tokens=top_tokens,
                       peak_memory_bytes=device.peak_memory_bytes, description=device.describe())


def prepare(arguments):
    """Returns the SearchModel of a run: device and weights as the flags say."""
    device.set_up(arguments.device, arguments.random_seed, arguments.precision)
    return build_search_model(arguments.card, load_merged(arguments))


def main(argv):
    arguments = beam_arguments(argv, __doc__)
    process_group.join()
    run_search(arguments, prepare)


if __name__ == "__main__":
    run_main(main)
