"""Dumps on disk, names of an optimiser's arrays, weights in the precisions that store them, and nudged ones."""

import numpy as np
import pytest

from common.align.collect import nudged
from common.align.dump import FORMAT, Dump, array_hash, by_name, rounded, write_dump
from common.errors import UserError


def test_what_is_written_is_read(tmp_path):
    arrays = {"forward/a.b": np.arange(6, dtype=np.float32).reshape(2, 3), "forward/c": np.array([1.5])}
    write_dump(tmp_path / "a.npz", arrays, {"flags": {"lr": 0.1}})
    dump = Dump(tmp_path / "a.npz")
    assert dump.meta == {"format": FORMAT, "flags": {"lr": 0.1}}
    assert dump.names("forward/") == ["a.b", "c"] and dump.names("single/") == []
    assert np.array_equal(dump.part("forward/")["a.b"], arrays["forward/a.b"])
    assert dump.get("forward/c") == 1.5 and dump.get("forward/d") is None


def test_other_files_are_refused_with_a_sentence(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        Dump(tmp_path / "absent.npz")
    (tmp_path / "text.npz").write_text("not a zip")
    np.savez(tmp_path / "other.npz", a=np.ones(2))
    np.save(tmp_path / "array.npy", np.ones(2))
    for name in ("text.npz", "other.npz", "array.npy"):
        with pytest.raises(UserError, match="no file that scripts/align.sh wrote"):
            Dump(tmp_path / name)
    np.savez(tmp_path / "old.npz", meta=np.array('{"format": 0}'))
    with pytest.raises(UserError, match=f"format 0, expected {FORMAT}"):
        Dump(tmp_path / "old.npz")
    whole = tmp_path / "whole.npz"
    write_dump(whole, {"a": np.ones(1000)}, {})
    (tmp_path / "cut.npz").write_bytes(whole.read_bytes()[:500])
    with pytest.raises(UserError, match="no file that scripts/align.sh wrote"):
        Dump(tmp_path / "cut.npz")


def test_a_hash_tells_types_shapes_and_bytes_apart():
    array = np.arange(6, dtype=np.float32)
    others = [array.reshape(2, 3), array.astype(np.float64), array.view(np.int32), array[::-1], -array]
    assert len({array_hash(each) for each in [array, *others]}) == 6
    assert array_hash(np.asfortranarray(others[0])) == array_hash(others[0])


@pytest.mark.parametrize("pieces", [[6, 3], [9], [1] * 9])
def test_an_optimisers_arrays_get_their_names_however_they_are_cut(pieces):
    flat = np.arange(9.0)
    found = by_name({"a": (2, 3), "b": (3,)}, np.split(flat, np.cumsum(pieces)[:-1]))
    assert np.array_equal(found["a"], flat[:6].reshape(2, 3)) and np.array_equal(found["b"], flat[6:])
    with pytest.raises(ValueError, match="holds 9 elements, its parameters 6"):
        by_name({"a": (2, 3)}, [flat])


def test_rounding_to_what_is_stored():
    """bfloat16 has 8 bits: between 1 and 2, numbers 1/128 apart; of a tie the even one."""
    array = np.array([1 + 1 / 512, 1 + 1 / 256, 1 + 3 / 256, -1 - 1.01 / 256, 3e38, 0], np.float32)
    bf16 = rounded(array, "bf16")
    assert bf16[:4].tolist() == [1, 1, 1 + 4 / 256, -1 - 2 / 256] and bf16.dtype == np.float32 and bf16[5] == 0
    assert rounded(bf16, "bf16").tolist() == bf16.tolist()
    assert rounded(np.array([1 + 2.0 ** -11, 1 + 3 * 2.0 ** -11], np.float32), "fp16").tolist() == [1, 1 + 2.0 ** -9]
    assert rounded(array, "fp32") is array


@pytest.mark.parametrize("precision, step", [("fp32", 2.0 ** -23), ("bf16", 2.0 ** -23), ("fp64", 2.0 ** -52)])
def test_a_noise_floor_begins_with_the_smallest_step_of_its_precision(precision, step):
    lora = {"a.lora_B": np.ones(2, np.float32), "a.lora_A": np.ones(2, np.float32), "b.lora_A": np.ones(2, np.float32)}
    found = nudged(lora, precision)
    assert (found["a.lora_A"] - lora["a.lora_A"]).tolist() == [step, step]
    assert all(found[name] is lora[name] for name in ("a.lora_B", "b.lora_A"))
