"""Answers with ChatGLM2: a question, a dialogue or a file; ``python src/chatglm2_generate.py --help`` lists the names.

    python src/chatglm2_generate.py --model_name_or_path DIR --lora_checkpoint FILE --question TEXT
"""

import jittor_setup  # noqa: F401  decides the environment before Jittor is imported

from functools import partial

from common.metrics.chinese import chinese_scores
from common.model.chatglm_weights import stream_backbone
from common.run.chatglm_arguments import chatglm_generation_arguments
from common.run.chatglm_generating import GenerationModel, lora_to_generate_with, run_generation
from common.run.processes import run_main

import device
import kernels
from chatglm2_ft import build_model
from gpt2_beam import advance, read_prompt, top_tokens


def log_probabilities(logits):
    """Returns the log-probabilities of each row as numpy."""
    return device.to_numpy(kernels.log_softmax(logits))


def build_generation_model(model):
    """Returns the GenerationModel of a model from build_model."""
    model.eval()
    return GenerationModel(prompt=partial(read_prompt, model), advance=partial(advance, model), top_tokens=top_tokens,
                           peak_memory_bytes=device.peak_memory_bytes, description=device.describe(),
                           log_probabilities=log_probabilities)


def prepare(arguments):
    """Returns the GenerationModel of a run: device and weights as the arguments say."""
    device.set_up(arguments.device, arguments.random_seed, arguments.precision)
    settings, lora = lora_to_generate_with(arguments)
    backbone = stream_backbone(arguments.init_checkpoint, arguments.card)
    return build_generation_model(build_model(arguments.card, settings, backbone, lora))


def main(argv):
    arguments = chatglm_generation_arguments(argv, __doc__)
    run_generation(arguments, prepare, chinese_scores)


if __name__ == "__main__":
    run_main(main)
