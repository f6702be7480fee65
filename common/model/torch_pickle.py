"""Reads torch's checkpoint files, zip and legacy, as numpy arrays: without torch, and without executing them.

A torch checkpoint is a pickle, that is a small program. Here it may build dictionaries, lists, numbers, strings and
tensors. Whatever else it asks for is refused before it runs; the message names it. Time and memory are bounded by the
file's size: a few bytes of a pickle can build nested values of 2^48 parts, or ask for terabytes.
"""

import collections
import io
import math
import os
import pickle
import struct
import typing
import zipfile

import numpy as np

from common.checks import printable, shortened
from common.errors import UserError

ZIP_MAGIC = b"PK\x03\x04"
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
MAX_DEPTH = 50  # levels of nesting; a dictionary that holds itself would have no end
MAX_DIMENSIONS = 32  # of a tensor, as numpy has it
BFLOAT16 = "bfloat16"
STORAGE_DTYPES = {
    "DoubleStorage": "f8", "FloatStorage": "f4", "HalfStorage": "f2", "BFloat16Storage": BFLOAT16,
    "LongStorage": "i8", "IntStorage": "i4", "ShortStorage": "i2", "CharStorage": "i1", "ByteStorage": "u1",
    "BoolStorage": "?",
}


class _Storage(typing.NamedTuple):
    """Consecutive elements in the file, named by the pickle but not read yet."""

    key: str
    dtype: str
    elements: int


class _Tensor(typing.NamedTuple):
    """A view of a storage; offset and strides count elements. Nothing in it is checked yet."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_torch(path: str | os.PathLike) -> dict[typing.Any, typing.Any]:
    """Reads a file that ``torch.save`` wrote for a state dict or a dictionary around one.

    Returns:
        The dictionary, nested as in the file, with numpy arrays instead of tensors. bfloat16 becomes float32, all
        other dtypes stay. Arrays can be strided views that share memory, as the tensors did.

    Raises:
        UserError: the file is missing, truncated, damaged or not torch's, it asks for anything but plain data and
            tensors, or its root is no dictionary.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise UserError(f"{path}: no such file")
    with open(path, "rb") as file:
        is_zip = file.read(len(ZIP_MAGIC)) == ZIP_MAGIC
        file.seek(0)
        try:
            root, storages = (_read_zip if is_zip else _read_legacy)(file, path)
            found = _to_numpy(root, storages, path, {}, MAX_DEPTH)
        except UserError:
            raise
        except Exception as error:  # a damaged pickle can end in any exception
            raise UserError(f"{path}: truncated, damaged or not a torch checkpoint "
                            f"({printable(f'{type(error).__name__}: {error}')}); download or write the file "
                            "again") from error
    if not isinstance(found, dict):
        raise UserError(f"{path}: holds a {type(found).__name__}, expected a state dict: a dictionary of tensors")
    return found


def _key(key):
    """Returns a dictionary's key; refuses all but strings and integers, for the hash of nested tuples may not end."""
    if type(key) not in (str, int):
        raise ValueError(f"a dictionary with a {type(key).__name__} as a key")
    return key


class _Unpickler(pickle._Unpickler):
    """An unpickler that builds plain data and tensors and refuses everything else.

    It extends Python's own, because the one in C allocates a memo of whatever size a damaged file asks for.
    """

    dispatch = pickle._Unpickler.dispatch.copy()

    def __init__(self, file, path):
        super().__init__(file, encoding="utf-8")
        self.path = path
        self.dtypes = {}  # of the storages found so far, by key

    def find_class(self, module, name):
        if module == "torch" and name in STORAGE_DTYPES:
            return STORAGE_DTYPES[name]
        # New functions on every call, because a pickle can set attributes of what it gets.
        if (module, name) == ("collections", "OrderedDict"):
            return lambda items=(): collections.OrderedDict((_key(key), value) for key, value in items)
        if (module, name) == ("torch", "Size"):
            return lambda dimensions=(): tuple(dimensions)
        if module == "torch._utils" and name in ("_rebuild_tensor", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: _Tensor(storage, offset, shape, strides)
        if module == "torch._utils" and name in ("_rebuild_parameter", "_rebuild_parameter_with_state"):
            return lambda tensor, *_: tensor
        raise UserError(f"{self.path}: refused, because it asks for {printable(f'{module}.{name}')} and only tensors "
                        "and plain data are read; if you trust the file, load it in torch and save only its "
                        "state_dict()")

    def load_setitem(self):
        _key(self.stack[-2])
        super().load_setitem()

    def load_items(self):
        for key in self.stack[::2]:
            _key(key)
        super().load_setitems()

    def load_dict(self):
        for key in self.stack[::2]:
            _key(key)
        super().load_dict()

    def refuse(self):
        raise ValueError("a set or an array of bytes, which no checkpoint needs")

    dispatch.update({pickle.SETITEM[0]: load_setitem, pickle.SETITEMS[0]: load_items, pickle.DICT[0]: load_dict})
    dispatch.update(dict.fromkeys((pickle.EMPTY_SET[0], pickle.ADDITEMS[0], pickle.FROZENSET[0],
                                   pickle.BYTEARRAY8[0]), refuse))

    def persistent_load(self, identifier):
        kind, dtype, key, _location, elements, *view = identifier
        if not all(isinstance(part, str) for part in (kind, dtype, key)):
            raise ValueError("a storage whose kind, dtype or key is no string")
        if kind != "storage" or any(part is not None for part in view):
            raise UserError(f"{self.path}: refused, because it asks for a stored {shortened(kind)} and only whole "
                            "storages of tensors are read; save the model's state_dict() with a newer torch")
        if dtype not in STORAGE_DTYPES.values() or self.dtypes.setdefault(key, dtype) != dtype:
            raise ValueError(f"storage {printable(key)} has dtype {shortened(dtype)}")
        return _Storage(key, dtype, elements)


def _read_zip(file, path):
    """Returns the unpickled root and ``{key: array of shape (elements,)}`` of torch's zip format."""
    archive, left = zipfile.ZipFile(file), os.fstat(file.fileno()).st_size
    pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise UserError(f"{path}: a zip archive with {len(pickles)} entries named data.pkl, expected one as in a torch "
                        "checkpoint")
    folder = pickles[0][:-len("data.pkl")]
    order = "<"
    if folder + "byteorder" in archive.namelist():
        order = {b"little": "<", b"big": ">"}[archive.read(_stored(archive, folder + "byteorder", left))]
    unpickler = _Unpickler(io.BytesIO(archive.read(_stored(archive, pickles[0], left))), path)
    root = unpickler.load()
    storages = {}
    for key, dtype in unpickler.dtypes.items():
        entry = _stored(archive, f"{folder}data/{key}", left)
        left -= entry.file_size  # entries can lie over one another
        with archive.open(entry) as stream:
            storages[key] = _read_elements(stream, entry.file_size, dtype, order)
    return root, storages


def _stored(archive, name, most):
    """Returns an entry of the archive of at most ``most`` bytes.

    A compressed one is refused: torch writes none, and it can unpack to any size.
    """
    entry = archive.getinfo(name)
    if entry.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{printable(name)} is compressed")
    if entry.file_size != entry.compress_size or entry.file_size > most:
        raise ValueError(f"{printable(name)} has {entry.file_size} bytes, more than there are in the file")
    return entry


class _Within:
    """A file of which no more is read, nor room made for, than there is."""

    def __init__(self, file):
        self.file, self.size = file, os.fstat(file.fileno()).st_size
        self.readline = file.readline

    def read(self, count):
        if count > self.size - self.file.tell():
            raise EOFError(f"{count} bytes expected")
        return self.file.read(count)


def _read_legacy(file, path):
    """Returns the same as ``_read_zip`` for the format of torch before 1.6: pickles, then one storage after another."""
    within = _Within(file)
    if _Unpickler(within, path).load() != LEGACY_MAGIC:
        raise ValueError("the first bytes are not torch's")
    if _Unpickler(within, path).load() != LEGACY_PROTOCOL:
        raise ValueError(f"another protocol than {LEGACY_PROTOCOL}")
    order = "<" if _Unpickler(within, path).load()["little_endian"] else ">"
    unpickler = _Unpickler(within, path)
    root = unpickler.load()
    storages = {}
    for key in _Unpickler(within, path).load():
        dtype = unpickler.dtypes[_key(key)]
        (elements,) = struct.unpack(order + "q", file.read(8))
        length = elements * _stored_dtype(dtype, order).itemsize
        if not 0 <= length <= within.size - file.tell():
            raise EOFError(f"storage {printable(str(key))} of {elements} elements does not fit into the file")
        storages[key] = _read_elements(file, length, dtype, order)
    return root, storages


def _stored_dtype(dtype, order):
    return np.dtype("u2" if dtype == BFLOAT16 else dtype).newbyteorder(order)


def _read_elements(stream, length, dtype, order):
    """Reads ``length`` bytes into a writable array ``(elements,)`` of the machine's byte order."""
    buffer = np.empty(length, np.uint8)
    if stream.readinto(buffer.data) != length:
        raise EOFError(f"{length} bytes expected")
    stored = _stored_dtype(dtype, order)
    elements = buffer[:length // stored.itemsize * stored.itemsize].view(stored)
    elements = elements.astype(stored.newbyteorder("="), copy=False)
    return widen_bfloat16(elements) if dtype == BFLOAT16 else elements


def widen_bfloat16(bits: np.ndarray) -> np.ndarray:
    """Returns as float32 the numbers whose bfloat16 bits are given as uint16: the upper half of a float32's bits."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _to_numpy(value, storages, path, done, depth):
    """Returns ``value`` with arrays instead of ``_Tensor``s.

    ``done`` is ``{id: result}`` of the lists and dictionaries so far: what is in several places is converted once.
    """
    if depth == 0:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, _Tensor):
        return _view(value, storages)
    if isinstance(value, (dict, list, tuple)) and not isinstance(value, _Storage):
        if id(value) not in done:
            items = ((key, _to_numpy(item, storages, path, done, depth - 1)) for key, item in
                     (value.items() if isinstance(value, dict) else enumerate(value)))
            done[id(value)] = dict(items) if isinstance(value, dict) else type(value)(item for _, item in items)
        return done[id(value)]
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        return value
    raise UserError(f"{path}: holds a {type(value).__name__.strip('_')}, expected tensors, numbers and strings only")


def _view(tensor, storages):
    """Returns a tensor's view of its storage, after checking that it stays inside."""
    storage, offset, shape, strides = tensor
    if not isinstance(storage, _Storage) or len(shape) != len(strides):
        raise ValueError("a tensor without a storage, or without exactly one stride per dimension")
    if len(shape) > MAX_DIMENSIONS:
        raise ValueError(f"a tensor of {len(shape)} dimensions")
    if any(type(number) is not int or not 0 <= number < 2**63 for number in (offset, storage.elements, *shape,
                                                                           *strides)):
        raise ValueError("a tensor whose offset, shape or strides are not integers from 0 up")
    elements = storages[storage.key]
    if math.prod(shape) == 0:
        return np.empty(tuple(shape), elements.dtype)
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides))
    if last >= min(storage.elements, len(elements)):
        raise ValueError(f"a tensor reaches element {last} of a storage of {min(storage.elements, len(elements))}")
    return np.lib.stride_tricks.as_strided(elements[offset:], tuple(shape),
                                           [stride * elements.itemsize for stride in strides])
