"""Self-attention over sequences that lie one after another, with its gradient."""

import jittor as jt

from kernel_sources.functions import DROPOUT, dropout_keys, dropout_numbers
from kernel_sources.launch import run

ATTENTION = """
const int64_t heads = (int64_t)data["heads"], length = (int64_t)data["length"], batch = in0_shape0 - 1;
const int64_t count = in1_shape0, head_width = in1_shape1 / 3 / heads;
"""
ATTENTION_FORWARD = ATTENTION + DROPOUT.format(step_key="in2_p", token_keys="in3_p") + """
attention_forward(in1_p, in0_p, out0_p, out1_p, count, batch, length, heads, head_width, data["is_causal"] > 0,
                  dropout);
"""
ATTENTION_BACKWARD = ATTENTION + DROPOUT.format(step_key="in5_p", token_keys="in6_p") + """
attention_backward(in4_p, in1_p, in0_p, in2_p, in3_p, out0_p, out1_p, count, batch, length, heads, head_width,
                   data["is_causal"] > 0, dropout);
"""


class Attention(jt.Function):
    """Self-attention over sequences that lie one after another.

    Args:
        fused: ``(count, 3 * width)``, queries, keys and values side by side, each ``(heads, head_width)``.
        heads: number of heads.
        offsets, length: of common.run.batching.Packed.
        is_causal: whether a token sees itself and what comes before it alone; then no weight is dropped.
        dropout: common.run.dropout.Dropout of the weights, or None; the features of a query are ``key position * heads
            + head``.

    Returns:
        ``(count, width)``.
    """

    def execute(self, fused, heads, offsets, length, is_causal, dropout):
        count, width = fused.shape
        # A processor keeps the softmax, a GPU the logarithm of its denominator.
        kept = (heads, count) if jt.flags.use_cuda else (offsets.shape[0] - 1, heads, length, length)
        self.numbers = {"heads": heads, "length": length, "is_causal": is_causal, **dropout_numbers(dropout)}
        self.keys = dropout_keys(dropout)
        result, softmax = run(ATTENTION_FORWARD, [offsets, fused, *self.keys], [(count, width // 3), kept],
                              **self.numbers)
        self.saved = offsets, fused, result, softmax
        return result

    def grad(self, gradient):
        result, _ = run(ATTENTION_BACKWARD, [*self.saved, gradient, *self.keys],
                        [self.saved[1].shape, self.saved[3].shape], **self.numbers)
        return result, None, None, None, None, None
