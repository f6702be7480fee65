"""The operations of this folder that have a gradient, each with it; kernels.py has the functions that call them.

tests/jittor/test_kernels.py holds each to its formula in float64. Arrays are float32 and indices int32.
"""

import functools

import jittor as jt
import numpy as np

import device
from kernel_sources.launch import run, scratch


def dropout_numbers(dropout):
    """Returns what a source needs of a common.run.dropout.Dropout; where that is None, what drops nothing."""
    if dropout is None:
        return {"stream": 0, "threshold": 0, "kept_factor": 0}
    return {"stream": dropout.stream, "threshold": dropout.threshold, "kept_factor": dropout.kept_factor}


@functools.lru_cache
def no_keys():
    """Returns an array in the place of keys that are not read; made once, for each new array costs time."""
    return jt.array(np.zeros(1, np.int32)).stop_grad()


def dropout_keys(dropout):
    """Returns the step's and the tokens' keys of a Dropout, or what stands for them where it is None."""
    return [no_keys(), no_keys()] if dropout is None else [dropout.step_key, dropout.token_keys]


class Dropped(jt.Function):
    """``(count, width)`` to the same, with the elements dropped that a common.run.dropout.Dropout names."""

    def execute(self, x, dropout):
        self.dropout = dropout
        result, = run(DROPPED, [x, *dropout_keys(dropout)], [x.shape], **dropout_numbers(dropout))
        return result

    def grad(self, gradient):
        return self.execute(gradient, self.dropout), None


class LayerNorm(jt.Function):
    """``(..., width)`` to the same: normalised over the last axis, variance in two passes, eps 1e-5."""

    def execute(self, x, weight, bias):
        rows = x.numel() // x.shape[-1]
        result, means, scales = run(
            "layer_norm_forward(in0_p, in1_p, in2_p, out0_p, out1_p, out2_p, out1_shape0, in1_shape0);",
            [x, weight, bias], [x.shape, (rows,), (rows,)])
        self.saved = x, weight, means, scales
        return result

    def grad(self, gradient):
        result, = run("layer_norm_backward(in0_p, in1_p, in2_p, in3_p, in4_p, out0_p, in3_shape0, in2_shape0);",
                      [gradient, *self.saved], [gradient.shape])
        return result, None, None


LINEAR = """
const int64_t from = in1_shape0, to = in1_shape1, rows = in0->num / from;
fill_rows(in2_p, out0_p, rows, to);
weight_product(in0_p, in1_p, out0_p, rows, from, to, false, 1.f, (int)data["precision"], (float*)out1_p);
"""
LINEAR_BACKWARD = """
const int64_t from = in1_shape0, to = in1_shape1, rows = in0->num / to;
weight_product(in0_p, in1_p, out0_p, rows, to, from, true, 0.f, (int)data["precision"], (float*)out1_p);
"""
LORA = """
const Lora lora = {(int)data["r"], (int)data["enabled"], (int)data["width"],
                   {(int)data["column0"], (int)data["column1"], (int)data["column2"]}, (float)data["scaling"]};
"""
DROPOUT = """
const Dropout dropout = make_dropout({step_key}, {token_keys}, data["stream"], data["threshold"], data["kept_factor"]);
"""
DROPPED = DROPOUT.format(step_key="in1_p", token_keys="in2_p") + """
dropout_apply(in0_p, out0_p, in0_shape0, in0_shape1, dropout);
"""
LORA_FORWARD = LINEAR + LORA + DROPOUT.format(step_key="in5_p", token_keys="in6_p") + """
lora_forward(in0_p, in3_p, in4_p, out2_p, out0_p, rows, from, to, lora, dropout);
"""
LORA_BACKWARD = LINEAR_BACKWARD + LORA + DROPOUT.format(step_key="in6_p", token_keys="in7_p") + """
lora_backward(in0_p, in2_p, in3_p, in4_p, in5_p, out0_p, out2_p, out3_p, out4_p, rows, from, to, lora, dropout);
"""


class Linear(jt.Function):
    """``x @ weight + bias``: ``(..., in)`` to ``(..., out)``; weight ``(in, out)`` of kernels.frozen."""

    def execute(self, x, weight, bias):
        self.weight = weight
        result, _ = run(LINEAR, [x, weight, bias], [(*x.shape[:-1], weight.shape[1]), scratch(x.shape)])
        return result

    def grad(self, gradient):
        result, _ = run(LINEAR_BACKWARD, [gradient, self.weight],
                        [(*gradient.shape[:-1], self.weight.shape[0]), scratch(gradient.shape)])
        return result, None, None


class LoraLinear(jt.Function):
    """Linear with LoRA's update on some of the projections that lie side by side in its output.

    ``x @ weight + bias + scaling * dropout(x) @ A.T @ B.T`` (Hu et al. 2021, section 4.1, equation 3), A and B of each
    projection that has an update.

    Args:
        x, weight, bias: as for Linear.
        lora_A: ``(enabled * r, in)``.
        lora_B: ``(enabled * width, r)``, where ``width`` is that of one projection.
        columns: which projections have an update, 3 at most.
        scaling: alpha / r.
        dropout: common.run.dropout.Dropout of the update's inputs, or None.
    """

    def execute(self, x, weight, bias, lora_A, lora_B, columns, scaling, dropout):
        r = lora_B.shape[1]
        self.numbers = {"r": r, "enabled": len(columns), "width": lora_B.shape[0] // len(columns), "scaling": scaling,
                        **{f"column{i}": (*columns, 0, 0)[i] for i in range(3)},
                        **dropout_numbers(dropout)}
        self.keys = dropout_keys(dropout)
        result, _, reduced = run(LORA_FORWARD, [x, weight, bias, lora_A, lora_B, *self.keys],
                                 [(*x.shape[:-1], weight.shape[1]), scratch(x.shape),
                                  (x.numel() // x.shape[-1], lora_A.shape[0])], **self.numbers)
        self.saved = weight, x, lora_A, lora_B, reduced
        return result

    def grad(self, gradient):
        _, x, lora_A, lora_B, reduced = self.saved
        dx, _, d_lora_A, d_lora_B, _ = run(
            LORA_BACKWARD, [gradient, *self.saved, *self.keys],
            [x.shape, scratch(gradient.shape), lora_A.shape, lora_B.shape, reduced.shape], **self.numbers)
        return dx, None, None, d_lora_A, d_lora_B, None, None, None


class Gelu(jt.Function):
    """The tanh approximation of GELU, elementwise."""

    def execute(self, x):
        self.x = x
        result, = run("gelu_forward(in0_p, out0_p, in0->num);", [x], [x.shape])
        return result

    def grad(self, gradient):
        result, = run("gelu_backward(in0_p, in1_p, out0_p, in0->num);", [gradient, self.x], [gradient.shape])
        return result


ATTENTION = """
const int64_t heads = (int64_t)data["heads"], length = (int64_t)data["length"], batch = in0_shape0 - 1;
const int64_t count = in1_shape0, head_width = in1_shape1 / 3 / heads;
"""
ATTENTION_FORWARD = ATTENTION + """
attention_forward(in1_p, in0_p, out0_p, out1_p, count, batch, length, heads, head_width);
"""
ATTENTION_BACKWARD = ATTENTION + """
attention_backward(in4_p, in1_p, in0_p, in2_p, in3_p, out0_p, out1_p, count, batch, length, heads, head_width);
"""


class Attention(jt.Function):
    """Causal self-attention over sequences that lie one after another.

    Args:
        fused: ``(count, 3 * width)``, queries, keys and values side by side, each ``(heads, head_width)``.
        heads: number of heads.
        offsets, length: of common.run.batching.Packed.

    Returns:
        ``(count, width)``.
    """

    def execute(self, fused, heads, offsets, length):
        count, width = fused.shape
        # A processor keeps the softmax, a GPU the logarithm of its denominator.
        kept = (heads, count) if jt.flags.use_cuda else (offsets.shape[0] - 1, heads, length, length)
        self.numbers = {"heads": heads, "length": length}
        result, softmax = run(ATTENTION_FORWARD, [offsets, fused], [(count, width // 3), kept], **self.numbers)
        self.saved = offsets, fused, result, softmax
        return result

    def grad(self, gradient):
        result, _ = run(ATTENTION_BACKWARD, [*self.saved, gradient], [self.saved[1].shape, self.saved[3].shape],
                        **self.numbers)
        return result, None, None, None


class TakeRows(jt.Function):
    """Rows ``indices`` of ``x (..., width)``, as ``(count, width)``; where one comes twice its gradients add up."""

    def execute(self, x, indices):
        self.shape, self.indices = x.shape, indices
        result, = run("take_rows(in1_p, in0_p, out0_p, out0_shape0, out0_shape1);", [x, indices],
                      [(indices.shape[0], x.shape[-1])])
        return result

    def grad(self, gradient):
        result, = run("add_rows(in1_p, in0_p, out0_p, in0_shape0, out0->num / in0_shape1, in0_shape1);",
                      [gradient, self.indices], [self.shape])
        return result, None


TOKEN_LOSSES = """
const int precision = (int)data["precision"];
const int64_t rows = in0_shape0, width = in0_shape1, vocabulary = in1_shape0, chunk = out2_shape0;
for (int64_t first = 0; first < rows; first += chunk) {
    const int64_t count = rows - first < chunk ? rows - first : chunk;
    weight_product(in0_p + first * width, in1_p, out2_p, count, width, vocabulary, true, 0.f, precision,
                   (float*)out3_p);
    cross_entropy_rows(out2_p, in2_p + first, out0_p + first, count, vocabulary, (float)data["smoothing"],
                       data["gradient"] > 0, (float)data["scale"]);
    if (data["gradient"] > 0)
        weight_product(out2_p, in1_p, out1_p + first * width, count, vocabulary, width, false, 0.f, precision,
                       (float*)out3_p);
}
"""


class TokenLosses(jt.Function):
    """Label-smoothed cross-entropy of the logits ``hidden @ embedding.T``: ``(count, width)`` to ``(count,)``.

    Logits exist for a few rows at a time; the losses' slopes are taken at once, for the embedding needs none.

    Args:
        hidden: ``(count, width)``.
        embedding: ``(vocabulary, width)`` of kernels.frozen.
        targets: ``(count,)``.
        smoothing: share of the loss that is the mean over the vocabulary.
    """

    def execute(self, hidden, embedding, targets, smoothing):
        chunk = min(hidden.shape[0], 256 if jt.flags.use_cuda else 64), embedding.shape[0]
        # fp16 has no numbers as small as most of a softmax's
        self.scale = 1024.0 if device.precision() == "fp16" else 1.0
        losses, self.slopes, _, _ = run(
            TOKEN_LOSSES, [hidden, embedding, targets], [targets.shape, hidden.shape, chunk, scratch(chunk)],
            smoothing=smoothing, gradient=not jt.flags.no_grad, scale=self.scale)
        return losses

    def grad(self, gradient):
        return self.slopes * (gradient * (1.0 / self.scale)).unsqueeze(1), None, None, None
