"""Dumps what a short training computes, to compare the frameworks by; ``bash scripts/align.sh`` does both and compares.

``python src/align.py --help`` lists the flags: those of gpt2_ft.py describe the run whose first steps are dumped.
"""

import jittor_setup  # noqa: F401  decides the environment before Jittor is imported

from functools import partial

import jittor as jt
import numpy as np

from common.align.collect import Probes, run_dump
from common.align.trace import LOGITS, Trace
from common.run.arguments import alignment_arguments
from common.run.batching import converted
from common.run.dropout import Dropout
from common.run.processes import run_main
from common.run.training import first_weights

import device
import kernels
from gpt2_beam import build_search_model
from gpt2_ft import build_model, build_optimizer, build_steps, train_step, update
from lora import MergedLinear, lora_state_dict
from optimizer import AdamW


def copied(array):
    """Copies an array to the host, in real_dtype; what the framework does to its own one later changes nothing here."""
    return device.to_numpy(array.cast(device.real_dtype())).copy()


def copied_all(arrays):
    """Copies ``{name: array}`` to the host."""
    return {name: copied(array) for name, array in arrays.items()}


def stored_weights(arguments, backbone, lora):
    """Returns ``{name: float32 numpy array}`` of a model's weights, as it holds them."""
    return {name: kernels.stored(parameter)
            for name, parameter in build_model(arguments, backbone, lora).named_parameters()}


def lora_layers(model):
    """Returns ``{name: layer}`` of the layers that have an update."""
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, MergedLinear) and layer.r > 0}


def masks(arguments, backbone, lora, batches):
    """Returns ``{layer: (stream, (count, in_features))}`` of each batch: ones through each layer's dropout."""
    layers, found = lora_layers(build_model(arguments, backbone, lora)), []
    for batch in batches:
        on_device, masks = converted(batch, device.from_numpy), {}
        for name, layer in layers.items():
            ones = device.from_numpy(np.ones((len(batch.input_ids), layer.lora_A.shape[1]), np.float32))
            dropout = Dropout(layer.lora_dropout, layer.stream, on_device.step_key, on_device.token_keys)
            masks[name] = layer.stream, copied(kernels.dropped_out(ones, dropout))
        found.append(masks)
    return found


def hook(model, trace):
    """Lets a Trace take in what every module without modules inside takes and gives."""
    for name, module in model.named_modules():
        if not list(module.children()):
            module.register_pre_forward_hook(lambda _, inputs, name=name: (trace.before(name, inputs), {}))
            module.register_forward_hook(lambda _, inputs, output, name=name: trace.after(name, output))


def trace_pass(arguments, backbone, lora, batch, others):
    """A forward pass of training, operation by operation, and its gradients.

    Args:
        backbone, lora, batch: numpy arrays.
        others: ``{operation: numpy array}`` that take the places of the operations' outputs (see Trace), or None.

    Returns:
        ``{operation: numpy array}`` with the logits where there is a loss, the loss, and ``{operation: gradient}``
        from the first layer with an update on; no gradients with ``others``.
    """
    model, batch = build_model(arguments, backbone, lora), converted(batch, device.from_numpy)
    model.train()
    trace = Trace(others, lambda array, other: device.from_numpy(other))
    hook(model, trace)
    loss = model.loss(batch, arguments.label_smooth)
    with jt.no_grad():
        logits = model.logits(kernels.take_rows(trace.last, batch.loss_positions))
    gradients = {}
    if others is None:
        behind, scale = trace.behind(lora_layers(model)), AdamW.first_scale if arguments.precision == "fp16" else 1.0
        gradients = dict(zip(behind, jt.grad(loss * scale, list(behind.values()))))
        gradients = {name: gradient / scale for name, gradient in copied_all(gradients).items()}
    return copied_all({**trace.arrays, LOGITS: logits}), float(loss.detach()), gradients


def first_step(arguments, backbone, lora, batch):
    """One update at the full learning rate; returns the optimiser's arrays as lists and the weights by name."""
    model = build_model(arguments, backbone, lora)
    optimizer = build_optimizer(arguments, model)
    train_step(model, optimizer, arguments, converted(batch, device.from_numpy), arguments.lr, is_update=False)
    gradients = list(map(copied, optimizer.gradients))
    update(optimizer, arguments, arguments.lr)
    return {"gradients": gradients, "first_moments": list(map(copied, optimizer.first_moments)),
            "second_moments": list(map(copied, optimizer.second_moments)),
            "values": list(map(copied, optimizer.values)), "weights": lora_state_dict(model)}


def train(arguments, backbone, lora, batches, rates):
    """Trains as gpt2_ft.py does; returns the losses and LoRA's weights behind the last step."""
    model = build_model(arguments, backbone, lora)
    steps = build_steps(arguments, model)
    losses = [steps.train(batch, rate, step % arguments.grad_acc == 0)
              for step, (batch, rate) in enumerate(zip(batches, rates), 1)]
    return list(map(float, losses)), lora_state_dict(model)


def probes_of(arguments, backbone):
    """Returns the Probes of a run with these weights under LoRA's."""
    return Probes(weights=partial(stored_weights, arguments, backbone), masks=partial(masks, arguments, backbone),
                  trace=partial(trace_pass, arguments, backbone), first_step=partial(first_step, arguments, backbone),
                  train=partial(train, arguments, backbone), search_model=partial(build_search_model, arguments.card),
                  description=device.describe())


def main(argv):
    arguments = alignment_arguments(argv, __doc__)
    device.set_up(arguments.device, arguments.random_seed, arguments.precision)
    backbone, lora = first_weights(arguments)
    run_dump(arguments, backbone, lora, probes_of(arguments, backbone))


if __name__ == "__main__":
    run_main(main)
