"""Files that ask for more than tensors: for calls, for memory, for time. All are refused, and nothing is executed."""

import collections
import os
import zipfile
import zlib

import numpy as np
import pytest
import torch

from common.errors import UserError
from common.model.torch_pickle import read_torch
from tests.common.model.torch_files import Evil, Storage, both_formats, forge, rewrite, save, tensor


@both_formats
@pytest.mark.parametrize("place", ["root", "value", "key of an inner dict"])
def test_a_call_is_refused_and_never_made(tmp_path, is_zip, place):
    evil = Evil(os.system, f"touch {tmp_path}/ran")
    value = {"root": evil, "value": {"a": torch.ones(1), "b": evil}, "key of an inner dict": {"a": {evil: 1}}}[place]
    path = save(tmp_path / "a.pt", value, is_zip)
    with pytest.raises(UserError, match=rf"{path}: refused, because it asks for {os.system.__module__}\.system"):
        read_torch(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("value, name", [
    (Evil(eval, "1"), "__builtin__.eval"),
    (Evil(getattr, "a", "b"), "__builtin__.getattr"),
    (Evil(torch.load, "x"), "torch.serialization.load"),
    (collections.Counter("ab"), "collections.Counter"),
    (np.float64(1.5), r"numpy\._?core\.multiarray\.scalar"),
    (torch.nn.Linear(1, 1), "torch.nn.modules.linear.Linear"),
    (torch.zeros(2, dtype=torch.complex64), "torch.ComplexFloatStorage"),
    (torch.device("cpu"), "torch.device"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_other_globals_are_refused_by_name(tmp_path, value, name):
    with pytest.raises(UserError, match=f"asks for {name} and only tensors"):
        read_torch(save(tmp_path / "a.pt", {"a": value}, True))


def test_protocol_0_pickle_of_a_call(tmp_path):
    (tmp_path / "a.bin").write_bytes(f"cos\nsystem\n(S'touch {tmp_path}/ran'\ntR.".encode())
    with pytest.raises(UserError, match="asks for os.system"):
        read_torch(tmp_path / "a.bin")
    assert not (tmp_path / "ran").exists()


def test_a_forged_file_that_is_right(tmp_path):
    assert read_torch(forge(tmp_path, {"a": tensor(1, (3,), (1,))}))["a"].tolist() == [1, 2, 3]


def endless():
    loop = {}
    loop["a"] = loop
    return loop


@pytest.mark.parametrize("value, reason", [
    ({"a": tensor(0, (5,), (1,))}, "element 4 of a storage of 4"),
    ({"a": tensor(2, (2, 2), (1, 1), None)}, "element 4 of a storage of 4"),
    ({"a": tensor(4, (1,), (1,))}, "element 4"),
    ({"a": tensor(-1, (1,), (1,))}, "not integers"),
    ({"a": tensor(3, (2,), (-1,))}, "not integers"),
    ({"a": tensor(0, (1.5,), (1,))}, "not integers"),
    ({"a": tensor(0, (2, 2), (1,))}, "one stride per dimension"),
    ({"a": tensor(0, (2,), (1,), "no storage")}, "without a storage"),
    ({"a": Storage()}, "holds a Storage"),
    ({"a": {1, 2}}, "asks for .*set"),
    (endless(), "nested deeper"),
    ([tensor(0, (1,), (1,))], "holds a list, expected a state dict"),
], ids=str)
def test_forged_tensors(tmp_path, value, reason):
    with pytest.raises(UserError, match=reason):
        read_torch(forge(tmp_path, value))


@pytest.mark.parametrize("identifier, reason", [
    (("module", torch.FloatStorage, "0", "cpu", 4), "stored 'module'"),
    (("storage", torch.FloatStorage, "0", "cpu", 4, ("1", 0, 2)), "only whole storages"),
    (("storage", "O", "0", "cpu", 4), "dtype 'O'"),
    (("storage", torch.FloatStorage, "nowhere", "cpu", 4), "nowhere"),
    (("storage", torch.FloatStorage, "0", "cpu", "4"), "not integers"),
    (("storage", torch.FloatStorage, "0", "cpu", 400), "element 4 of a storage of 4"),
    (("storage",), "not enough values"),
], ids=str)
def test_forged_storages(tmp_path, identifier, reason):
    storage = Storage()
    storage.identifier = identifier
    with pytest.raises(UserError, match=reason):
        read_torch(forge(tmp_path, {"a": tensor(0, (5,), (1,), storage)}))


def test_one_storage_of_two_dtypes(tmp_path):
    first, second = Storage(), Storage()
    second.identifier = ("storage", torch.IntStorage, "0", "cpu", 4)
    with pytest.raises(UserError, match="storage 0 has dtype 'i4'"):
        read_torch(forge(tmp_path, [first, second]))


def test_compressed_archive(tmp_path):
    save(tmp_path / "a.pt", {"a": torch.zeros(9)}, True)
    packed = zipfile.ZipFile(tmp_path / "b.pt", "w", zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(tmp_path / "a.pt") as old, packed as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(UserError, match="is compressed"):
        read_torch(tmp_path / "b.pt")


def shared(levels, kind=list):
    """A value of 2^levels parts that a pickle of a few bytes a level builds."""
    value = kind((1,))
    for _ in range(levels):
        value = kind((value, value))
    return value


@pytest.mark.parametrize("kind", [list, tuple])
def test_shared_parts_are_converted_once(tmp_path, kind):
    """Without sharing, the 2^40 parts of a file of 500 bytes take days."""
    path = forge(tmp_path, {"a": shared(40, kind)})
    legacy = tmp_path / "legacy.pt"
    torch.save({"a": shared(40, kind)}, legacy, _use_new_zipfile_serialization=False)
    for file in (path, legacy):
        value = read_torch(file)["a"]
        for _ in range(40):
            assert value[0] is value[1]
            value = value[0]
        assert value == kind((1,))


# Pickles by hand, for Python cannot make such keys: a tuple's hash takes as long as it has parts, and here each holds
# the one before it twice.
DEEP = b"K\x01\x85" + b"2\x86" * 60  # (1,), then sixty times the pair of what is there
BY_HAND = {
    "key of SETITEM": (b"}" + DEEP + b"K\x01s", "a dictionary with a tuple as a key"),
    "key of SETITEMS": (b"}(" + DEEP + b"K\x01u", "a dictionary with a tuple as a key"),
    "key of DICT": (b"(" + DEEP + b"K\x01d", "a dictionary with a tuple as a key"),
    "key of OrderedDict": (b"ccollections\nOrderedDict\n]" + DEEP + b"K\x01\x86a\x85R", "a dictionary with a tuple"),
    "None as a key": (b"}NK\x01s", "a dictionary with a NoneType as a key"),
    "storage's kind": (b"(" + DEEP + b"X\x01\0\0\0fX\x01\0\0\x000K\x01K\x04tQ", "is no string"),
    "storage's key": (b"(X\x07\0\0\0storagectorch\nFloatStorage\n" + DEEP + b"K\x01K\x04tQ", "is no string"),
    "set": (b"\x8f(" + DEEP + b"\x90", "a set or an array of bytes"),
    "frozenset": (b"(" + DEEP + b"\x91", "a set or an array of bytes"),
    "array of bytes": (b"\x96" + (2**40).to_bytes(8, "little"), "a set or an array of bytes"),
}


@pytest.mark.parametrize("body, reason", BY_HAND.values(), ids=BY_HAND)
def test_operations_that_would_take_for_ever(tmp_path, body, reason):
    content = b"\x80\x05" + body + b"."
    save(tmp_path / "a.pt", {"a": torch.ones(1)}, True)
    with pytest.raises(UserError, match=reason):
        read_torch(rewrite(tmp_path / "a.pt", tmp_path / "b.pt", data_pkl=content))
    (tmp_path / "c.pt").write_bytes(content)
    with pytest.raises(UserError, match=reason):
        read_torch(tmp_path / "c.pt")


def test_a_name_that_acts_on_the_terminal(tmp_path):
    save(tmp_path / "a.pt", {"a": torch.ones(1)}, True)
    with pytest.raises(UserError) as error:
        read_torch(rewrite(tmp_path / "a.pt", tmp_path / "b.pt", data_pkl=b"cos\x1b[2J\nsystem\n."))
    assert r"asks for 'os\x1b[2J.system'" in str(error.value) and str(error.value).isprintable()


def test_lengths_that_the_file_does_not_have(tmp_path):
    """A string of 2^62 bytes, in the zip format and in the older one."""
    content = b"\x80\x04\x8d" + (2**62).to_bytes(8, "little") + b"abc."
    save(tmp_path / "a.pt", {"a": torch.ones(1)}, True)
    rewrite(tmp_path / "a.pt", tmp_path / "b.pt", data_pkl=content)
    (tmp_path / "c.pt").write_bytes(content)
    for name in ("b.pt", "c.pt"):
        with pytest.raises(UserError, match="truncated, damaged or not a torch checkpoint"):
            read_torch(tmp_path / name)


def test_numbers_of_a_tensor_are_bounded_before_they_are_multiplied(tmp_path):
    for shape, reason in (((2**63,), "not integers"), ((1,) * 33, "a tensor of 33 dimensions")):
        with pytest.raises(UserError, match=reason):
            read_torch(forge(tmp_path, {"a": tensor(0, shape, (0,) * len(shape))}))


def test_byte_order_that_unpacks_to_gigabytes(tmp_path):
    save(tmp_path / "a.pt", {"a": torch.ones(1)}, True)
    with zipfile.ZipFile(tmp_path / "a.pt") as old, zipfile.ZipFile(tmp_path / "b.pt", "w") as new:
        for name in old.namelist():
            is_order = name.endswith("/byteorder")
            new.writestr(name, bytes(2**24) if is_order else old.read(name),
                         zipfile.ZIP_BZIP2 if is_order else zipfile.ZIP_STORED)
    assert (tmp_path / "b.pt").stat().st_size < 4000
    with pytest.raises(UserError, match="byteorder is compressed"):
        read_torch(tmp_path / "b.pt")


def test_entries_that_lie_over_one_another(tmp_path):
    """Storages one inside the other, each with most of the file's bytes, would take many times its size."""
    state = {str(number): torch.zeros(1000) for number in range(9)}
    content, infos = bytes(4000), []
    for number in reversed(range(9)):
        info = zipfile.ZipInfo(f"a/data/{number}")
        info.file_size = info.compress_size = len(content)
        info.CRC = zlib.crc32(content)
        infos.append((info, len(content)))
        content = info.FileHeader() + content
    with zipfile.ZipFile(save(tmp_path / "a.pt", state, True)) as old, zipfile.ZipFile(tmp_path / "b.pt", "w") as new:
        new.writestr("a/data.pkl", old.read("a/data.pkl"))
        start = new.fp.tell()
        new.fp.write(content)
        new.start_dir = new.fp.tell()
        for info, size in infos:
            info.header_offset = start + len(content) - size - len(info.FileHeader())
            new.filelist.append(info)
            new.NameToInfo[info.filename] = info
    assert sum(size for _, size in infos) > 3 * (tmp_path / "b.pt").stat().st_size
    with pytest.raises(UserError, match="bytes, more than there are in the file|Overlapped entries"):
        read_torch(tmp_path / "b.pt")
