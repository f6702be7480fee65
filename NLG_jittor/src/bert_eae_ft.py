"""Fine-tunes BERT for event argument extraction; ``python src/bert_eae_ft.py --help`` lists the flags."""

import jittor_setup  # noqa: F401  decides the environment before Jittor is imported

from dataclasses import replace
from functools import partial

from common.model.bert_cards import HEAD_NAMES, is_trained
from common.model.bert_files import save_event_checkpoint
from common.run.batching import converted
from common.run.event_arguments import event_training_arguments
from common.run.event_training import EVENTS, first_event_weights, new_event_record
from common.run.processes import run_main
from common.run.training import run_training

import device
import encoder_kernels
import process_group
from bert import BertSpanModel
from gpt2_ft import steps_of
from lora import mark_as_trainable


def build_model(arguments, weights):
    """Returns the model on its device, with the weights trainable that the flags say.

    Args:
        arguments: of event_training_arguments.
        weights: ``{name: float32 array}`` of all its arrays.
    """
    model = BertSpanModel(arguments.card, arguments.lora, arguments.backbone_dropout, arguments.head_dropout)
    chosen = partial(is_trained, rank=arguments.lora.rank, heads=arguments.heads)
    model.load_arrays(weights, chosen)
    mark_as_trainable(model, chosen)
    return device.to_device(model)


def evaluate(model, batch):
    """Returns the logits ``(count, 2)`` of a QueryBatch of numpy arrays, as numpy, without dropout."""
    model.eval()
    batch = converted(batch, device.from_numpy)
    with device.no_gradients():
        return device.to_numpy(model.logits(batch, encoder_kernels.layout_of(batch)))


def build_steps(arguments, model):
    """Returns the Steps that train a model from build_model with an optimiser of its own."""
    record = new_event_record(arguments)

    def is_saved(name):
        return name in HEAD_NAMES or is_trained(name, arguments.lora.rank, arguments.heads)

    steps = steps_of(arguments, model, is_saved,
                     lambda path, arrays, step: save_event_checkpoint(path, arrays, replace(record, step=step)))
    return replace(steps, evaluate=partial(evaluate, model))


def prepare(arguments):
    """Returns the Steps of a run: device, weights, model and optimiser as the flags say."""
    device.set_up(arguments.device, arguments.random_seed, arguments.precision)
    return build_steps(arguments, build_model(arguments, first_event_weights(arguments)))


def main(argv):
    arguments = event_training_arguments(argv, __doc__)
    process_group.join()
    run_training(arguments, prepare, EVENTS)


if __name__ == "__main__":
    run_main(main)
