"""Beam search over encoded contexts; ``python src/gpt2_beam.py --help`` lists the flags."""

import numpy as np
import torch

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
        # Few different sizes, so that the allocator can hand out again what the last step has left.
        room = -(-(self.step + 1) // 16) * 16

        def extended(cache):
            heads, head_width = cache.shape[1], cache.shape[3]
            result = cache.new_empty(len(origins), heads, room, head_width)[:, :, :self.step + 1]
            if self.step > 0:
                torch.index_select(cache, 0, origins, out=result[:, :, :self.step])
            return result

        generated = self.generated or list(self.prompt)
        for layer, caches in enumerate(generated):
            generated[layer] = tuple(map(extended, caches))
        self.generated = generated


def read_prompt(model, packed):
    """Reads the contexts of a Packed; returns the State and the logits behind each."""
    lengths = device.from_numpy(np.diff(packed.offsets))
    with torch.no_grad():
        logits, prompt, prompt_mask = model.prompt(converted(packed, device.from_numpy), lengths)
    return State(lengths, prompt, prompt_mask), logits


def advance(model, state, tokens, origins):
    """Continues row ``origins[i]`` with ``tokens[i]``; returns logits ``(rows, vocabulary)``."""
    rows, contexts = len(tokens), len(state.lengths)
    tokens, origins = device.from_numpy(tokens), device.from_numpy(origins)
    positions = state.lengths.repeat_interleave(rows // contexts) + state.step
    with torch.no_grad():
        state.reorder(origins)
        logits, state.generated = model.decode(tokens, positions, state.prompt, state.generated, state.prompt_mask)
    state.step += 1
    return logits


def best(log_probabilities, count):
    """Returns the ``count`` highest values of each row and their places, best first."""
    return log_probabilities.topk(count, dim=1)


def top_tokens(logits, penalised, banned, repetition_penalty, count):
    """Applies penalties and bans to the logits and returns the best log-probabilities and tokens, as numpy.

    A penalised logit is divided by the penalty where positive and multiplied where negative (Keskar et al. 2019,
    section 4.1, in the form that makes a repetition less likely for either sign).
    """
    with torch.no_grad():
        if len(penalised[0]):
            rows, tokens = device.from_numpy(penalised[0]), device.from_numpy(penalised[1])
            chosen = logits[rows, tokens]
            logits[rows, tokens] = torch.where(chosen < 0, chosen * repetition_penalty, chosen / repetition_penalty)
        if len(banned[0]):
            logits[device.from_numpy(banned[0]), device.from_numpy(banned[1])] = MASKED
        log_probabilities, tokens = best(torch.log_softmax(logits, dim=1), count)
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
