"""A checkpoint of a training of all weights (--lora_dim 0): a backbone like any other, with a record."""

import numpy as np
import pytest

from common.errors import UserError
from common.model.checkpoint import backbone_hash, load_weights, new_record, steps_before
from common.model.lora_arrays import LoraSettings
from common.model.lora_file import LoraRecord, read_checkpoint, save_trained
from common.run.searching import load_merged
from tests.common.model.checkpoint_cases import BACKBONE, CARD, LORA, SETTINGS, assert_same, write


@pytest.fixture
def path(tmp_path):
    found = tmp_path / "model.7.safetensors"
    save_trained(found, BACKBONE, LoraRecord(CARD.name, 0, 32.0, ("q", "v"), 7, "elsewhere", "0" * 64))
    return found


def test_it_is_a_backbone(path, capsys):
    others, lora, record = read_checkpoint(path)
    assert_same(others, BACKBONE)
    assert not lora and record.lora_dim == 0 and steps_before(path, None) == 7
    backbone, lora, _ = load_weights(path, None, CARD, SETTINGS)
    assert_same(backbone, BACKBONE)
    assert lora is None

    class Arguments:
        init_checkpoint, lora_checkpoint, card, lora = path, None, CARD, LoraSettings(0, 32)
    assert_same(load_merged(Arguments), BACKBONE)
    assert capsys.readouterr().err == ""  # no word on LoRA arrays that are not there


def test_lora_can_be_trained_on_it(path, tmp_path):
    """The record then names this file, not the one that it started from."""
    record = new_record(CARD, SETTINGS, path)
    assert record.lora_dim == SETTINGS.rank and record.backbone_path == str(path)
    assert record.backbone_sha256 == backbone_hash(str(path))
    _, lora, _ = load_weights(path, write(tmp_path / "lora.safetensors", LORA), CARD, SETTINGS)
    assert_same(lora, LORA)


def test_it_is_no_lora_file(path, tmp_path):
    backbone = write(tmp_path / "backbone.safetensors", BACKBONE)
    with pytest.raises(UserError, match="holds all weights, of a training with --lora_dim 0; give it alone"):
        load_weights(backbone, path, CARD, SETTINGS)


def test_a_damaged_one(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="is damaged: its checksum is not that of the arrays"):
        read_checkpoint(path)


def test_numbers_that_are_not_finite(tmp_path):
    broken = {**BACKBONE, "transformer.ln_f.bias": np.array([1, 2, 3, 4, 5, np.nan], np.float32)}
    with pytest.raises(UserError, match="ln_f.bias holds 1 of 6 numbers that are NaN or infinite: training has div"):
        save_trained(tmp_path / "x.safetensors", broken, LoraRecord(CARD.name, 0, 32.0))
    assert not list(tmp_path.iterdir())
