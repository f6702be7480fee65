"""Training and validation steps as CUDA graphs.

A step of GPT-2 medium is about a thousand small kernels, which take longer to launch one by one than to run. So the
launches of a step are recorded, and the graph made of them is launched at once. Jittor places its arrays anew in every
step; therefore every step is recorded, and its graph serves to bring up to date the one that an earlier step of the same
shape has left.
"""

import jittor as jt

import device
import kernels

from common.batching import Batch, pad_batch

LENGTH_MULTIPLE, COUNT_MULTIPLE = 8, 64
WORKSPACE_BYTES = 32 * 2**20  # what NVIDIA recommends for cuBLAS on Hopper


class Recordings:
    """Runs steps, each kind and shape from its second time on as a graph."""

    def __init__(self):
        self.keys = {}
        self.workspace, = kernels.run(f"use_stream_of_thread(out0_p, {WORKSPACE_BYTES});", [], [(WORKSPACE_BYTES // 4,)])
        jt.sync([self.workspace], True)

    def run(self, kind, step, batch):
        """Returns the loss of ``step`` on a Batch of numpy arrays.

        Args:
            kind: steps of one kind do the same.
            step: ``(Batch of Vars) -> loss``.
            batch: Batch of numpy arrays.
        """
        batch = pad_batch(batch, LENGTH_MULTIPLE, COUNT_MULTIPLE)
        key = kind, batch.input_ids.shape, len(batch.loss_positions)
        # Copies to the GPU cannot be recorded
        batch = Batch(**{name: device.from_numpy(array) for name, array in vars(batch).items()})
        jt.sync(list(vars(batch).values()))
        if key not in self.keys:
            # Kernels are compiled and memory is taken now
            self.keys[key] = len(self.keys)
            loss = step(batch)
            jt.sync([loss])
            return loss
        jt.sync(kernels.run("begin_recording();", [], [(1,)]))
        try:
            loss = step(batch)
            jt.sync([loss])
        finally:
            jt.sync(kernels.run('launch_recording((int64_t)data["key"]);', [], [(1,)], key=self.keys[key]))
        return loss


def captured(train, validate):
    """Returns two step functions that do the same through CUDA graphs; the functions themselves on a CPU, and in fp16,
    where the scale of the loss needs a look at every step's gradients.

    Args:
        train: ``(batch, learning_rate, is_update) -> loss``, without a look at a value on the device.
        validate: ``(batch) -> loss``, likewise.
    """
    if not device.on_gpu() or device.precision() == "fp16":
        return train, validate
    recordings = Recordings()

    def captured_train(batch, learning_rate, is_update):
        return recordings.run(("train", is_update), lambda batch: train(batch, learning_rate, is_update), batch)

    def captured_validate(batch):
        return recordings.run("validate", validate, batch)

    return captured_train, captured_validate
