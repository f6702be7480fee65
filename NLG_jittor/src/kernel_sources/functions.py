"""The operations of this folder that have a gradient, each with it; kernels.py has the functions that call them.

tests/jittor/test_kernels.py holds each to its formula in float64. Arrays are float32 and indices int32.
"""

import functools

import jittor as jt
import numpy as np

import device
from kernel_sources.launch import is_half, run, scratch


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


def softmax_rows(x, logarithm):
    """Returns the softmax over the last axis, or its logarithm; without a gradient.

    On a GPU Jittor's own exponential function of float64 is that of float32.
    """
    result, = run('softmax_rows(in0_p, out0_p, in0->num / (int64_t)data["width"], (int64_t)data["width"], '
                  'data["logarithm"] > 0);', [x], [x.shape], width=x.shape[-1], logarithm=logarithm)
    return result


LAYER_NORM_BACKWARD = """
layer_norm_backward(in0_p, in1_p, in2_p, in3_p, in4_p, out0_p, in3_shape0, in2_shape0);
"""
LAYER_NORM_WEIGHTS_BACKWARD = """
layer_norm_weights_backward(in0_p, in1_p, in3_p, in4_p, out1_p, out2_p, in3_shape0, in2_shape0);
"""


class LayerNorm(jt.Function):
    """``(..., width)`` to the same: normalised over the last axis, variance in two passes."""

    def execute(self, x, weight, bias, eps):
        rows = x.numel() // x.shape[-1]
        result, means, scales = run(
            "layer_norm_forward(in0_p, in1_p, in2_p, out0_p, out1_p, out2_p, out1_shape0, in1_shape0, "
            "(real)data[\"eps\"]);", [x, weight, bias], [x.shape, (rows,), (rows,)], eps=eps)
        self.saved, self.is_trained = (x, weight, means, scales), not weight.is_stop_grad()
        return result

    def grad(self, gradient):
        inputs, width = [gradient, *self.saved], self.saved[1].shape
        if self.is_trained:
            dx, d_weight, d_bias = run(LAYER_NORM_BACKWARD + LAYER_NORM_WEIGHTS_BACKWARD, inputs,
                                       [gradient.shape, width, width])
            return dx, d_weight, d_bias, None
        dx, = run(LAYER_NORM_BACKWARD, inputs, [gradient.shape])
        return dx, None, None, None


LINEAR = """
const int64_t from = in1_shape0, to = in1_shape1, rows = in0->num / from;
fill_rows(in2_p, out0_p, rows, to);
weight_product(in0_p, in1_p, out0_p, rows, from, to, false, 1.f, (int)data["precision"], (real*)out1_p);
"""
LINEAR_BACKWARD = """
const int64_t from = in1_shape0, to = in1_shape1, rows = in0->num / to;
weight_product(in0_p, in1_p, out0_p, rows, to, from, true, 0.f, (int)data["precision"], (real*)out1_p);
"""
LINEAR_WEIGHTS_BACKWARD = LINEAR_BACKWARD + """
linear_weights_backward(in2_p, in0_p, out2_p, out3_p, rows, from, to, (int)data["precision"]);
"""
LORA = """
const Lora lora = {(int)data["r"], (int)data["enabled"], (int)data["width"],
                   {(int)data["column0"], (int)data["column1"], (int)data["column2"]}, (real)data["scaling"]};
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


def rounded(weight):
    """Returns a weight as products want it; one that is trained is kept in float32 and rounded for each product."""
    if not is_half() or weight.dtype != "float32":
        return weight
    result, = run('round_weight(in0_p, out0_p, in0->num, (int)data["precision"]);', [weight],
                  [(weight.shape, "uint16" if jt.flags.use_cuda else "float32")])
    return result


class Linear(jt.Function):
    """``x @ weight + bias``: ``(..., in)`` to ``(..., out)``; weight ``(in, out)`` of kernels.frozen, or float32."""

    def execute(self, x, weight, bias):
        # What is not trained is not kept, nor are its inputs.
        self.x, self.weight = None if weight.is_stop_grad() else x, rounded(weight)
        result, _ = run(LINEAR, [x, self.weight, bias], [(*x.shape[:-1], weight.shape[1]), scratch(x.shape)])
        return result

    def grad(self, gradient):
        inputs, width = [gradient, self.weight], self.weight.shape[1]
        outputs = [(*gradient.shape[:-1], self.weight.shape[0]), scratch(gradient.shape)]
        if self.x is None:
            dx, _ = run(LINEAR_BACKWARD, inputs, outputs)
            return dx, None, None
        dx, _, d_weight, d_bias = run(LINEAR_WEIGHTS_BACKWARD, [*inputs, self.x],
                                      [*outputs, self.weight.shape, (width,)])
        return dx, d_weight, d_bias


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
                   (real*)out3_p);
    cross_entropy_rows(out2_p, in2_p + first, out0_p + first, count, vocabulary, (real)data["smoothing"],
                       data["gradient"] > 0, (real)data["scale"]);
    if (data["gradient"] > 0)
        weight_product(out2_p, in1_p, out1_p + first * width, count, vocabulary, width, false, 0.f, precision,
                       (real*)out3_p);
}
"""


TOKEN_LOSSES_BACKWARD = """
const int precision = (int)data["precision"];
const int64_t rows = in0_shape0, width = in0_shape1, vocabulary = in1_shape0, chunk = out2_shape0;
for (int64_t first = 0; first < rows; first += chunk) {
    const int64_t count = rows - first < chunk ? rows - first : chunk;
    weight_product(in0_p + first * width, in1_p, out2_p, count, width, vocabulary, true, 0.f, precision,
                   (real*)out3_p);
    cross_entropy_rows(out2_p, in2_p + first, out4_p + first, count, vocabulary, (real)data["smoothing"], true,
                       (real)data["scale"]);
    weight_product(out2_p, in1_p, out0_p + first * width, count, vocabulary, width, false, 0.f, precision,
                   (real*)out3_p);
    scale_rows(in3_p + first, out2_p, count, vocabulary);
    scale_rows(in3_p + first, out0_p + first * width, count, width);
    add_slopes(out2_p, in0_p + first * width, out1_p, count, vocabulary, width, first == 0, precision);
}
"""


class TokenLosses(jt.Function):
    """Label-smoothed cross-entropy of the logits ``hidden @ embedding.T``: ``(count, width)`` to ``(count,)``.

    Logits exist for a few rows at a time. The losses' slopes are taken at once where the embedding is frozen; where it
    is trained, its gradient needs the losses', and the backward pass makes the logits anew.

    Args:
        hidden: ``(count, width)``.
        embedding: ``(vocabulary, width)`` of kernels.frozen, or float32.
        targets: ``(count,)``.
        smoothing: share of the loss that is the mean over the vocabulary.
    """

    def execute(self, hidden, embedding, targets, smoothing):
        self.is_trained, embedding = not embedding.is_stop_grad(), rounded(embedding)
        self.chunk = min(hidden.shape[0], 256 if jt.flags.use_cuda else 64), embedding.shape[0]
        # fp16 has no numbers as small as most of a softmax's
        self.scale = 1024.0 if device.precision() == "fp16" else 1.0
        self.saved, self.smoothing = (hidden, embedding, targets), smoothing
        losses, self.slopes, _, _ = run(
            TOKEN_LOSSES, [hidden, embedding, targets],
            [targets.shape, (1,) if self.is_trained else hidden.shape, self.chunk, scratch(self.chunk)],
            smoothing=smoothing, gradient=not (jt.flags.no_grad or self.is_trained), scale=self.scale)
        if not self.is_trained:
            self.saved = None
        return losses

    def grad(self, gradient):
        gradient = gradient * (1.0 / self.scale)
        if not self.is_trained:
            return self.slopes * gradient.unsqueeze(1), None, None, None
        hidden, embedding, targets = self.saved
        d_hidden, d_embedding, *_ = run(
            TOKEN_LOSSES_BACKWARD, [hidden, embedding, targets, gradient],
            [hidden.shape, embedding.shape, self.chunk, scratch(self.chunk), targets.shape], smoothing=self.smoothing,
            scale=self.scale)
        return d_hidden, d_embedding, None, None
