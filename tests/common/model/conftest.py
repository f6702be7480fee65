"""A project with checkpoints in it."""

import dataclasses

import pytest

from common.model import checkpoint, weight_files
from common.model.checkpoint import new_record
from common.model.lora_file import save_lora
from tests.common.model.checkpoint_cases import BACKBONE, CARD, LORA, SETTINGS, write


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project's root of its own, with a backbone in it."""
    monkeypatch.setattr(checkpoint, "ROOT", tmp_path)
    monkeypatch.setattr(weight_files, "PRETRAINED", tmp_path / "pretrained_checkpoints")
    folder = tmp_path / "pretrained_checkpoints" / "gpt2-test"
    folder.mkdir(parents=True)
    write(folder / "model.safetensors", BACKBONE)
    return tmp_path


@pytest.fixture
def backbone_path(project):
    return project / "pretrained_checkpoints" / "gpt2-test" / "model.safetensors"


@pytest.fixture
def lora_path(project, backbone_path):
    path = project / "trained" / "model.9000.safetensors"
    save_lora(path, LORA, dataclasses.replace(new_record(CARD, SETTINGS, backbone_path), step=9000))
    return path
