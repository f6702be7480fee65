"""LoRA files: what is written is what is read, and whatever else a file holds is noticed."""

import hashlib
import json
import os

import numpy as np
import pytest
import safetensors.numpy

from common import files
from common.errors import UserError
from common.model import lora_file
from common.model.checkpoint import check_shapes
from common.model.lora_arrays import initial_lora
from common.model.lora_file import LoraRecord, read_checkpoint, read_record, save_lora, split_arrays
from tests.common.model.checkpoint_cases import BACKBONE, CARD, LORA, SETTINGS, SHAPES, assert_same, write


def test_save_and_read(lora_path, backbone_path):
    others, arrays, record = read_checkpoint(lora_path)
    assert others == {}
    assert_same(arrays, LORA)
    assert record == LoraRecord("gpt2.test", 2, 32, ("q", "v"), 9000,
                                "pretrained_checkpoints/gpt2-test/model.safetensors",
                                hashlib.sha256(backbone_path.read_bytes()).hexdigest())
    assert os.listdir(lora_path.parent) == ["model.9000.safetensors"]


def test_the_same_content_gives_the_same_bytes(lora_path):
    again = lora_path.with_name("again.safetensors")
    save_lora(again, dict(reversed(LORA.items())), read_record(lora_path))
    assert again.read_bytes() == lora_path.read_bytes()


def test_arrays_are_written_as_float32_whatever_their_layout(tmp_path):
    odd = {name: np.asfortranarray(array.astype(np.float64)) for name, array in LORA.items()}
    save_lora(tmp_path / "a.safetensors", odd, LoraRecord("gpt2.test", 2, 32))
    assert_same(read_checkpoint(tmp_path / "a.safetensors")[1], LORA)


def test_a_write_that_fails_leaves_the_old_file(lora_path, monkeypatch):
    before = lora_path.read_bytes()

    def fail(_descriptor):
        raise OSError("disk full")

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        save_lora(lora_path, initial_lora(CARD, SETTINGS, 0), LoraRecord("gpt2.test", 2, 32))
    assert lora_path.read_bytes() == before
    assert os.listdir(lora_path.parent) == [lora_path.name]


@pytest.mark.parametrize("arrays", [{}, {**LORA, "transformer.wte.weight": np.ones(2)}])
def test_only_lora_arrays_are_saved(tmp_path, arrays):
    with pytest.raises(ValueError, match="expected LoRA arrays only"):
        save_lora(tmp_path / "a.safetensors", arrays, LoraRecord("gpt2.test", 2, 32))


def test_a_file_of_another_origin_has_no_record(tmp_path):
    others, arrays, record = read_checkpoint(write(tmp_path / "a.safetensors", {**BACKBONE, **LORA}))
    assert_same(others, BACKBONE)
    assert_same(arrays, LORA)
    assert record is None


RECORD = {"model_card": "gpt2.test", "lora_dim": 2, "lora_alpha": 32, "lora_targets": ["q", "v"], "step": 3,
          "backbone_path": "a", "backbone_sha256": "b"}


@pytest.mark.parametrize("text, reason", [
    ("{", "cannot be read as JSON"), ("[" * 100_000, "its JSON is nested too deeply"), ("[]", "the JSON is a list"),
    ("{}", "the JSON has no 'model_card'"), ({"lora_alpha": "32"}, r'\.lora_alpha is "32", expected a number'),
    ({"lora_alpha": None}, r"\.lora_alpha is null, expected a number"), ({"lora_alpha": float("nan")}, ".*NaN is no"),
    ({"lora_targets": [1]}, r"\.lora_targets\[0\] is 1, expected a string"), ({"lora_targets": "q"}, r".* a list"),
    ({"backbone_path": 5}, r"\.backbone_path is 5, expected a string"), ({"lora_dim": True}, r"\.lora_dim is true"),
    ({"lora_dim": -1}, "has a negative number"), ({"step": 1.5}, r"\.step is 1.5, expected an integer"),
    ({"ex\x1btra": 1}, r"has 'ex\\x1btra', which this version of the program does not know"),
], ids=lambda value: str(value)[:30])
def test_an_unreadable_record(tmp_path, text, reason):
    text = text if isinstance(text, str) else json.dumps({**RECORD, **text})
    safetensors.numpy.save_file(LORA, tmp_path / "a.safetensors", {lora_file.METADATA_KEY: text})
    for read in (read_checkpoint, read_record):
        with pytest.raises(UserError, match=r"a\.safetensors: the record of its LoRA settings: " + reason):
            read(tmp_path / "a.safetensors")


def test_split():
    assert [list(part) for part in split_arrays({**BACKBONE, **LORA})] == [list(BACKBONE), list(LORA)]


def test_flipped_bits_are_noticed(lora_path):
    """In the header some make a file without a record, which is said where it is used, or do nothing."""
    content, record = lora_path.read_bytes(), read_record(lora_path)
    header = 8 + int.from_bytes(content[:8], "little")
    harmless = 0
    for place in (*range(0, header, 3), *range(header, len(content), 101), len(content) - 1):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        lora_path.write_bytes(damaged)
        try:
            others, lora, found = read_checkpoint(lora_path)
            check_shapes(lora, SHAPES, lora_path)
        except UserError as error:
            assert str(error).startswith(f"{lora_path}: ")
        else:
            harmless += 1
            assert place < header and found in (record, None) and others == {}
            assert_same(lora, LORA)
    assert harmless < 10


def test_a_file_from_before_checksums_is_read(tmp_path):
    safetensors.numpy.save_file(LORA, tmp_path / "a.safetensors", {lora_file.METADATA_KEY: json.dumps(RECORD)})
    assert read_checkpoint(tmp_path / "a.safetensors")[2].step == 3


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_not_saved(lora_path, value):
    before = lora_path.read_bytes()
    name = "transformer.h.1.attn.c_attn.lora_B"
    diverged = {**LORA, name: np.full_like(LORA[name], value)}
    with pytest.raises(UserError, match=f"{name} holds 24 of 24 numbers that are NaN or infinite: training has diver"):
        save_lora(lora_path, diverged, read_record(lora_path))
    assert lora_path.read_bytes() == before
