"""State files: all that a training needs to go on as if it had never been cut off.

Batches depend on the seed and the step, dropout masks too, so no random generator is kept. A state is written under
another name, synced and renamed; a SHA-256 over all of its bytes tells whether it is what was written.
"""

import dataclasses
import hashlib
import json
import math
import os
import re
from dataclasses import dataclass

import numpy as np
import safetensors.numpy

from common.checks import parse_json, shortened
from common.errors import UserError, note
from common.files import atomic_write, find_input, sha256_of
from common.model.checkpoint import backbone_hash
from common.model.initial_weights import RANDOM
from common.model.lora_file import DIVERGED
from common.model.weight_files import check_finite, resolve_checkpoint
from common.precisions import PRECISIONS
from common.run import processes
from common.run.progress import LOG_FILE, Progress

NAME = re.compile(r"state\.(\d+)\.safetensors")
_SEAL = re.compile(rb'"sha256":"([0-9a-f]{64})"')
_NO_SEAL = "0" * 64
# What stands beside the flags in their namespace.
NOT_FLAGS = {"card", "lora", "ontology", "backbone_path", "vocab_path"}
# Flags that change no number of the training, or whose value stands under another name too.
FREE = {"work_dir", "device", "platform", "overwrite", "resume", "keep_last", "state_minutes", "tensorboard",
        "log_interval", "save_interval", "eval_interval", "eval_epoch", *NOT_FLAGS, *PRECISIONS,
        "output_dir", "train_file", "validation_file", "test_file", "model_name_or_path", "report_to",
        "logging_steps", "save_steps", "eval_steps"}
DATA, WEIGHTS = ("train_data", "valid_data"), ("init_checkpoint", "lora_checkpoint")


@dataclass(frozen=True)
class State:
    """What a state file holds.

    Attributes:
        progress: the Progress.
        framework: which one trained; each rounds in its own way.
        settings: of settings_of.
        log_bytes: length of train_log.jsonl.
        lines: printed so far.
        arrays: ``{name: array}`` of the Steps.
        path: the file that it was read from.
    """

    progress: Progress
    framework: str
    settings: dict
    log_bytes: int
    lines: list[str]
    arrays: dict[str, np.ndarray]
    path: str = ""


def state_paths(folder):
    """Returns the paths of a folder's state files, the newest first."""
    if not os.path.isdir(folder):
        return []
    steps = sorted((int(match[1]) for match in map(NAME.fullmatch, os.listdir(folder)) if match), reverse=True)
    return [_path(folder, step) for step in steps]


def _path(folder, step):
    return os.path.join(folder, f"state.{step}.safetensors")


def write_state(folder, state, keep_last):
    """Writes a State, and removes all but the newest ``keep_last`` states of the folder.

    Raises:
        UserError: a number in it is not finite; nothing is written.
    """
    for name, array in state.arrays.items():
        check_finite(name, array, _path(folder, state.progress.step), DIVERGED)
    progress = dataclasses.asdict(state.progress)
    if progress["best_valid_loss"] == math.inf:  # JSON has no such number
        del progress["best_valid_loss"]
    text = json.dumps({"progress": progress, "framework": state.framework, "settings": state.settings,
                       "log_bytes": state.log_bytes, "lines": state.lines}, allow_nan=False)
    content = safetensors.numpy.save(state.arrays, {"state": text, "sha256": _NO_SEAL})
    digest = hashlib.sha256(content).hexdigest()
    with atomic_write(_path(folder, state.progress.step), "wb") as file:
        file.write(_SEAL.sub(f'"sha256":"{digest}"'.encode(), content, count=1))
    for path in state_paths(folder)[keep_last:]:
        os.unlink(path)


def read_state(path):
    """Reads a state file.

    Raises:
        UserError: it is not what was written.
    """
    with open(path, "rb") as file:
        content = file.read()
    seal = _SEAL.search(content)
    unsealed = _SEAL.sub(f'"sha256":"{_NO_SEAL}"'.encode(), content, count=1)
    if not seal or seal[1].decode() != hashlib.sha256(unsealed).hexdigest():
        raise UserError(f"{path}: is damaged: " + ("its checksum is not that of its content" if seal else
                                                   "it is cut off or no state file"))
    with safetensors.safe_open(path, framework="np") as file:
        fields = parse_json(file.metadata()["state"], path)
        arrays = {name: file.get_tensor(name) for name in file.keys()}
    known = {field.name for field in dataclasses.fields(Progress)}
    if fields["progress"].keys() | {"best_valid_loss"} != known:
        raise UserError(f"{path}: was written by another version of the program")
    return State(**{**fields, "progress": Progress(**fields["progress"])}, arrays=arrays, path=path)


def newest_state(folder):
    """Returns the newest State of a folder that is whole, or None; what is damaged is said.

    A state whose train_log.jsonl has lost lines since does not count either.
    """
    log = os.path.join(folder, LOG_FILE)
    log_bytes = os.path.getsize(log) if os.path.isfile(log) else 0
    for path in state_paths(folder):
        try:
            state = read_state(path)
        except UserError as error:
            note(f"{error}; it is left out")
            continue
        if state.log_bytes <= log_bytes:
            return state
        note(f"{path}: is left out: {log} has {log_bytes} bytes, expected the {state.log_bytes} of when it was written")
    return None


def remove_states(folder, newer_than=-1):
    """Removes the states of a folder that are behind more than so many steps."""
    for path in state_paths(folder):
        if int(NAME.fullmatch(os.path.basename(path))[1]) > newer_than:
            os.unlink(path)


def settings_of(arguments):
    """Returns ``{name: value}`` of all that decides a training's numbers; files stand for their content's SHA-256.

    Args:
        arguments: of common.run.arguments.training_arguments, or another model's.
    """
    settings = {"processes": processes.count()}
    for name, value in vars(arguments).items():
        if name in FREE:
            continue
        if value is not None and name in DATA:
            value = sha256_of(find_input(value))
        elif value not in (None, RANDOM) and name in WEIGHTS:
            value = backbone_hash(resolve_checkpoint(value))
        settings["--" + name] = value
    return json.loads(json.dumps(settings, default=repr))


def differences(then, now):
    """Returns in words how settings differ, for each that does."""
    def shown(settings, name):
        value = settings.get(name, "absent")
        is_file = name[2:] in (*DATA, *WEIGHTS) and value not in (None, RANDOM)
        return f"a file with the SHA-256 {value[:12]}..." if is_file else shortened(value)
    return [f"{name} was {shown(then, name)} and is {shown(now, name)}" for name in sorted(then.keys() | now.keys())
            if then.get(name) != now.get(name)]


def state_to_resume(arguments, settings):
    """Returns the State from which a training with these settings goes on, or None where it starts anew.

    Raises:
        UserError: the newest state is of other settings, and ``--overwrite`` is not given; the message names each.
    """
    state = newest_state(arguments.work_dir) if arguments.resume else None
    differing = differences(state.settings, settings) if state else []
    if not differing:
        return state
    found = f"{state.path}: is of a training with other hyper-parameters: {'; '.join(differing)}"
    if not arguments.overwrite:
        raise UserError(f"{found}; give those of then to go on, or --overwrite without --resume to start anew")
    note(f"{found}; starting anew")
    return None


def check_writer(state, framework, names):
    """Checks that a State is of this framework, and has the arrays of these names.

    Raises:
        UserError: it is the other's, or another version's.
    """
    if state.framework != framework:
        raise UserError(f"{state.path}: is of a training in {state.framework}, expected {framework}; go on with that "
                        "tree's program, or give another --work_dir")
    if state.arrays.keys() != set(names):
        raise UserError(f"{state.path}: was written by another version of the program; start anew: --overwrite without "
                        "--resume, or give another --work_dir")
