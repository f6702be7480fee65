"""Finds checkpoint files and reads them, of any origin, as float32 arrays under Hugging Face's GPT-2 names."""

import functools
import json
import os
import re
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import safetensors

from common.checks import printable
from common.errors import UserError, note
from common.files import read_json
from common.model.torch_pickle import ZIP_MAGIC, read_torch, widen_bfloat16
from common.paths import PRETRAINED

SUFFIXES = (".safetensors", ".pt", ".bin", ".pth")
INDEX = ".index.json"
FOLDER_FILES = ("model.safetensors", "model.safetensors" + INDEX, "pytorch_model.bin", "pytorch_model.bin" + INDEX)
WRAPPERS = ("model_state_dict", "state_dict")
WRAPPING_MODULES = ("module", "_orig_mod")  # DataParallel's and torch.compile's parts of a name
PEFT_NAME = re.compile(r"base_model\.model\..*|.*\.lora_[AB]\.(\w+\.)?weight")
ATTENTION_BUFFER = re.compile(r"h\.\d+\.attn\.(masked_)?bias")  # the causal mask, which older files contain
OUTPUT_EMBEDDINGS = ("lm_head.weight", "lm_head.decoder.weight")
INPUT_EMBEDDING = "transformer.wte.weight"
OLD_ENDINGS = {"g": "weight", "w": "weight", "b": "bias"}  # TensorFlow's, in files of the first conversions to torch
NUMPY_DTYPES = ("F64", "F32", "F16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL")  # of safetensors
LISTED = 4  # names that a message shows of a longer list
# How many bytes of float32 one byte of a file can be: twice as many from 16 bits, twice for the tied output embedding.
MOST_BYTES_OF_ONE = 4


def resolve_checkpoint(path: str | os.PathLike) -> str:
    """Returns the file to read for what a command line names as a checkpoint.

    That is the file itself; for a folder, its model file; for ``model.9000.pt`` a ``model.9000.safetensors`` beside it;
    for ``gpt2-medium-pytorch_model.bin`` the model file of the folder ``gpt2-medium`` beside it or under
    ``pretrained_checkpoints/``. If the file used is not the one named, a line on stderr says so.

    Raises:
        UserError: there is none; the message lists the checkpoints in that folder.
    """
    named = Path(path)
    if named.is_file():
        return str(named)
    if named.is_dir():
        for candidate in (named / name for name in FOLDER_FILES):
            if candidate.is_file():
                return str(candidate)
        raise UserError(f"{path}: a folder without any of {', '.join(FOLDER_FILES)}; {_checkpoints_in(named)}")
    candidates = [named.with_suffix(".safetensors")] if named.suffix in SUFFIXES else []
    model, ending, _ = named.name.rpartition("-pytorch_model.bin")
    if ending:
        candidates += [folder / model / name for folder in (named.parent, PRETRAINED) for name in FOLDER_FILES]
    for candidate in candidates:
        if candidate.is_file():
            say_once(f"{path} does not exist, using {candidate}")
            return str(candidate)
    folder = named.parent
    found = _checkpoints_in(folder) if folder.is_dir() else f"the folder {folder} does not exist either"
    model = model or named.name
    if model in ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl", "chatglm2-6b"):
        found += f"; to download {model}: bash scripts/download_pretrained_checkpoints.sh {model}"
    raise UserError(f"{path}: no such checkpoint; {found}")


@functools.lru_cache(None)
def say_once(sentence: str) -> None:
    """Writes a note to stderr; each text once per process."""
    note(sentence)


def _checkpoints_in(folder):
    """Returns a phrase that lists the checkpoints, and the folders with a model file, in ``folder``."""
    names = [entry.name for entry in folder.iterdir() if entry.is_file() and entry.suffix in SUFFIXES]
    names += [entry.name + "/" for entry in folder.iterdir() if any((entry / name).is_file() for name in FOLDER_FILES)]
    # Numbers in names are ordered as numbers: step 900 before step 1000.
    names.sort(key=lambda name: [(int(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", name)])
    return f"{folder} has {shorten(names, 20)}" if names else f"no checkpoint is in {folder}"


def shorten(names: Sequence[str], most: int = LISTED) -> str:
    """Joins names, as far as they can be printed, with commas; of more than ``most`` the end is ``and N more``."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(printable, names[:most])) + more


def shard_files(path: str) -> list[str]:
    """Returns the files that hold the arrays: ``[path]``, or the shards that a Hugging Face index file names.

    Raises:
        UserError: the index names no shard, or one that does not exist.
    """
    if not path.endswith(INDEX):
        return [path]
    names = sorted(set(read_json(path, {"weight_map": {str: str}})["weight_map"].values()))
    elsewhere = [name for name in names if os.path.basename(name) != name]
    if elsewhere:
        raise UserError(f"{path}: lists {shorten(elsewhere)}, expected names of files beside it")
    shards = [os.path.join(os.path.dirname(path), name) for name in names]
    missing = [shard for shard in shards if not os.path.isfile(shard)]
    if missing or not shards:
        lacking = f", and {shorten(missing, len(missing))} does not exist" if missing else ""
        raise UserError(f"{path}: lists {len(shards)} shards{lacking}; download the checkpoint again")
    return shards


def read_arrays(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads a checkpoint: safetensors, torch's zip or legacy format, or a Hugging Face folder.

    Args:
        path: a file or a folder, as for ``resolve_checkpoint``.

    Returns:
        ``{name: float32 array}`` with names like ``transformer.h.0.attn.c_attn.weight``, whatever prefixes the file
        has. Wrappers (``model_state_dict``, ``state_dict``), attention-mask buffers and the output embedding, which is
        tied to the input embedding, are removed.

    Raises:
        UserError: the file does not exist, is not a checkpoint, is damaged, is PEFT's, holds something else than
            floating-point arrays or numbers that are not finite, or its arrays are larger than the file can hold.
    """
    path = resolve_checkpoint(path)
    arrays, shards = {}, shard_files(path)
    for shard in shards:
        arrays.update(_unwrap(_read_file(shard), shard))
    return _canonical(arrays, path, sum(map(os.path.getsize, shards)))


def read_named_arrays(path: str, unused: re.Pattern | None = None) -> dict[str, np.ndarray]:
    """Reads the arrays of one file under the names that they have there; wrappers around them are removed.

    Args:
        path: the file.
        unused: arrays whose whole name it matches are left out, whatever they hold.

    Returns:
        ``{name: float32 array}``.

    Raises:
        UserError: as ``read_arrays``.
    """
    arrays = _unwrap(_read_file(path), path)
    kept = {name: array for name, array in arrays.items() if not (unused and unused.fullmatch(name))}
    return _as_float32(kept, path, os.path.getsize(path))


def stream_file(path: str) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the arrays of one file under the names and in the dtypes that they have there, and forgets each.

    Of safetensors one array at a time is in memory, of a torch file those that are still to come. bfloat16 becomes
    float32. An array can be a view of less data than its shape says, so look at the shape before it is copied.

    Raises:
        UserError: the file is not a checkpoint, or is damaged.
    """
    arrays = _read_file(path, lazily=True)
    if not isinstance(arrays, dict):
        yield from arrays
        return
    arrays = dict(_unwrap(arrays, path))
    for name in list(arrays):
        yield name, arrays.pop(name)


def _read_file(path, lazily=False):
    with open(path, "rb") as file:
        start = file.read(64)
    # First, because a header's length can start with any byte, also with a pickle's.
    if start[8:9] == b"{":
        return _read_safetensors(path) if lazily else dict(_read_safetensors(path))
    if start[:4] == ZIP_MAGIC or start[:1] == b"\x80":
        return read_torch(path)
    if start.startswith(b"version https://git-lfs"):
        raise UserError(f"{path}: a Git LFS pointer, not the checkpoint itself; download it with: git lfs pull")
    raise UserError(f"{path}: neither safetensors nor a torch checkpoint; " +
                    (f"it starts with {start[:16]!r}" if start else "it is empty"))


def _read_safetensors(path):
    with open_safetensors(path) as file:
        for name in file.keys():
            dtype = file.get_slice(name).get_dtype()
            if dtype == "BF16":
                yield name, _read_bfloat16(path, name)
            elif dtype in NUMPY_DTYPES:
                yield name, file.get_tensor(name)
            else:
                raise UserError(f"{path}: {printable(name)} has dtype {dtype}, expected F32, F16, BF16 or F64")


def open_safetensors(path: str | os.PathLike) -> safetensors.safe_open:
    """Opens a safetensors file, a context manager.

    Raises:
        UserError: the header is not that of a complete safetensors file.
    """
    try:
        return safetensors.safe_open(path, framework="np")
    except safetensors.SafetensorError as error:
        raise UserError(f"{path}: truncated or damaged ({error}); download or write the file again") from error


def _read_bfloat16(path, name):
    """Reads an array of bfloat16, which numpy has no dtype for, at the offsets in the header (already checked)."""
    with open(path, "rb") as file:
        (header_length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(header_length))[name]
        begin, end = header["data_offsets"]
        file.seek(8 + header_length + begin)
        return widen_bfloat16(np.frombuffer(file.read(end - begin), "<u2")).reshape(header["shape"])


def _unwrap(found, path):
    for wrapper in WRAPPERS:
        if isinstance(found.get(wrapper), dict):
            return _unwrap(found[wrapper], path)
    others = [str(name) for name, value in found.items()
              if not isinstance(name, str) or not isinstance(value, np.ndarray)]
    if others:
        raise UserError(f"{path}: {shorten(others)}: not arrays; expected a state dict, {{name: array}}, as the root "
                        f"or under {' or '.join(WRAPPERS)}")
    return found


def _short_name(name):
    """Returns Hugging Face's name of an array without what wraps the model, and without ``transformer.``."""
    parts = [part for part in name.split(".") if part not in WRAPPING_MODULES]
    if len(parts) > 1:
        parts[-1] = OLD_ENDINGS.get(parts[-1], parts[-1])
    return ".".join(parts).removeprefix("transformer.")


def _canonical(arrays, path, file_bytes):
    """Returns the arrays under their full names as float32, without those that a GPT-2 does not need."""
    kept = {}
    for name, array in arrays.items():
        if PEFT_NAME.fullmatch(name):
            raise UserError(f"{path}: {printable(name)} is a name of Hugging Face's PEFT: scripts/import_peft.py makes "
                            "a LoRA file of an adapter's folder, and what PEFT's merge_and_unload() returns can be "
                            "saved for --init_checkpoint")
        short = _short_name(name)
        if ATTENTION_BUFFER.fullmatch(short):
            continue
        full = short if short in OUTPUT_EMBEDDINGS else "transformer." + short
        if full in kept:
            raise UserError(f"{path}: {printable(name)} appears twice, under different prefixes; expected one array of "
                            "this name")
        kept[full] = array
    return _without_output_embedding(_as_float32(kept, path, file_bytes), path)


def _as_float32(arrays, path, file_bytes):
    """Returns the arrays as contiguous float32, after checking that they hold finite floating-point numbers."""
    for name, array in arrays.items():
        if not np.issubdtype(array.dtype, np.floating):
            raise UserError(f"{path}: {printable(name)} has dtype {array.dtype}, expected floating-point weights")
    needed = 4 * sum(array.size for array in arrays.values())
    if needed > MOST_BYTES_OF_ONE * file_bytes:  # a torch file's array can be one number, read again and again
        raise UserError(f"{path}: its arrays would have {needed} bytes, and the file has {file_bytes}: they are views "
                        "of less data; save them with tensor.clone()")
    converted = {}
    for name, array in arrays.items():
        with np.errstate(over="ignore"):
            converted[name] = np.ascontiguousarray(array, np.float32)
        check_finite(name, converted[name], path, "it belongs to a training that has diverged, or is damaged")
    return converted


def check_finite(name: str, array: np.ndarray, path: str | os.PathLike, reason: str) -> None:
    """Checks that an array of weights, read from or to be written to a file, holds finite numbers alone.

    Raises:
        UserError: it does not; the message ends with ``reason``.
    """
    # NaN is the least and the largest of what it is among; this is eight times faster than looking at each number.
    if array.size and not (np.isfinite(array.min()) and np.isfinite(array.max())):
        count = array.size - np.count_nonzero(np.isfinite(array))
        raise UserError(f"{path}: {printable(name)} holds {count} of {array.size} numbers that are NaN or infinite: "
                        f"{reason}")


def _without_output_embedding(arrays, path):
    """Returns the arrays without the output embedding, which has to be the input embedding's equal."""
    for name in OUTPUT_EMBEDDINGS:
        if name in arrays:
            output = arrays.pop(name)
            if not np.array_equal(arrays.setdefault(INPUT_EMBEDDING, output), output):
                raise UserError(f"{path}: {name} differs from {INPUT_EMBEDDING}; GPT-2 ties the two, so the file "
                                "belongs to another model")
    return arrays
