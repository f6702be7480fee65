"""Steps of no framework: a training whose losses a test says, and whose weight is what its batches made of it."""

from pathlib import Path

import numpy as np

from common.run.steps import Steps


def made_up_steps(seen, losses=lambda step: 2.0 - step / 10, valid_loss=1.5):
    """Returns ``prepare`` of a training that writes down in ``seen`` what it is asked for.

    Args:
        seen: list that gets ``(rows, learning rate, is_update)`` of each step and ``(path, step)`` of each checkpoint.
        losses: ``(step) -> loss``.
        valid_loss: of every validation pass, or a function that returns it; ten rows are three batches, which come
            together.
    """
    weight, steps_done = np.zeros(()), np.zeros((), np.int64)

    def train(batch, learning_rate, is_update):
        seen.append((len(batch.offsets) - 1, learning_rate, is_update))
        weight[...] = np.sin(weight + learning_rate * batch.input_ids.sum() + batch.step_key[0])
        steps_done[...] += 1
        return losses(int(steps_done))

    def save(path, step):
        seen.append((path, step))
        Path(path).write_text(f"{step} {float(weight)!r}")

    def load_state(arrays):
        weight[...], steps_done[...] = arrays["weight"], arrays["steps"]

    steps = Steps(train=train, validate=lambda batch: 3 * (valid_loss() if callable(valid_loss) else valid_loss),
                  save=save, state=lambda: {"weight": weight.copy(), "steps": steps_done.copy()},
                  state_names=["weight", "steps"], load_state=load_state,
                  peak_memory_bytes=lambda: 1 << 20, description={"framework": "made up"})
    return lambda arguments: steps
