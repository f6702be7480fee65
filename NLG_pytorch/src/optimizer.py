"""The classic AdamW, the clipping of gradients and the scaling of the loss.

Everything that changes from step to step lies in tensors on the device and is changed in place, so that a captured
CUDA graph can repeat a step.
"""

import torch


class AdamW:
    """AdamW with eps beside the uncorrected second moment and decay after the step (Kingma and Ba 2015, section 2,
    last paragraph; Loshchilov and Hutter 2019, algorithm 2). ``torch.optim.AdamW`` adds eps to the corrected one.

    The parameters become views of one flat vector, so that each operation is one kernel.

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
    """

    first_scale, growth_interval = 65536.0, 2000

    def __init__(self, named_parameters, beta1, beta2, eps, weight_decay, correct_bias, no_decay_bias, loss_scaling):
        self.parameters = [parameter for _, parameter in named_parameters]
        decays = [0.0 if no_decay_bias and name.endswith(("bias", "ln_1.weight", "ln_2.weight", "ln_f.weight"))
                  else weight_decay for name, _ in named_parameters]
        self.values = torch.cat([parameter.detach().reshape(-1) for parameter in self.parameters])
        self.decays = torch.cat([torch.full_like(parameter.detach().reshape(-1), decay)
                                 for parameter, decay in zip(self.parameters, decays)])
        self.first, self.second, self.gradient = (torch.zeros_like(self.values) for _ in range(3))
        self.first_moments = self._as_parameters(self.first)
        for parameter, view in zip(self.parameters, self._as_parameters(self.values)):
            parameter.data = view
        self.beta1, self.beta2, self.eps, self.correct_bias = beta1, beta2, eps, correct_bias
        self.loss_scaling = loss_scaling
        self.step_count, self.good_steps, self.loss_scale = (
            torch.tensor(value, dtype=torch.float64, device=self.values.device)
            for value in (0.0, 0.0, self.first_scale if loss_scaling else 1.0))

    def _as_parameters(self, flat):
        """Returns views of a flat vector, one in the shape of each parameter."""
        pieces = flat.split([parameter.numel() for parameter in self.parameters])
        return [piece.view(parameter.shape) for piece, parameter in zip(pieces, self.parameters)]

    def accumulate(self, loss):
        """Adds the gradients of ``loss``, a scalar, to those since the last step."""
        if self.loss_scaling:
            loss = loss * self.loss_scale
        gradients = torch.autograd.grad(loss, self.parameters)
        gradient = torch.cat([gradient.reshape(-1) for gradient in gradients])
        self.gradient += gradient / self.loss_scale if self.loss_scaling else gradient

    def squared_norm(self):
        """Returns the sum of the squares of the accumulated gradients, float64; not finite where one of them is not."""
        return (self.gradient.double() ** 2).sum()

    def clip(self, max_norm):
        """Scales the gradients down to a joint L2 norm of ``max_norm`` (Pascanu et al. 2013, algorithm 1)."""
        self.gradient *= torch.clamp(max_norm / (torch.sqrt(self.squared_norm()) + 1e-6), max=1.0)

    @torch.no_grad()
    def step(self, learning_rate):
        """Updates the parameters with the accumulated gradients, which then are gone.

        Args:
            learning_rate: a number, or a float64 scalar on the device.
        """
        step_count = self.step_count + 1
        step_size = learning_rate
        if self.correct_bias:
            step_size = step_size * torch.sqrt(1.0 - self.beta2 ** step_count) / (1.0 - self.beta1 ** step_count)
        first = self.beta1 * self.first + (1.0 - self.beta1) * self.gradient
        second = self.beta2 * self.second + (1.0 - self.beta2) * self.gradient ** 2
        moved = self.values - step_size * first / (torch.sqrt(second) + self.eps)
        values = moved * (1.0 - learning_rate * self.decays)
        is_good = self.adjust_scale() if self.loss_scaling else None
        for old, new in ((self.step_count, step_count), (self.first, first), (self.second, second),
                         (self.values, values)):
            old.copy_(torch.where(is_good, new, old) if self.loss_scaling else new)
        self.gradient.zero_()

    def adjust_scale(self):
        """Halves or doubles the scale; returns whether the gradients are finite, a bool scalar on the device."""
        is_good = torch.isfinite(self.squared_norm())
        good_steps = (self.good_steps + 1) * is_good
        has_grown = good_steps == self.growth_interval
        self.loss_scale *= 0.5 + is_good * (0.5 + has_grown)
        self.good_steps.copy_(good_steps * ~has_grown)
        return is_good
