"""Checkpoints: what is written, what a command line names, and every way in which what does not fit is refused."""

import dataclasses
import hashlib
import json
import os
import re

import numpy as np
import pytest

from common.errors import UserError
from common.model import checkpoint
from common.model.checkpoint import (
    check_record,
    check_shapes,
    find_backbone,
    load_weights,
    new_record,
    steps_before,
)
from common.model.initial_weights import RANDOM
from common.model.lora_arrays import LoraSettings
from common.model.lora_file import LoraRecord, read_record, save_lora
from common.model.model_cards import MODEL_CARDS, backbone_shapes
from common.model.weight_files import read_arrays
from tests.common.model.checkpoint_cases import (
    BACKBONE,
    CARD,
    LORA,
    SETTINGS,
    SHAPES,
    assert_same,
    random_arrays,
    write,
)

# Shapes

def test_check_shapes_passes():
    check_shapes(BACKBONE, backbone_shapes(CARD), "a.pt")


def test_check_shapes_lists_every_kind_of_fault():
    found = {**BACKBONE, **random_arrays({f"transformer.extra.{number}": (1,) for number in range(6)})}
    del found["transformer.ln_f.bias"]
    found["transformer.wpe.weight"] = np.zeros((8, 5), np.float32)
    with pytest.raises(UserError) as error:
        check_shapes(found, backbone_shapes(CARD), "a.pt")
    assert str(error.value) == (
        "a.pt: 33 arrays that do not fit the 28 expected: 1 missing: transformer.ln_f.bias; 6 unexpected: "
        "transformer.extra.0, transformer.extra.1, transformer.extra.2, transformer.extra.3 and 2 more; "
        "1 of another shape: transformer.wpe.weight (8, 5) instead of (8, 6)")


def test_check_shapes_knows_the_other_models():
    small = {name: np.broadcast_to(np.float32(0), shape)
             for name, shape in backbone_shapes(MODEL_CARDS["gpt2.sm"]).items()}
    with pytest.raises(UserError, match=r"these are the sizes of gpt2\.sm: did you mean --model_card gpt2\.sm\?$"):
        check_shapes(small, backbone_shapes(MODEL_CARDS["gpt2.md"]), "a.pt")


# LoRA settings

def test_check_record():
    record = LoraRecord("gpt2.test", 4, 32.0, ("q", "v"))
    check_record(record, "a", LoraSettings(4, 32, 0.1, ("v", "q")))
    for settings, flags in ((LoraSettings(8, 32), "--lora_dim 8 --lora_alpha 32 --lora_targets q,v"),
                            (LoraSettings(4, 16.5), "--lora_dim 4 --lora_alpha 16.5 --lora_targets q,v"),
                            (LoraSettings(4, 32, 0, ("q", "k")), "--lora_dim 4 --lora_alpha 32 --lora_targets k,q")):
        with pytest.raises(UserError, match="^a: was trained with --lora_dim 4 --lora_alpha 32 --lora_targets q,v, "
                                            f"but the flags say {flags};"):
            check_record(record, "a", settings)


# The backbone that a LoRA file records

def test_a_moved_project_finds_its_backbone(project, lora_path, monkeypatch):
    moved = project.with_name("moved")
    project.rename(moved)
    monkeypatch.setattr(checkpoint, "ROOT", moved)
    path = moved / "trained" / lora_path.name
    assert find_backbone(read_record(path), path) == str(
        moved / "pretrained_checkpoints" / "gpt2-test" / "model.safetensors")


def test_a_backbone_outside_is_recorded_absolutely(project, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    write(outside / "a.safetensors", BACKBONE)
    record = new_record(CARD, SETTINGS, outside / "a.safetensors")
    assert record.backbone_path == str(outside / "a.safetensors")
    assert find_backbone(record, "x") == record.backbone_path
    (project / "link").symlink_to(outside)  # a link inside moves with the project
    assert new_record(CARD, SETTINGS, project / "link" / "a.safetensors").backbone_path == "link/a.safetensors"


def test_links_of_the_trees_are_recorded_as_what_they_lead_to(project, backbone_path):
    (project / "NLG").symlink_to(project / "pretrained_checkpoints")
    record = new_record(CARD, SETTINGS, project / "NLG" / "gpt2-test")
    assert record.backbone_path == "pretrained_checkpoints/gpt2-test/model.safetensors"


def test_a_lora_only_start_hands_on_its_backbone(lora_path):
    first = read_record(lora_path)
    assert new_record(CARD, SETTINGS, lora_path) == dataclasses.replace(first, step=0)


def test_another_backbone_in_its_place(lora_path, backbone_path):
    old = hashlib.sha256(backbone_path.read_bytes()).hexdigest()
    write(backbone_path, random_arrays(backbone_shapes(CARD), seed=5))
    new = hashlib.sha256(backbone_path.read_bytes()).hexdigest()
    with pytest.raises(UserError, match=f"with sha256 {old}, but {backbone_path} has {new};.*--lora_checkpoint$"):
        load_weights(lora_path, None, CARD, SETTINGS)


def test_backbone_gone(lora_path, backbone_path):
    backbone_path.unlink()
    with pytest.raises(UserError, match="its backbone pretrained_checkpoints/gpt2-test/model.safetensors does not exist"
                                        "; give the backbone as --init_checkpoint and this file as --lora_checkpoint"):
        load_weights(lora_path, None, CARD, SETTINGS)


def test_a_backbone_is_hashed_once(backbone_path, monkeypatch):
    calls = []
    monkeypatch.setattr(checkpoint, "sha256_of", lambda path: calls.append(path) or "0" * 64)
    for _ in range(3):
        new_record(CARD, SETTINGS, backbone_path)
    assert calls == [os.path.realpath(backbone_path)]


def test_the_hash_of_parts_covers_every_part(tmp_path):
    names = list(BACKBONE)
    weight_map = {name: f"model-{number % 2}.safetensors" for number, name in enumerate(names)}
    for part in range(2):
        write(tmp_path / f"model-{part}.safetensors", {name: BACKBONE[name] for name in names[part::2]})
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    record = new_record(CARD, SETTINGS, tmp_path)
    hashes = [hashlib.sha256((tmp_path / f"model-{part}.safetensors").read_bytes()).hexdigest() for part in range(2)]
    assert record.backbone_sha256 == hashlib.sha256("\n".join(hashes).encode()).hexdigest()
    assert_same(read_arrays(find_backbone(record, "x")), BACKBONE)


# What a command line names

def test_load_backbone_alone(backbone_path):
    backbone, lora, record = load_weights(backbone_path, None, CARD, SETTINGS)
    assert_same(backbone, BACKBONE)
    assert lora is None and record is None


def test_load_backbone_and_lora(backbone_path, lora_path, capsys):
    backbone, lora, record = load_weights(backbone_path, lora_path.with_suffix(".pt"), CARD, SETTINGS)
    assert_same(backbone, BACKBONE)
    assert_same(lora, LORA)
    assert record.step == 9000
    assert capsys.readouterr().err == f"note: {lora_path.with_suffix('.pt')} does not exist, using {lora_path}\n"


def test_load_lora_that_records_its_backbone(lora_path, capsys):
    backbone, lora, record = load_weights(lora_path, None, CARD, SETTINGS)
    assert_same(backbone, BACKBONE)
    assert_same(lora, LORA)
    assert record.lora_dim == 2
    assert capsys.readouterr().err == ""


def test_load_a_file_with_both(tmp_path):
    path = write(tmp_path / "model.26290.safetensors", {**BACKBONE, **LORA})
    backbone, lora, record = load_weights(path, None, CARD, SETTINGS)
    assert_same(backbone, BACKBONE)
    assert_same(lora, LORA)
    assert record is None


def test_load_lora_from_a_file_with_both(project, backbone_path):
    both = write(project / "both.safetensors", {**BACKBONE, **LORA})
    backbone, lora, _ = load_weights(backbone_path, both, CARD, SETTINGS)
    assert_same(backbone, BACKBONE)
    assert_same(lora, LORA)


@pytest.mark.parametrize("change, name", [
    ({"transformer.h.1.ln_1.bias": np.ones(6, np.float32)}, "transformer.h.1.ln_1.bias"),
    ({"transformer.extra": np.ones(2, np.float32)}, "transformer.extra"),
    ({"transformer.wpe.weight": np.zeros((9, 6), np.float32)}, "transformer.wpe.weight")])
def test_other_arrays_beside_lora_are_refused(project, backbone_path, change, name):
    """LoRA was trained on them: on another backbone it gives other results."""
    both = write(project / "both.safetensors", {**BACKBONE, **LORA, **change})
    with pytest.raises(UserError, match=rf"both.safetensors: holds 1 arrays that are neither LoRA's nor those of "
                                        rf"{backbone_path}: {re.escape(name)}; .* goes alone, as --init_checkpoint$"):
        load_weights(backbone_path, both, CARD, SETTINGS)


def test_settings_that_nothing_confirms_are_said(project, backbone_path, capsys):
    """The arrays of k,v have the shapes of q,v's: without a record the flags alone tell them apart."""
    path = write(project / "unrecorded.safetensors", LORA)
    for targets, text in ((("q", "v"), "q,v"), (("k", "v"), "k,v")):
        load_weights(backbone_path, path, CARD, LoraSettings(2, 16, targets=targets))
        assert (f"{path} does not say how it was trained: taken as --lora_dim 2 --lora_alpha 16 --lora_targets {text}; "
                "another alpha, or other targets of the same shapes, could not be noticed") in capsys.readouterr().err


def test_lora_checkpoint_without_lora(project, backbone_path):
    with pytest.raises(UserError, match="no lora_A or lora_B among its 28 arrays"):
        load_weights(backbone_path, backbone_path, CARD, SETTINGS)


def test_steps_before(project, lora_path, backbone_path):
    assert steps_before(lora_path, None) == steps_before(backbone_path, lora_path) == 9000
    assert steps_before(backbone_path, None) == steps_before(RANDOM, None) == 0
    assert steps_before(RANDOM, lora_path.with_suffix(".pt")) == 9000
    with pytest.raises(UserError, match="no such checkpoint"):
        steps_before(backbone_path, project / "nowhere.pt")


def test_what_a_record_says_does_not_act_on_the_terminal(backbone_path, project):
    record = LoraRecord("gpt2.\x1b[2Jtest", 2, 32, ("q\x1b[2J",), 1, "a\x1b[2J", "0\x1b[2J")
    path = project / "a.safetensors"
    save_lora(path, LORA, record)
    messages = []
    for card, arguments in ((CARD, (path, None)), (CARD, (backbone_path, path))):
        with pytest.raises(UserError) as error:
            load_weights(*arguments, card, SETTINGS)
        messages.append(str(error.value))
    save_lora(path, LORA, dataclasses.replace(record, model_card="gpt2.test"))
    for arguments in ((path, None), (backbone_path, path)):
        with pytest.raises(UserError) as error:
            load_weights(*arguments, CARD, SETTINGS)
        messages.append(str(error.value))
    assert all(message.isprintable() for message in messages), messages


def test_lora_checkpoint_goes_before_the_lora_of_init_checkpoint(project, lora_path, capsys):
    both = write(project / "both.safetensors", {**BACKBONE, **random_arrays(SHAPES, 9)})
    assert_same(load_weights(both, lora_path, CARD, SETTINGS)[1], LORA)
    assert f"the LoRA arrays of {both} are replaced by those of {lora_path}" in capsys.readouterr().err


def test_another_file_as_backbone_is_said(project, lora_path, capsys):
    other = write(project / "other.safetensors", {name: array * 2 for name, array in BACKBONE.items()})
    load_weights(other, lora_path, CARD, SETTINGS)
    assert f"{lora_path} was trained on pretrained_checkpoints/" in capsys.readouterr().err


def test_lora_alone_without_a_record(tmp_path):
    path = write(tmp_path / "a.safetensors", LORA)
    with pytest.raises(UserError, match="LoRA arrays only and does not say which backbone they belong to; give the "
                                        "backbone as --init_checkpoint and this file as --lora_checkpoint"):
        load_weights(path, None, CARD, SETTINGS)


def test_lora_on_lora(lora_path):
    with pytest.raises(UserError, match="LoRA arrays only, but so does --lora_checkpoint"):
        load_weights(lora_path, lora_path, CARD, SETTINGS)


def test_lora_of_another_model(lora_path, backbone_path):
    for first, second in ((lora_path, None), (backbone_path, lora_path)):
        with pytest.raises(UserError, match=f"{lora_path}: was trained with --model_card gpt2.test, but the flags say "
                                            "gpt2.sm"):
            load_weights(first, second, MODEL_CARDS["gpt2.sm"], SETTINGS)


def test_backbone_of_another_model(backbone_path):
    with pytest.raises(UserError, match="28 arrays that do not fit the 148 expected: 120 missing"):
        load_weights(backbone_path, None, MODEL_CARDS["gpt2.sm"], SETTINGS)


def test_a_backbone_that_lacks_an_array(tmp_path):
    arrays = {name: array for name, array in BACKBONE.items() if name != "transformer.h.1.mlp.c_fc.bias"}
    with pytest.raises(UserError, match=re.escape("1 missing: transformer.h.1.mlp.c_fc.bias")):
        load_weights(write(tmp_path / "a.safetensors", arrays), None, CARD, SETTINGS)


def test_an_empty_checkpoint(tmp_path):
    with pytest.raises(UserError, match="0 arrays that do not fit the 28 expected: 28 missing"):
        load_weights(write(tmp_path / "a.safetensors", {}), None, CARD, SETTINGS)


def test_another_rank(lora_path, backbone_path, tmp_path):
    flags = LoraSettings(rank=4, alpha=32)
    with pytest.raises(UserError, match="was trained with --lora_dim 2 .* but the flags say --lora_dim 4"):
        load_weights(lora_path, None, CARD, flags)
    with pytest.raises(UserError, match=r"has 4 rows in lora_A where the flags expect 8 .--lora_dim for each target"):
        load_weights(backbone_path, write(tmp_path / "a.safetensors", LORA), CARD, flags)


def test_other_targets(backbone_path, tmp_path):
    path = write(tmp_path / "a.safetensors", LORA)
    with pytest.raises(UserError, match=r"4 missing: transformer\.h\.0\.attn\.c_proj\.lora_A"):
        load_weights(backbone_path, path, CARD, LoraSettings(rank=2, targets=("q", "v", "o")))


def test_a_lora_file_that_lacks_a_layer(backbone_path, tmp_path):
    half = {name: array for name, array in LORA.items() if ".h.0." in name}
    with pytest.raises(UserError, match=r"2 arrays that do not fit the 4 expected: 2 missing: transformer\.h\.1\."):
        load_weights(backbone_path, write(tmp_path / "a.safetensors", half), CARD, SETTINGS)
