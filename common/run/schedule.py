"""Learning-rate schedules by optimiser step."""

import bisect
import math


def make_schedule(scheduler, learning_rate, warmup_step, max_step, interval_steps=(), interval_rates=()):
    """Returns ``rate(step)``, the learning rate after ``step`` scheduler steps; ``rate(0)`` is the first step's.

    Args:
        scheduler: ``linear`` (0 to the rate over the warm-up, then to 0 at max_step), ``constant`` (with warm-up),
            ``cosine`` (with warm-up, then the cosine from 0 to max_step, Loshchilov and Hutter 2017, equation 5; as the
            original program has it, the warm-up does not shift it, so that the rate drops where the warm-up ends) or
            ``cycle`` (linear from point to point).
        learning_rate: the highest rate.
        warmup_step, max_step: in scheduler steps.
        interval_steps, interval_rates: the points of ``cycle``. The last rate holds behind the last point, and before
            the first one too, but for step 0, which has the first rate.
    """
    def warm(step):
        return step / max(1, warmup_step)

    def linear(step):
        if step < warmup_step:
            return learning_rate * warm(step)
        return learning_rate * max(0.0, (max_step - step) / max(1, max_step - warmup_step))

    def constant(step):
        return learning_rate * (warm(step) if step < warmup_step else 1.0)

    def cosine(step):
        if step < warmup_step:
            return learning_rate * warm(step)
        return learning_rate * 0.5 * (1.0 + math.cos(math.pi * min(step, max_step) / max_step))

    def cycle(step):
        if step == 0:
            return interval_rates[0]
        right = bisect.bisect_right(interval_steps, step)
        if right == 0 or right == len(interval_steps):
            return interval_rates[-1]
        left = right - 1
        span = interval_steps[right] - interval_steps[left] + 1e-6
        share = (step - interval_steps[left]) / span
        return share * interval_rates[right] + (1.0 - share) * interval_rates[left]

    return {"linear": linear, "constant": constant, "cosine": cosine, "cycle": cycle}[scheduler]
