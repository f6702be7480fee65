"""Fine-tunes ChatGLM2 with LoRA on questions and answers; ``python src/chatglm2_ft.py --help`` lists the names.

    python src/chatglm2_ft.py config.json
    python src/chatglm2_ft.py --model_name_or_path DIR --train_file train.json --output_dir DIR
"""

import itertools
from dataclasses import replace
from functools import partial

from common.model.chatglm_weights import stream_backbone
from common.model.checkpoint import new_record
from common.model.lora_file import is_lora, save_lora
from common.run.chatglm_arguments import chatglm_training_arguments
from common.run.chatglm_training import CHATGLM, first_chatglm_lora, say_train_metrics, set_most_tokens
from common.run.processes import run_main
from common.run.training import run_training

import device
from chatglm2 import ChatGLM2
from gpt2_ft import steps_of
from lora import mark_as_trainable


def build_model(card, settings, backbone, lora):
    """Returns the model on its device, with only LoRA's weights trainable.

    Args:
        card: ChatGLMCard.
        settings: ChatGLMLora, or None for the plain model.
        backbone: pairs of a name and an array, which are read one by one.
        lora: ``{name: array}``.
    """
    device.avoid_holes()
    model = ChatGLM2(card, settings)
    model.load_stream(itertools.chain(backbone, lora.items()))
    mark_as_trainable(model, is_lora)
    return device.to_device(model)


def train_pieces(train, pieces, learning_rate, is_update):
    """Takes the gradients of a step's pieces one after another; ``train`` is that of Steps. Returns the step's loss."""
    return sum([train(piece, learning_rate, is_update and piece is pieces[-1]) for piece in pieces])


def build_steps(arguments, model):
    """Returns the Steps that train a model from build_model with an optimiser of its own."""
    record = new_record(arguments.card, arguments.lora, arguments.init_checkpoint)
    steps = steps_of(arguments, model, is_lora,
                     lambda path, arrays, step: save_lora(path, arrays, replace(record, step=step)))
    return replace(steps, train=partial(train_pieces, steps.train))


def prepare(arguments):
    """Returns the Steps of a run: device, weights, model and optimiser as the arguments say."""
    device.set_up(arguments.device, arguments.random_seed, arguments.precision)
    set_most_tokens(arguments, device.FRAMEWORK, device.on_gpu())
    lora = first_chatglm_lora(arguments)
    backbone = stream_backbone(arguments.init_checkpoint, arguments.card)
    return build_steps(arguments, build_model(arguments.card, arguments.lora, backbone, lora))


def main(argv):
    arguments = chatglm_training_arguments(argv, __doc__)
    run_training(arguments, prepare, CHATGLM)
    say_train_metrics(arguments)


if __name__ == "__main__":
    run_main(main)
