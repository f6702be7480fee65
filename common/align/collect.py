"""What a dump holds and how it is made, from what a framework can do (see dump.py for the names).

Forward pass, gradients and one update start from LoRA weights of which none is zero, since at a training's own start
``lora_B`` is: dropout would not reach the outputs, nor a gradient ``lora_A``. The steps start as a training does.
"""

import itertools
import json
import platform
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from common.align.causes import check_flags
from common.align.dump import Dump, array_hash, by_name, prefixed, rounded, write_dump
from common.errors import UserError
from common.model.checkpoint import load_weights
from common.model.lora_arrays import merge_lora
from common.model.lora_file import is_lora
from common.run.batching import Batch, read_rows
from common.run.beam_search import SearchModel, SearchSettings
from common.run.dropout import Dropout, is_kept
from common.run.searching import distinct_contexts, search_contexts
from common.run.training import batches_of, planned_steps, schedule_of

MASKED_STEPS = 3  # steps whose dropout masks are compared
PROBE_SEED, PROBE_SPREAD = 11, 0.02  # of the values that stand for zeros; 0.02 as GPT-2's own first weights
# Flags that decide nothing of what is computed, or whose files are compared by what is in them.
UNCOMPARED_FLAGS = {
    "output", "inputs", "checkpoint", "work_dir", "device", "platform", "init_checkpoint", "lora_checkpoint",
    "train_data", "valid_data", "test_data", "valid_batch_size", "log_interval", "eval_interval", "save_interval",
    "eval_epoch", "card", "lora"}

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Probes:
    """What a framework does for a dump. ``lora`` is ``{name: float32 array}``, a batch one of numpy arrays.

    Attributes:
        weights: ``(lora) -> {name: float32 array}``: all weights of a model, read back from it.
        masks: ``(lora, batches) -> [{layer: (stream, (count, in_features))}]``: for each batch and each layer with
            LoRA, ones through its dropout.
        trace: ``(lora, batch, others) -> (operations, loss, gradients)``: a forward pass of training; others as for
            trace.Trace, and there are no gradients where they are given.
        first_step: ``(lora, batch) -> {"gradients", "first_moments", "second_moments", "values", "weights"}``: one
            update at the full learning rate; lists of arrays, as an optimiser holds them, of which the values are the
            weights, in fp64 of float64; and the weights by name, float32.
        train: ``(lora, batches, rates) -> (losses, {name: array})``: training as gpt2_ft.py does it, and LoRA's weights
            behind it.
        search_model: ``({name: array} of the merged weights) -> SearchModel``.
        description: ``{framework, version, device, precision}``.
    """

    weights: Callable[[Arrays], Arrays]
    masks: Callable[[Arrays, list[Batch]], list[dict[str, tuple[int, np.ndarray]]]]
    trace: Callable[[Arrays, Batch, Mapping[str, np.ndarray] | None], tuple[Arrays, float, Arrays]]
    first_step: Callable[[Arrays, Batch], dict]
    train: Callable[[Arrays, list[Batch], list[float]], tuple[list[float], Arrays]]
    search_model: Callable[[Arrays], SearchModel]
    description: dict


def run_dump(arguments, backbone: Arrays, lora: Arrays, probes: Probes) -> None:
    """Computes everything and writes ``--output``.

    Args:
        arguments: of common.run.arguments.alignment_arguments.
        backbone, lora: the run's first weights, ``{name: float32 array}``.
        probes: Probes.

    Raises:
        UserError: a file cannot be used, or the run has fewer steps.
    """
    flags = json.loads(json.dumps({name: value for name, value in vars(arguments).items()
                                   if name not in UNCOMPARED_FLAGS}))
    inputs = Dump(arguments.inputs) if arguments.inputs else None
    if inputs is not None:
        check_flags(inputs, flags, arguments.output)
    batches, rates = first_batches(arguments)
    probe = without_zeros(lora)
    arrays = first_pass(arguments, probe, batches[0], probes, inputs)
    trained, more = training(arguments, lora, batches, rates, probes)
    arrays.update(more)
    decoded = weights_to_decode(arguments, inputs, trained)
    contexts = first_contexts(arguments)
    arrays.update(beam(arguments, merge_lora(backbone, decoded, arguments.lora), contexts, probes))
    write_dump(arguments.output, arrays, {
        "description": probes.description, "versions": {"Python": platform.python_version(), "numpy": np.__version__},
        "flags": flags, "inputs": inputs and inputs.sha256(),
        "weights": {name: array_hash(array if is_lora(name) else rounded(array, arguments.precision))
                    for name, array in probes.weights(lora).items()},
        "probe": hashes(probe), "batches": [hashes(vars(batch)) for batch in batches],
        "masks": mask_hashes(arguments, lora, batches[:MASKED_STEPS], probes),
        "decoded": hashes(decoded), "contexts": [array_hash(np.array(context, np.int32)) for context in contexts]})
    print(f"{arguments.output}: {len(arrays)} arrays of {', '.join(probes.description.values())}")


def first_batches(arguments) -> tuple[list[Batch], list[float]]:
    """Returns the batches and the learning rates of the run's first steps."""
    rows = read_rows(arguments.train_data)
    last_step = planned_steps(arguments, len(rows))
    if last_step < arguments.steps:
        raise UserError(f"--steps {arguments.steps}: the run has {last_step}; give a higher --max_epoch or --max_step")
    rate = schedule_of(arguments, last_step)
    batches = [batch for _, _, batch in itertools.islice(batches_of(arguments, rows), arguments.steps)]
    return batches, [rate(step) for step in range(arguments.steps)]


def without_zeros(lora: Arrays) -> Arrays:
    """Returns LoRA weights in which arrays of zeros have seeded normal values."""
    generator = np.random.RandomState(PROBE_SEED)
    return {name: array if array.any() else (PROBE_SPREAD * generator.randn(*array.shape)).astype(np.float32)
            for name, array in lora.items()}


def nudged(lora: Arrays, precision: str) -> Arrays:
    """Returns LoRA weights whose first ``lora_A`` has each element one unit in the last place higher."""
    first = next(name for name in lora if name.endswith("lora_A"))
    return {**lora, first: next_up(lora[first], precision)}


def next_up(array: np.ndarray, precision: str) -> np.ndarray:
    """Returns float32 numbers one unit in the last place higher: in fp64 one of float64, as small as its rounding."""
    return np.nextafter(array.astype(np.float64) if precision == "fp64" else array, np.float32(np.inf))


def first_pass(arguments, lora: Arrays, batch: Batch, probes: Probes, inputs: Dump | None) -> Arrays:
    """Returns the arrays of the forward pass, of its gradients and of one update; and those of single-step mode."""
    operations, loss, gradients = probes.trace(lora, batch, None)
    arrays = {**prefixed("forward/", operations), "loss/forward": np.array([loss]), **prefixed("backward/", gradients)}
    if inputs is not None and inputs.meta["batches"][0] != hashes(vars(batch)):
        print(f"note: no single-step mode, for the first batch is another one than in {inputs.path}", file=sys.stderr)
    elif inputs is not None:
        operations, loss, _ = probes.trace(lora, batch, inputs.part("forward/"))
        arrays.update({**prefixed("single/", operations), "loss/single": np.array([loss])})
    step = probes.first_step(lora, batch)
    shapes = {name: array.shape for name, array in step["weights"].items()}
    return {**arrays, **prefixed("backward/", by_name(shapes, step["gradients"])),
            **prefixed("optimiser/first_moment/", by_name(shapes, step["first_moments"])),
            **prefixed("optimiser/second_moment/", by_name(shapes, step["second_moments"])),
            **prefixed("optimiser/change/", {name: array - lora[name]
                                             for name, array in by_name(shapes, step["values"]).items()})}


def training(arguments, lora: Arrays, batches: list[Batch], rates: list[float],
             probes: Probes) -> tuple[Arrays, Arrays]:
    """Trains twice, from the run's first weights and from nudged ones; returns the first one's weights and arrays."""
    losses, weights = probes.train(lora, batches, rates)
    nudged_losses, nudged_weights = probes.train(nudged(lora, arguments.precision), batches, rates)
    return weights, {"steps/losses": np.array(losses), "steps/nudged_losses": np.array(nudged_losses),
                     **prefixed("steps/weights/", weights), **prefixed("steps/nudged_weights/", nudged_weights)}


def weights_to_decode(arguments, inputs: Dump | None, trained: Arrays) -> Arrays:
    """Returns the LoRA weights of the beam search: the same in both frameworks if the second one has ``--inputs``."""
    if arguments.checkpoint:
        return load_weights(arguments.init_checkpoint, arguments.checkpoint, arguments.card, arguments.lora)[1]
    return trained if inputs is None else inputs.part("steps/weights/")


def first_contexts(arguments) -> list[list[int]]:
    """Returns the first distinct contexts of ``--test_data``."""
    rows = read_rows(arguments.test_data)
    return distinct_contexts(rows, arguments.seq_len - arguments.eval_len)[0][:arguments.contexts]


def beam(arguments, merged: Arrays, contexts: list[list[int]], probes: Probes) -> Arrays:
    """Returns the outputs of a beam search and their scores."""
    outputs, scores = search_contexts(probes.search_model(merged), contexts, SearchSettings.of(arguments),
                                      arguments.batch_size)
    tokens = np.full((len(contexts), arguments.eval_len), -1, np.int32)
    for row, output in enumerate(outputs):
        tokens[row, :len(output)] = output
    return {"beam/tokens": tokens, "beam/scores": np.array(scores)}


def hashes(arrays: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Returns ``{name: hash}`` of what is an array among the values."""
    return {name: array_hash(array) for name, array in arrays.items() if isinstance(array, np.ndarray)}


def mask_hashes(arguments, lora: Arrays, batches: list[Batch], probes: Probes) -> list[dict]:
    """Returns ``{layer, step, stream, sha256, twin}`` of each LoRA layer's mask in some steps; twin is numpy's."""
    found = []
    if arguments.lora_dropout > 0:
        for step, (batch, masks) in enumerate(zip(batches, probes.masks(lora, batches)), 1):
            for layer, (stream, dropped) in masks.items():
                dropout = Dropout(arguments.lora_dropout, stream, batch.step_key, batch.token_keys)
                twin = is_kept(dropout, dropped.shape[1])
                found.append({"layer": layer, "step": step, "stream": stream,
                              "sha256": array_hash(np.packbits(dropped != 0)), "twin": array_hash(np.packbits(twin))})
    return found
