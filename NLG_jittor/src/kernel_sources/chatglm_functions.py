"""ChatGLM2's operations that have a gradient, each with it; chatglm_kernels.py has the functions that call them.

tests/jittor/test_chatglm_kernels.py holds each to its formula in float64. Arrays are float32 and indices int32; weights
are stored ``(out, in)``.
"""

import jittor as jt

from kernel_sources.functions import DROPOUT, dropout_keys, dropout_numbers
from kernel_sources.launch import run, scratch


class RMSNorm(jt.Function):
    """``(count, width)`` to the same: divided by the root of the mean of squares plus 1e-5, and scaled."""

    def execute(self, x, weight):
        rows = x.numel() // x.shape[-1]
        result, scales = run("rms_norm_forward(in0_p, in1_p, out0_p, out1_p, out1_shape0, in1_shape0);", [x, weight],
                             [x.shape, (rows,)])
        self.saved = x, weight, scales
        return result

    def grad(self, gradient):
        result, = run("rms_norm_backward(in0_p, in1_p, in2_p, in3_p, out0_p, in3_shape0, in2_shape0);",
                      [gradient, *self.saved], [gradient.shape])
        return result, None


class SwiGLU(jt.Function):
    """``(count, 2 * width)`` to ``(count, width)``: silu of the first half, times the second."""

    def execute(self, x):
        self.x = x
        result, = run("swiglu_forward(in0_p, out0_p, out0_shape0, out0_shape1);", [x], [(x.shape[0], x.shape[1] // 2)])
        return result

    def grad(self, gradient):
        result, = run("swiglu_backward(in0_p, in1_p, out0_p, in0_shape0, in0_shape1);", [gradient, self.x],
                      [self.x.shape])
        return result


class Rotate(jt.Function):
    """Half of the first heads of ``(count, width)`` turned by ``turns (count, head_width / 2)``."""

    def execute(self, fused, turns, heads, head_width):
        self.saved = turns, heads, head_width
        return self.turned(fused, 1.0)

    def grad(self, gradient):
        return self.turned(gradient, -1.0), None, None, None

    def turned(self, x, direction):
        turns, heads, head_width = self.saved
        result, = run('rotate_heads(in0_p, in1_p, out0_p, in0_shape0, in0_shape1, (int64_t)data["heads"], '
                      '(int64_t)data["head_width"], (float)data["direction"]);', [x, turns], [x.shape], heads=heads,
                      head_width=head_width, direction=direction)
        return result


# Outputs that are named in capitals are scratch: queries by group, and scores of one sequence.
ATTENTION = """
const int64_t heads = (int64_t)data["heads"], groups = (int64_t)data["groups"], shared = heads / groups;
const int64_t count = in0_shape0, fused = in0_shape1, width = fused / (heads + 2 * groups), block = shared * width;
const float factor = 1.f / std::sqrt((float)width);
split_groups(in0_p, QUERIES, count, fused, groups, block);
for (int64_t i = 0; i < (int64_t)data["batch"]; i++) {
    const int64_t first = (int64_t)data["offset" + std::to_string(i)];
    const int64_t length = (int64_t)data["offset" + std::to_string(i + 1)] - first, rows = length * shared;
    if (!length) continue;
    const float *query = QUERIES + first * block, *key = in0_p + first * fused + heads * width;
    const float* value = key + groups * width;
    batched_product(false, true, rows, length, width, factor, query, width, count * block, key, fused, width, SCORES,
                    length, rows * length, groups);
    causal_softmax(SCORES, groups, length, shared);
"""
ATTENTION_FORWARD = ATTENTION.replace("QUERIES", "out1_p").replace("SCORES", "out2_p") + """
    batched_product(false, false, rows, width, length, 1.f, out2_p, length, rows * length, value, fused, width,
                    out3_p + first * block, width, count * block, groups);
}
join_groups(out3_p, out0_p, count, heads * width, groups, block);
"""
ATTENTION_BACKWARD = ATTENTION.replace("QUERIES", "out1_p").replace("SCORES", "out2_p").replace(
    "for (", "split_groups(in1_p, out3_p, count, heads * width, groups, block);\nfor (", 1) + """
    const float* grad = out3_p + first * block;
    float *dkey = out0_p + first * fused + heads * width, *dvalue = dkey + groups * width;
    batched_product(true, false, length, width, rows, 1.f, out2_p, length, rows * length, grad, width, count * block,
                    dvalue, fused, width, groups);
    batched_product(false, true, rows, length, width, 1.f, grad, width, count * block, value, fused, width, out4_p,
                    length, rows * length, groups);
    causal_softmax_backward(out2_p, out4_p, groups, length, shared, factor);
    batched_product(true, false, length, width, rows, 1.f, out4_p, length, rows * length, query, width, count * block,
                    dkey, fused, width, groups);
    batched_product(false, false, rows, width, length, 1.f, out4_p, length, rows * length, key, fused, width,
                    out3_p + first * block, width, count * block, groups);  // the queries', in place of dy
}
join_groups(out3_p, out0_p, count, fused, groups, block);
"""


class GroupedAttention(jt.Function):
    """Causal attention over sequences one after another, in which groups of query heads share keys and values.

    Weights are computed a second time for the gradient, so that none are kept.

    Args:
        fused: ``(count, (heads + 2 * groups) * head_width)``, queries, keys and values side by side.
        heads, groups: numbers of heads of queries, and of keys and of values.
        offsets: list of ints, where each sequence begins, and the end of the last.

    Returns:
        ``(count, heads * head_width)``.
    """

    def execute(self, fused, heads, groups, offsets):
        count, width = fused.shape[0], fused.shape[1] // (heads + 2 * groups) * heads
        longest = max(end - start for start, end in zip(offsets, offsets[1:]))
        self.fused, self.scores = fused, (heads, longest, longest)
        self.numbers = {"heads": heads, "groups": groups, "batch": len(offsets) - 1,
                        **{f"offset{index}": offset for index, offset in enumerate(offsets)}}
        result, *_ = run(ATTENTION_FORWARD, [fused], [(count, width), (count, width), self.scores, (count, width)],
                         **self.numbers)
        return result

    def grad(self, gradient):
        result, *_ = run(ATTENTION_BACKWARD, [self.fused, gradient],
                         [self.fused.shape, gradient.shape, self.scores, gradient.shape, self.scores], **self.numbers)
        return result, None, None, None


LINEAR = """
const int64_t from = in1_shape1, to = in1_shape0, rows = in0_shape0;
const int precision = (int)data["precision"];
weight_product(in0_p, in1_p, out0_p, rows, from, to, true, 0.f, precision, (float*)out1_p);
"""
LINEAR_WITH_BIAS = LINEAR.replace("weight_product", "fill_rows(in2_p, out0_p, rows, to);\nweight_product").replace(
    "0.f", "1.f")
LINEAR_BACKWARD = """
const int64_t from = in1_shape1, to = in1_shape0, rows = in0_shape0;
const int precision = (int)data["precision"];
weight_product(in0_p, in1_p, out0_p, rows, to, from, false, 0.f, precision, (float*)out1_p);
"""
LORA = DROPOUT + """
const int64_t rank = in{b}_shape1;
const float scaling = (float)data["scaling"];
const float* kept = in{x}_p;
if (dropout.kept_factor) dropout_apply(in{x}_p, out2_p, rows, from, dropout), kept = out2_p;
"""
LORA_FORWARD = LINEAR_WITH_BIAS + LORA.format(step_key="in5_p", token_keys="in6_p", x=0, b=4) + """
product(false, true, rows, rank, from, 1.f, kept, from, in3_p, from, 0.f, out3_p, rank, precision);
product(false, true, rows, to, rank, scaling, out3_p, rank, in4_p, rank, 1.f, out0_p, to, precision);
"""
LORA_BACKWARD = LINEAR_BACKWARD + LORA.format(step_key="in6_p", token_keys="in7_p", x=2, b=4) + """
product(false, false, rows, rank, to, scaling, in0_p, to, in4_p, rank, 0.f, out5_p, rank, precision);
product(true, false, to, rank, rows, scaling, in0_p, to, in5_p, rank, 0.f, out4_p, rank, precision);
product(true, false, rank, from, rows, 1.f, out5_p, rank, kept, from, 0.f, out3_p, from, precision);
if (dropout.kept_factor) {
    product(false, false, rows, from, rank, 1.f, out5_p, rank, in3_p, from, 0.f, out2_p, from, precision);
    add_dropped(out2_p, out0_p, rows, from, dropout);
} else product(false, false, rows, from, rank, 1.f, out5_p, rank, in3_p, from, 1.f, out0_p, from, precision);
"""


class Linear(jt.Function):
    """``x @ weight.T + bias``: ``(count, in)`` to ``(count, out)``; weight of kernels.frozen, bias or None."""

    def execute(self, x, weight, bias):
        self.weight = weight
        source, inputs = (LINEAR, [x, weight]) if bias is None else (LINEAR_WITH_BIAS, [x, weight, bias])
        result, _ = run(source, inputs, [(x.shape[0], weight.shape[0]), scratch(x.shape)])
        return result

    def grad(self, gradient):
        result, _ = run(LINEAR_BACKWARD, [gradient, self.weight],
                        [(gradient.shape[0], self.weight.shape[1]), scratch(gradient.shape)])
        return result, None, None


class LoraLinear(jt.Function):
    """Linear with one low-rank update: ``+ scaling * dropout(x) @ A.T @ B.T``.

    Args:
        x, weight, bias: as for Linear; there is a bias.
        lora_A: ``(r, in)``.
        lora_B: ``(out, r)``.
        scaling: alpha / r.
        dropout: common.run.dropout.Dropout of the update's inputs, or None.
    """

    def execute(self, x, weight, bias, lora_A, lora_B, scaling, dropout):
        self.keys, self.numbers = dropout_keys(dropout), {"scaling": scaling, **dropout_numbers(dropout)}
        self.kept_shape = (1, 1) if dropout is None else x.shape
        result, _, _, reduced = run(
            LORA_FORWARD, [x, weight, bias, lora_A, lora_B, *self.keys],
            [(x.shape[0], weight.shape[0]), scratch(x.shape), self.kept_shape, (x.shape[0], lora_A.shape[0])],
            **self.numbers)
        self.saved = weight, x, lora_A, lora_B, reduced
        return result

    def grad(self, gradient):
        _, x, lora_A, lora_B, reduced = self.saved
        dx, _, _, d_lora_A, d_lora_B, _ = run(
            LORA_BACKWARD, [gradient, *self.saved, *self.keys],
            [x.shape, scratch(gradient.shape), self.kept_shape, lora_A.shape, lora_B.shape, reduced.shape],
            **self.numbers)
        return dx, None, None, d_lora_A, d_lora_B, None, None
