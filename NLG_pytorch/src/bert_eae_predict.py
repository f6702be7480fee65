"""Predicts the arguments of events; ``python src/bert_eae_predict.py --help`` lists the flags."""

from functools import partial

from common.run.event_arguments import event_prediction_arguments
from common.run.event_prediction import EventModel, run_prediction
from common.run.processes import run_main

import device
from bert import BertSpanModel
from bert_eae_ft import evaluate


def prepare(arguments):
    """Returns the EventModel of a run: device as the flags say, weights as its checkpoint's."""
    device.set_up(arguments.device, arguments.random_seed, arguments.precision)
    model = BertSpanModel(arguments.card)
    model.load_arrays(arguments.weights)
    return EventModel(evaluate=partial(evaluate, device.to_device(model)), peak_memory_bytes=device.peak_memory_bytes,
                      description=device.describe())


def main(argv):
    arguments = event_prediction_arguments(argv, __doc__)
    run_prediction(arguments, prepare)


if __name__ == "__main__":
    run_main(main)
