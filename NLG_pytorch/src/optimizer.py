"""The classic AdamW and the clipping of gradients."""

import math

import torch


class AdamW:
    """AdamW with eps beside the uncorrected second moment and decay after the step (Kingma and Ba 2015, section 2,
    last paragraph; Loshchilov and Hutter 2019, algorithm 2). ``torch.optim.AdamW`` adds eps to the corrected one.

    Args:
        named_parameters: list of ``(name, parameter)``, all trainable.
        beta1, beta2: decay rates of the moments.
        eps: added to ``sqrt(v)``.
        weight_decay: share of ``lr * p`` taken off after each step.
        correct_bias: whether the step is scaled by ``sqrt(1 - beta2^t) / (1 - beta1^t)``.
        no_decay_bias: leaves biases and layer norms without decay.
    """

    def __init__(self, named_parameters, beta1, beta2, eps, weight_decay, correct_bias, no_decay_bias):
        self.parameters = [parameter for _, parameter in named_parameters]
        self.decays = [0.0 if no_decay_bias and name.endswith(("bias", "ln_1.weight", "ln_2.weight", "ln_f.weight"))
                       else weight_decay for name, _ in named_parameters]
        self.first_moments = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.second_moments = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.gradients = None
        self.beta1, self.beta2, self.eps, self.correct_bias = beta1, beta2, eps, correct_bias
        self.step_count = 0

    def accumulate(self, loss):
        """Adds the gradients of ``loss``, a scalar, to those since the last step."""
        gradients = torch.autograd.grad(loss, self.parameters)
        if self.gradients is not None:
            gradients = torch._foreach_add(self.gradients, gradients)
        self.gradients = gradients

    def clip(self, max_norm):
        """Scales the gradients down to a joint L2 norm of ``max_norm`` (Pascanu et al. 2013, algorithm 1)."""
        norm = torch.sqrt(sum((gradient.double() ** 2).sum() for gradient in self.gradients))
        scale = torch.clamp(max_norm / (norm + 1e-6), max=1.0).float()
        self.gradients = torch._foreach_mul(self.gradients, scale)

    @torch.no_grad()
    def step(self, learning_rate):
        """Updates the parameters with the accumulated gradients, which then are gone."""
        self.step_count += 1
        step_size = learning_rate
        if self.correct_bias:
            step_size *= math.sqrt(1.0 - self.beta2 ** self.step_count) / (1.0 - self.beta1 ** self.step_count)
        torch._foreach_mul_(self.first_moments, self.beta1)
        torch._foreach_add_(self.first_moments, self.gradients, alpha=1.0 - self.beta1)
        torch._foreach_mul_(self.second_moments, self.beta2)
        torch._foreach_addcmul_(self.second_moments, self.gradients, self.gradients, 1.0 - self.beta2)
        denominators = torch._foreach_sqrt(self.second_moments)
        torch._foreach_add_(denominators, self.eps)
        torch._foreach_addcdiv_(self.parameters, self.first_moments, denominators, -step_size)
        torch._foreach_mul_(self.parameters, [1.0 - learning_rate * decay for decay in self.decays])
        self.gradients = None
