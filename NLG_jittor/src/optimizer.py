"""The classic AdamW, the clipping of gradients and the scaling of the loss."""

import math

import jittor as jt
import numpy as np

import kernels


class AdamW:
    """AdamW with eps beside the uncorrected second moment and decay after the step (Kingma and Ba 2015, section 2,
    last paragraph; Loshchilov and Hutter 2019, algorithm 2). ``jittor.optim.AdamW`` adds eps to the corrected one.

    Args:
        named_parameters: list of ``(name, parameter)``, all trainable.
        beta1, beta2: decay rates of the moments.
        eps: added to ``sqrt(v)``.
        weight_decay: share of ``lr * p`` taken off after each step.
        correct_bias: whether the step is scaled by ``sqrt(1 - beta2^t) / (1 - beta1^t)``.
        no_decay_bias: leaves biases and layer norms without decay.
        loss_scaling: scales the loss against the underflow of float16 gradients (Micikevicius et al. 2018, section
            3.2): a step whose gradients are not finite is left out and halves the scale, and growth_interval good
            steps in a row double it.
    """

    first_scale, growth_interval = 65536.0, 2000

    def __init__(self, named_parameters, beta1, beta2, eps, weight_decay, correct_bias, no_decay_bias, loss_scaling):
        self.parameters = [parameter for _, parameter in named_parameters]
        self.decays = [0.0 if no_decay_bias and name.endswith(("bias", "ln_1.weight", "ln_2.weight", "ln_f.weight"))
                       else weight_decay for name, _ in named_parameters]
        self.first_moments = [jt.zeros_like(parameter) for parameter in self.parameters]
        self.second_moments = [jt.zeros_like(parameter) for parameter in self.parameters]
        self.gradients = None
        self.beta1, self.beta2, self.eps, self.correct_bias = beta1, beta2, eps, correct_bias
        self.loss_scaling = loss_scaling
        self.step_count, self.good_steps, self.loss_scale = 0, 0, self.first_scale if loss_scaling else 1.0

    def accumulate(self, loss):
        """Adds the gradients of ``loss``, a scalar, to those since the last step."""
        gradients = jt.grad(loss * self.loss_scale if self.loss_scaling else loss, self.parameters)
        if self.loss_scaling:
            gradients = kernels.scaled(gradients, jt.array([1.0 / self.loss_scale]))
        if self.gradients is not None:
            gradients = [total + gradient for total, gradient in zip(self.gradients, gradients)]
        self.gradients = gradients

    def squared_norm(self):
        """Returns the sum of the squares of the accumulated gradients, float64; not finite where one of them is not."""
        return kernels.squared_norm(self.gradients)

    def clip(self, max_norm):
        """Scales the gradients down to a joint L2 norm of ``max_norm`` (Pascanu et al. 2013, algorithm 1)."""
        scale = jt.minimum(max_norm / (jt.sqrt(self.squared_norm()) + 1e-6), 1.0).float32()
        self.gradients = kernels.scaled(self.gradients, scale)

    def step(self, learning_rate):
        """Updates the parameters with the accumulated gradients, which then are gone.

        Args:
            learning_rate: a number.
        """
        if self.loss_scaling and not self.adjust_scale():
            self.gradients = None
            return
        self.step_count += 1
        step_size = learning_rate
        if self.correct_bias:
            step_size *= math.sqrt(1.0 - self.beta2 ** self.step_count) / (1.0 - self.beta1 ** self.step_count)
        old = self.parameters, self.first_moments, self.second_moments
        new = kernels.adamw(old[0], self.gradients, *old[1:], [1.0 - learning_rate * decay for decay in self.decays],
                            beta1=self.beta1, beta2=self.beta2, eps=self.eps, step_size=step_size)
        for variables, values in zip(old, new):
            for variable, value in zip(variables, values):
                variable.update(value)
        self.gradients = None
        jt.sync(self.parameters + self.first_moments + self.second_moments)

    def adjust_scale(self):
        """Halves or doubles the scale; returns whether the gradients are finite."""
        # On the host: Jittor's compiler flags let isfinite be true of everything.
        is_good = bool(np.isfinite(self.squared_norm().numpy()).all())
        self.good_steps = self.good_steps + 1 if is_good else 0
        has_grown = self.good_steps == self.growth_interval
        self.loss_scale *= (2.0 if has_grown else 1.0) if is_good else 0.5
        self.good_steps *= not has_grown
        return is_good
