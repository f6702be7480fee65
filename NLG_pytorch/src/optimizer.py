"""The classic AdamW, the clipping of gradients and the scaling of the loss."""

import numpy as np

import kernels

# How the names of biases and of layer norms' weights end, GPT-2's and BERT's.
NO_DECAY = ("bias", "ln_1.weight", "ln_2.weight", "ln_f.weight", "norm.weight")


class AdamW:
    """AdamW with eps beside the uncorrected second moment and decay after the step (Kingma and Ba 2015, section 2,
    last paragraph; Loshchilov and Hutter 2019, algorithm 2). ``torch.optim.AdamW`` adds eps to the corrected one.

    Args:
        named_parameters: list of ``(name, parameter)``, all trainable, float32.
        beta1, beta2: decay rates of the moments.
        eps: added to ``sqrt(v)``.
        weight_decay: share of ``lr * p`` taken off after each step.
        correct_bias: whether the step is scaled by ``sqrt(1 - beta2^t) / (1 - beta1^t)``.
        no_decay_bias: leaves biases and layer norms without decay.
        loss_scaling: scales the loss against the underflow of float16 gradients (Micikevicius et al. 2018, section
            3.2): a step whose gradients are not finite is left out and halves the scale, and growth_interval good
            steps in a row double it.

    Attributes:
        values, remainders, first_moments, second_moments: lists of arrays, all parameters' elements in the parameters'
            order. A remainder is what the float32 value has lost to rounding (Kahan 1965); without it the roundings of
            updates add up, and part two trainings that compute the same.
    """

    first_scale, growth_interval = 65536.0, 2000
    ELEMENTS = "values", "remainders", "first_moments", "second_moments", "gradients"

    def __init__(self, named_parameters, beta1, beta2, eps, weight_decay, correct_bias, no_decay_bias, loss_scaling):
        self.parameters = [parameter for _, parameter in named_parameters]
        decays = [0.0 if no_decay_bias and name.endswith(NO_DECAY)
                  else weight_decay for name, _ in named_parameters]
        self.values, self.decays = kernels.fused(self.parameters, decays)
        self.remainders, self.first_moments, self.second_moments = (kernels.zeros_like(self.values) for _ in range(3))
        self.gradients = kernels.no_gradients(self.values)
        self.beta1, self.beta2, self.eps, self.correct_bias = beta1, beta2, eps, correct_bias
        self.loss_scale = kernels.counter(self.first_scale) if loss_scaling else None
        self.step_count, self.good_steps = kernels.counter(0), kernels.counter(0)

    def accumulate(self, loss):
        """Adds the gradients of ``loss``, a scalar, to those since the last step."""
        self.gradients = kernels.add_gradients(self.gradients, loss, self.parameters, self.loss_scale)

    def clip(self, max_norm):
        """Scales the gradients down to a joint L2 norm of ``max_norm`` (Pascanu et al. 2013, algorithm 1)."""
        factor = kernels.clip_factor(kernels.squared_norm(self.gradients), max_norm)
        self.gradients = kernels.scaled(self.gradients, factor)

    def step(self, learning_rate):
        """Updates the parameters with the accumulated gradients, which then are gone.

        Args:
            learning_rate: a number, or a float64 scalar on the device.
        """
        is_good = True if self.loss_scale is None else self.adjust_scale()
        step_count, step_size = self.step_count + 1, learning_rate
        if self.correct_bias:
            step_size = step_size * (1.0 - self.beta2 ** step_count) ** 0.5 / (1.0 - self.beta1 ** step_count)
        kernels.adamw(self.values, self.remainders, self.gradients, self.first_moments, self.second_moments,
                      self.decays, learning_rate, step_size, self.beta1, self.beta2, self.eps, is_good)
        self.step_count = kernels.changed(self.step_count, self.step_count + is_good)
        self.gradients = kernels.cleared(self.gradients)

    def adjust_scale(self):
        """Halves or doubles the scale of the loss; returns whether the gradients are finite."""
        is_good = kernels.is_finite(kernels.squared_norm(self.gradients))
        good_steps = (self.good_steps + 1) * is_good
        has_grown = good_steps == self.growth_interval
        self.loss_scale = kernels.changed(self.loss_scale, self.loss_scale * (0.5 + is_good * (0.5 + has_grown)))
        self.good_steps = kernels.changed(self.good_steps, good_steps * (good_steps < self.growth_interval))
        return is_good

    def state_arrays(self):
        """Returns ``{name: numpy array}`` of all that steps change: elements in the parameters' order, and numbers."""
        elements = {name: kernels.elements_of(getattr(self, name)) for name in self.ELEMENTS}
        return elements | {name: np.array(float(getattr(self, name))) for name in self.counters()}

    def state_names(self):
        """Returns the names of what state_arrays returns."""
        return [*self.ELEMENTS, *self.counters()]

    def load_state_arrays(self, arrays):
        """Goes on from what state_arrays returned; in place, for recorded steps work on the same memory."""
        for name in self.ELEMENTS:
            setattr(self, name, kernels.filled(getattr(self, name), self.values, arrays[name]))
        for name in self.counters():
            setattr(self, name, kernels.changed(getattr(self, name), kernels.counter(float(arrays[name]))))

    def counters(self):
        """Returns the names of the numbers that steps change."""
        return ["step_count", "good_steps"] + ["loss_scale"] * (self.loss_scale is not None)
