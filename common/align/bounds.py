"""How far apart two frameworks may be at each point, and why.

Each bound is about four times what was measured between the two trees on gpt2.nano on a processor, in float32, at the
flags of ``bash scripts/align.sh``: rounding differs from machine to machine, and a fault is far larger. Where products
take 16-bit or tf32 factors, a bound is a number of units in the last place of those: about twice what was measured in
bf16 and fp16, on a processor too, and four where that is less. tf32 was not measured; it has the bounds of its digits.

In fp64 a bound is that of float32 times FLOAT64, which is at least four times what was measured: 2^-29 for the digits,
and 8 for Jittor's plain loops on a processor, which add up a whole vocabulary in one number (4.6e-14 measured of the
gradient through the logits, which are 16 times as many units in the last place as in float32). Weights are as in a
checkpoint, float32 in a dump too, where two numbers that differ in the last place of float64 may be neighbours.
"""

from dataclasses import dataclass, replace

TIE = 1e-5  # two outputs of a beam search whose scores differ by less are a tie
FLOOR_FACTOR = 10
FLOOR_REASON = (f"A training may also differ by {FLOOR_FACTOR} times its noise floor, what one unit in the last place "
                "of a first weight makes of it: rounding differs at every step, not once.")
EDGE = 1e-4  # a noise floor above this is that of a training past the edge of stability
EDGE_NOTE = "past the edge of stability, where steps show little: give a lower --lr"
SIGNIFICANDS = {"tf32": 11, "bf16": 8, "fp16": 11}  # bits
FLOAT64 = 2.0 ** -26
SHOWN = {"weights": 2.0 ** -24}  # the least that a difference of float32 numbers says of numbers of float64


@dataclass(frozen=True)
class Bound:
    """A largest difference.

    Attributes:
        value: in float32.
        units: where factors are short, in units in the last place of them.
        measure: which of a Difference's numbers it bounds, ``relative``, ``rms`` or ``max_abs``.
        reason: what was measured in float32, and why it is not less.
    """

    value: float
    units: int
    measure: str
    reason: str


BOUNDS = {
    "forward": Bound(1.2e-5, 8, "relative", "2.8e-6 measured, of attention in the sixth of eight blocks: sums of "
                                            "products run in another order, and what they round adds up"),
    "single": Bound(4e-6, 4, "relative", "1.0e-6 measured, of attention; all else 3e-7 or less"),
    "loss": Bound(2e-6, 4, "relative", "4.8e-7 measured: a float32 sum over the batch's tokens"),
    "gradient": Bound(1.6e-5, 16, "relative", "3.8e-6 measured, behind all blocks"),
    "moment": Bound(2.4e-5, 16, "relative", "5.9e-6 measured, of a second moment, which has a gradient's error twice"),
    "change": Bound(1e-4, 64, "rms", "2.3e-5 measured: an update is nearly the gradient's sign, and the sign of an "
                                     "element near 0 is all rounding"),
    "steps": Bound(2.5e-6, 4, "relative", "6.3e-7 measured over 100 steps"),
    "weights": Bound(5e-6, 8, "rms", "1.3e-6 measured behind 100 steps"),
    "scores": Bound(6e-6, 8, "max_abs", "1.0e-6 measured over 8 contexts, six times that as they are few: a "
                                        "log-probability is a difference of two logits, so that its error is that of "
                                        "the logits, however near 0 it is"),
}


def bound_of(name: str, precision: str) -> Bound:
    """Returns the Bound of a kind of arrays, with the value that it has in a precision."""
    bound = BOUNDS[name]
    if precision == "fp64":
        return replace(bound, value=max(bound.value * FLOAT64, SHOWN.get(name, 0.0)))
    if precision not in SIGNIFICANDS:
        return bound
    return replace(bound, value=max(bound.value, bound.units * 2.0 ** -SIGNIFICANDS[precision]))
