"""Training and validation steps, launched operation by operation.

The PyTorch tree captures a step as a CUDA graph, which repeats the same kernels on the same addresses. Jittor's arrays
lie elsewhere at every step, so that a graph would have to be recorded anew each time, which takes longer than it saves.
"""

from common.run.batching import converted

import device


def captured(train, validate):
    """Returns two step functions of a Batch of numpy arrays that do the same.

    Args:
        train: ``(batch on the device, learning_rate, is_update) -> loss``.
        validate: ``(batch on the device) -> loss``.
    """
    return (lambda batch, *others: train(converted(batch, device.from_numpy), *others),
            lambda batch: validate(converted(batch, device.from_numpy)))
