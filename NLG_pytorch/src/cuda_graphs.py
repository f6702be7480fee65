"""Training and validation steps as CUDA graphs, one for each shape of batch.

A step of GPT-2 medium is about a thousand small kernels, which take longer to launch one by one than to run. A graph
launches them at once. It repeats the same kernels on the same addresses: what differs from step to step must lie in
tensors (the batch, the learning rate, the optimiser's counters); torch keeps the random numbers of dropout going.
"""

import gc
from collections import OrderedDict

import numpy as np
import torch

from common.run.batching import converted, pad_batch

import device

SIZE_MULTIPLE = 64
MOST_RECORDINGS = 96


class Recording:
    """A step on tensors of its own, which every call fills in before it repeats the step.

    Args:
        step: ``(Batch of tensors, learning rate as a float64 scalar) -> loss``.
        batch: Batch of numpy arrays, whose shapes each later batch must have.
        record: ``(function) -> replay``; ``replay()`` repeats what the function does and returns its result.
    """

    def __init__(self, step, batch, record):
        self.batch = converted(batch, device.from_numpy)
        self.learning_rate = device.to_device(torch.zeros((), dtype=torch.float64))
        self.replay = record(lambda: step(self.batch, self.learning_rate))

    def __call__(self, batch, learning_rate):
        for name, tensor in vars(self.batch).items():
            if isinstance(tensor, torch.Tensor):
                tensor.copy_(torch.from_numpy(getattr(batch, name)), non_blocking=True)
        self.learning_rate.fill_(learning_rate)
        return self.replay().clone()  # the next replay writes over the original


class Recordings:
    """Runs steps, each from its second batch on through a Recording of the batch's shape.

    The first step of a kind, which loads libraries and kernels, is not recorded.

    Args:
        record: see Recording.
        most: so many are kept; the one that was used longest ago gives way.
    """

    def __init__(self, record, most=MOST_RECORDINGS):
        self.record, self.most = record, most
        self.known_kinds, self.recordings = set(), OrderedDict()

    def run(self, kind, step, batch, learning_rate):
        """Returns the loss of ``step`` on a Batch of numpy arrays; steps of one ``kind`` do the same."""
        batch = pad_batch(batch, SIZE_MULTIPLE)
        if kind not in self.known_kinds:
            self.known_kinds.add(kind)
            return Recording(step, batch, lambda function: function)(batch, learning_rate)
        key = kind, batch.length, *(array.shape for array in vars(batch).values() if isinstance(array, np.ndarray))
        if key not in self.recordings:
            # Recording waits for the GPU, so that what gives way is not at work.
            self.recordings[key] = Recording(step, batch, self.record)
            if len(self.recordings) > self.most:
                self.recordings.popitem(last=False)
        self.recordings.move_to_end(key)
        return self.recordings[key](batch, learning_rate)


def captured(train, validate):
    """Returns two step functions of a Batch of numpy arrays that do the same, on a GPU through CUDA graphs.

    Args:
        train: ``(batch on the device, learning_rate, is_update) -> loss``, without a look at a value on the device.
        validate: ``(batch on the device) -> loss``, likewise.
    """
    if not device.on_gpu():
        return (lambda batch, *others: train(converted(batch, device.from_numpy), *others),
                lambda batch: validate(converted(batch, device.from_numpy)))
    # One pool for all graphs: no two run at once, so each may use the memory that another has left. And one stream for
    # all that the program does, for memory is kept by stream too.
    pool, stream = torch.cuda.graph_pool_handle(), torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    torch.cuda.set_stream(stream)
    device.avoid_holes()

    def record(function):
        graph = torch.cuda.CUDAGraph()
        # A graph of another run, freed while this one is recorded, would spoil it. So no garbage is collected
        # meanwhile, nor before: over the objects of a data set that takes longer than the recording.
        gc.disable()
        try:
            with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
                loss = function()
        finally:
            gc.enable()

        def replay():
            graph.replay()
            return loss
        return replay

    recordings = Recordings(record)

    def captured_train(batch, learning_rate, is_update):
        return recordings.run(("train", is_update), lambda batch, rate: train(batch, rate, is_update), batch,
                              learning_rate)

    def captured_validate(batch):
        return recordings.run("validate", lambda batch, _: validate(batch), batch, 0.0)

    return captured_train, captured_validate
