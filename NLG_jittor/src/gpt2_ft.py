"""Fine-tunes GPT-2 on encoded data, with LoRA or all weights; ``python src/gpt2_ft.py --help`` lists the flags."""

import jittor_setup  # noqa: F401  decides the environment before Jittor is imported

from dataclasses import replace
from functools import partial

import jittor as jt

from common.model.checkpoint import new_record
from common.model.lora_file import is_lora, save_trained
from common.run import processes
from common.run.arguments import training_arguments
from common.run.processes import run_main
from common.run.steps import Steps
from common.run.training import first_weights, run_training

import device
import process_group
from cuda_graphs import captured
from lora import mark_as_trainable, trained_state_dict
from model import GPT2LMModel
from optimizer import AdamW


def build_model(arguments, backbone, lora):
    """Returns the model on its device, with only LoRA's weights trainable or, with a rank of 0, all."""
    model, is_trained = GPT2LMModel(arguments.card, arguments.lora), partial(belongs_to_training, arguments)
    model.load_arrays({**backbone, **lora}, is_trained)
    mark_as_trainable(model, is_trained)
    return device.to_device(model)


def belongs_to_training(arguments, name):
    """Tells whether a parameter of that name is trained."""
    return arguments.lora.rank == 0 or is_lora(name)


def build_optimizer(arguments, model):
    """Returns the AdamW of the flags over the trainable parameters."""
    trainable = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    return AdamW(trainable, arguments.adam_beta1, arguments.adam_beta2, arguments.adam_epislon,
                 arguments.weight_decay, arguments.correct_bias, arguments.no_decay_bias,
                 loss_scaling=arguments.precision == "fp16")


def train_step(model, optimizer, arguments, batch, learning_rate, is_update):
    """Adds the gradients of one Batch on the device and, where ``is_update``, updates the weights; returns the loss."""
    if not model.is_training():  # setting it walks through all modules
        model.train()
    loss = model.loss(batch, arguments.label_smooth)
    optimizer.accumulate(loss / arguments.grad_acc)
    if is_update:
        update(optimizer, arguments, learning_rate)
    else:
        jt.sync(optimizer.gradients)  # else the graphs of all micro-batches stay in memory until the step
    return loss.detach()


def update(optimizer, arguments, learning_rate):
    """Clips the accumulated gradients where the flags say so, and updates the weights with them."""
    if arguments.clip > 0:
        optimizer.clip(arguments.clip)
    optimizer.step(learning_rate)


def validation_step(model, batch):
    """Returns the loss of one Batch on the device, without dropout and label smoothing."""
    model.eval()
    with device.no_gradients():
        return model.loss(batch, 0.0)


def build_steps(arguments, model):
    """Returns the Steps that train a model from build_model with an optimiser of its own."""
    record = new_record(arguments.card, arguments.lora, arguments.init_checkpoint)
    return steps_of(arguments, model, partial(belongs_to_training, arguments),
                    lambda path, arrays, step: save_trained(path, arrays, replace(record, step=step)))


def steps_of(arguments, model, is_saved, write):
    """Returns the Steps that train a model with an optimiser of its own.

    Args:
        arguments: with all flags of training.
        model: any, all of whose trained parameters are marked.
        is_saved: ``(name) -> bool``, which parameters checkpoints have.
        write: ``(path, {name: float32 array}, step) -> None`` writes a checkpoint.
    """
    optimizer = build_optimizer(arguments, model)
    train, validate = captured(partial(train_step, model, optimizer, arguments), partial(validation_step, model))

    def train_together(batch, learning_rate, is_update):
        loss = train(batch, learning_rate, False)
        if is_update:
            optimizer.gradients = process_group.summed(optimizer.gradients)
            update(optimizer, arguments, learning_rate)
        return loss

    def save(path, step):
        arrays = processes.same_everywhere(trained_state_dict(model, is_saved))
        if processes.is_first():
            write(path, arrays, step)

    return Steps(train=train if processes.count() == 1 else train_together, validate=validate, save=save,
                 state=optimizer.state_arrays, state_names=optimizer.state_names(),
                 load_state=optimizer.load_state_arrays,
                 peak_memory_bytes=device.peak_memory_bytes, description=device.describe())


def prepare(arguments):
    """Returns the Steps of a run: device, weights, model and optimiser as the flags say."""
    device.set_up(arguments.device, arguments.random_seed, arguments.precision)
    return build_steps(arguments, build_model(arguments, *first_weights(arguments)))


def main(argv):
    arguments = training_arguments(argv, __doc__)
    process_group.join()
    run_training(arguments, prepare)


if __name__ == "__main__":
    run_main(main)
