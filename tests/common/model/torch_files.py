"""Files that torch writes, and files as if it had written them."""

import os
import pickle
import zipfile

import pytest
import torch

both_formats = pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])


def save(path, value, is_zip):
    torch.save(value, path, _use_new_zipfile_serialization=is_zip)
    return path


def rewrite(source, target, **changes):
    """Copies a zip archive with other contents for the entries whose base name is in ``changes``."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = changes.get(os.path.basename(name).replace(".", "_"), old.read(name))
            if content is not None:
                new.writestr(name, content)
    return target


class Evil:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call[0], self.call[1:]


class Storage:
    """Stands for a storage of four floats in a forged pickle."""

    identifier = ("storage", torch.FloatStorage, "0", "cpu", 4)


class Pickler(pickle.Pickler):
    def persistent_id(self, value):
        return value.identifier if isinstance(value, Storage) else None


def forge(folder, value):
    """A torch zip file of four floats whose pickle is that of ``value``."""
    save(folder / "a.pt", {"a": torch.arange(4.0)}, True)
    with open(folder / "forged.pkl", "wb") as file:
        Pickler(file, 2).dump(value)
    return rewrite(folder / "a.pt", folder / "b.pt", data_pkl=(folder / "forged.pkl").read_bytes())


def tensor(offset, shape, strides, storage=None):
    return Evil(torch._utils._rebuild_tensor_v2, storage or Storage(), offset, shape, strides, False, None)
