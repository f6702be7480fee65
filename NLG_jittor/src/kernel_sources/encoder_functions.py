"""What encoders need beside functions.py, each with its gradient: GELU itself, and the loss over places of spans."""

import jittor as jt

from kernel_sources.launch import run


class ErfGelu(jt.Function):
    """GELU itself, elementwise."""

    def execute(self, x):
        self.x = x
        result, = run("erf_gelu_forward(in0_p, out0_p, in0->num);", [x], [x.shape])
        return result

    def grad(self, gradient):
        result, = run("erf_gelu_backward(in0_p, in1_p, out0_p, in0->num);", [gradient, self.x], [gradient.shape])
        return result


SPAN_LOSSES = """
span_losses(in0_p, in1_p, in2_p, out0_p, out1_p, in1_shape0, (real)data["smoothing"]);
"""


class SpanLosses(jt.Function):
    """Label-smoothed cross-entropy of the places at which spans start and end, each over its own sequence.

    Args:
        logits: ``(count, 2)``, of start and end.
        targets: ``(batch, 2)``, the position of either in its sequence.
        offsets: of common.run.batching.Packed.
        smoothing: share of the loss that is the mean over a sequence's tokens.

    Returns:
        ``(batch,)``, the sum of the two.
    """

    def execute(self, logits, targets, offsets, smoothing):
        losses, self.slopes = run(SPAN_LOSSES, [logits, targets, offsets], [targets.shape, logits.shape],
                                  smoothing=smoothing)
        self.offsets = offsets
        return losses.sum(1)

    def grad(self, gradient):
        result, = run("scale_sequences(in0_p, in1_p, in2_p, out0_p, in0_shape0, in1_shape1);",
                      [gradient, self.slopes, self.offsets], [self.slopes.shape])
        return result, None, None, None
