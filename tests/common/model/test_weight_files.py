"""Weight files: what every kind reads as, which file a name means, and every way in which a wrong file is refused."""

import json

import numpy as np
import pytest
import safetensors.numpy

from common.errors import UserError
from common.model.checkpoint import check_shapes
from common.model.model_cards import backbone_shapes
from common.model.weight_files import read_arrays, resolve_checkpoint
from tests.common.model.checkpoint_cases import BACKBONE, CARD, LORA, assert_same, write

# Names and dtypes

@pytest.mark.parametrize("prefix", ["", "transformer.", "module.transformer.", "module.", "module.module.",
                                    "_orig_mod.", "_orig_mod.module.transformer.", "transformer._orig_mod."])
def test_prefixes(tmp_path, prefix):
    bare = {name.removeprefix("transformer."): array for name, array in {**BACKBONE, **LORA}.items()}
    path = write(tmp_path / "a.safetensors", {prefix + name: array for name, array in bare.items()})
    assert_same(read_arrays(path), {**BACKBONE, **LORA})


def test_mask_buffers_are_dropped_and_projection_biases_are_not(tmp_path):
    buffers = {"transformer.h.0.attn.bias": np.tril(np.ones((1, 1, 8, 8), np.uint8)),
               "transformer.h.1.attn.masked_bias": np.array(-1e4, np.float32)}
    assert "transformer.h.0.attn.c_attn.bias" in BACKBONE
    assert_same(read_arrays(write(tmp_path / "a.safetensors", {**BACKBONE, **buffers})), BACKBONE)


@pytest.mark.parametrize("name", ["lm_head.weight", "module.lm_head.decoder.weight"])
def test_tied_output_embedding(tmp_path, name):
    embedding = BACKBONE["transformer.wte.weight"]
    assert_same(read_arrays(write(tmp_path / "a.safetensors", {**BACKBONE, name: embedding})), BACKBONE)
    others = {key: array for key, array in BACKBONE.items() if key != "transformer.wte.weight"}
    assert_same(read_arrays(write(tmp_path / "b.safetensors", {**others, name: embedding})), BACKBONE)
    path = write(tmp_path / "c.safetensors", {**BACKBONE, name: embedding + 1})
    with pytest.raises(UserError, match=r"c\.safetensors: lm_head\..*weight differs from transformer\.wte\.weight"):
        read_arrays(path)


def test_one_array_under_two_names(tmp_path):
    one = np.ones(2, np.float32)
    path = write(tmp_path / "a.safetensors", {"wte.weight": one, "transformer.wte.weight": one})
    with pytest.raises(UserError, match="wte.weight appears twice, under different prefixes"):
        read_arrays(path)


@pytest.mark.parametrize("name", [
    "base_model.model.transformer.h.0.attn.c_attn.lora_A.weight", "h.0.attn.c_attn.lora_B.default.weight",
    "base_model.model.transformer.h.0.attn.c_attn.base_layer.weight"])
def test_pefts_names_are_said_to_be_pefts(tmp_path, name):
    with pytest.raises(UserError, match=f"a.safetensors: {name} is a name of Hugging Face's PEFT"):
        read_arrays(write(tmp_path / "a.safetensors", {name: np.ones((2, 2), np.float32)}))


def test_names_do_not_act_on_the_terminal(tmp_path):
    """Escape sequences can hide text, or write some."""
    for name in ("wte\x1b[2J\x07", "wte\u202egnp", "wte\nerror: done", "x" * 1000):
        path = write(tmp_path / "a.safetensors", {name: np.ones(1, np.float32)})
        with pytest.raises(UserError) as error:
            check_shapes(read_arrays(path), backbone_shapes(CARD), "a")
        assert str(error.value).isprintable() and len(str(error.value)) < 500
        assert "wte" not in name or "transformer.wte\\" in str(error.value)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floats(tmp_path, dtype):
    stored = {name: array.astype(dtype) for name, array in BACKBONE.items()}
    assert_same(read_arrays(write(tmp_path / "a.safetensors", stored)),
                {name: array.astype(np.float32) for name, array in stored.items()})


def test_integers_are_no_weights(tmp_path):
    path = write(tmp_path / "a.safetensors", {"wte.weight": np.ones((2, 2), np.int8)})
    with pytest.raises(UserError, match="wte.weight has dtype int8, expected floating-point"):
        read_arrays(path)


def write_by_hand(path, dtype, shape, data):
    """A safetensors file of one array ``a``, after the format's description: length, JSON header, bytes."""
    header = json.dumps({"a": {"dtype": dtype, "shape": shape, "data_offsets": [0, len(data)]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    return path


@pytest.mark.parametrize("byte", [0x80, 0x50])
def test_a_header_whose_length_starts_like_another_format(tmp_path, byte):
    """Lengths are multiples of 8: one in 32 starts with 0x80, as a pickle does, and one with the P of a zip."""
    for padding in range(0, 2048, 8):
        safetensors.numpy.save_file(BACKBONE, tmp_path / "a.safetensors", {"padding": " " * padding})
        if (tmp_path / "a.safetensors").read_bytes()[0] == byte:
            break
    assert (tmp_path / "a.safetensors").read_bytes()[0] == byte
    assert_same(read_arrays(tmp_path / "a.safetensors"), BACKBONE)


def test_bfloat16(tmp_path):
    # 1.0 is 0x3f80 in bfloat16, -2.5 is 0xc020, 2^127 0x7f00
    path = write_by_hand(tmp_path / "a.safetensors", "BF16", [1, 3], b"\x80\x3f\x20\xc0\x00\x7f")
    assert_same(read_arrays(path), {"transformer.a": np.array([[1, -2.5, 2.0**127]])})


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_numbers_that_are_not_finite_are_refused(tmp_path, value, dtype):
    array = np.ones((2, 3), dtype)
    array[1, :2] = value
    with pytest.raises(UserError, match=r"transformer\.a holds 2 of 6 numbers that are NaN or infinite"):
        read_arrays(write(tmp_path / "a.safetensors", {"a": array}))


def test_a_number_too_large_for_float32_is_refused(tmp_path, recwarn):
    with pytest.raises(UserError, match="transformer.a holds 1 of 1 numbers that are NaN or infinite"):
        read_arrays(write(tmp_path / "a.safetensors", {"a": np.array([1e39])}))
    assert not recwarn.list


def test_bfloat16_as_torch_writes_it(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file
    tensors = {name: torch.tensor(array).bfloat16() for name, array in BACKBONE.items()}
    save_file(tensors, tmp_path / "a.safetensors")
    assert_same(read_arrays(tmp_path / "a.safetensors"),
                {name: tensor.float().numpy() for name, tensor in tensors.items()})


def test_float8_is_refused(tmp_path):
    path = write_by_hand(tmp_path / "a.safetensors", "F8_E4M3", [2], b"\0\0")
    with pytest.raises(UserError, match="a has dtype F8_E4M3, expected F32"):
        read_arrays(path)


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"model_state_dict": state, "epoch": 5},
                                  lambda state: {"state_dict": {"model_state_dict": state}}],
                         ids=["bare", "model_state_dict", "state_dict"])
def test_torch_files(tmp_path, is_zip, wrap):
    torch = pytest.importorskip("torch")
    state = {"module." + name: torch.tensor(array) for name, array in {**BACKBONE, **LORA}.items()}
    state["module.lm_head.decoder.weight"] = state["module.transformer.wte.weight"]
    state["module.transformer.h.0.attn.bias"] = torch.ones(8, 8).tril().bool()
    torch.save(wrap(state), tmp_path / "model.26290.pt", _use_new_zipfile_serialization=is_zip)
    assert_same(read_arrays(tmp_path / "model.26290.pt"), {**BACKBONE, **LORA})


def test_torch_file_with_something_else_than_arrays(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"model": {"a": torch.ones(1)}, "epoch": 3}, tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"a\.pt: model, epoch: not arrays; expected a state dict, {name: array},"):
        read_arrays(tmp_path / "a.pt")


def test_torch_file_with_a_number_for_a_name(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({0: torch.ones(1)}, tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"a\.pt: 0: not arrays; expected a state dict, {name: array}"):
        read_arrays(tmp_path / "a.pt")


def test_a_view_that_is_larger_than_its_file_is_refused(tmp_path):
    """One number can stand for 2^40; reading it must not make room for them."""
    torch = pytest.importorskip("torch")
    torch.save({"a": torch.ones(1).expand(2**20, 2**20)}, tmp_path / "a.pt")
    size = (tmp_path / "a.pt").stat().st_size
    with pytest.raises(UserError, match=f"its arrays would have {2**42} bytes, and the file has {size}"):
        read_arrays(tmp_path / "a.pt")
    torch.save({"a": torch.ones(1).expand(2, 3)}, tmp_path / "b.pt")
    assert_same(read_arrays(tmp_path / "b.pt"), {"transformer.a": np.ones((2, 3), np.float32)})


def test_the_largest_that_a_file_can_be_is_taken(tmp_path):
    """Half precision, and the tied embedding under two names: four bytes for each of the file's."""
    torch = pytest.importorskip("torch")
    wte = torch.ones(3000, 8, dtype=torch.bfloat16)
    torch.save({"transformer.wte.weight": wte, "lm_head.weight": wte}, tmp_path / "a.pt")
    assert_same(read_arrays(tmp_path / "a.pt"), {"transformer.wte.weight": np.ones((3000, 8), np.float32)})


@pytest.mark.slow
def test_transformers_own_files(tmp_path):
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=11, n_positions=8, n_embd=6, n_layer=2,
                                                                 n_head=2))
    model.save_pretrained(tmp_path / "whole")
    model.save_pretrained(tmp_path / "parts", max_shard_size="3KB")
    assert (tmp_path / "parts" / "model.safetensors.index.json").is_file()
    expected = {name: tensor.numpy() for name, tensor in model.transformer.state_dict(prefix="transformer.").items()}
    for folder in ("whole", "parts"):
        found = read_arrays(tmp_path / folder)
        check_shapes(found, backbone_shapes(CARD), folder)
        assert_same(found, expected)


# Damaged files and other files

@pytest.mark.parametrize("content, reason", [
    (b"", "it is empty"),
    (b"<!DOCTYPE html>", "it starts with b'<!DOCTYPE html>'"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer"),
    (b"\x80\x02}q\x00.", "not a torch checkpoint"),
    (b"PK\x03\x04 and no more", "truncated, damaged"),
])
def test_other_files(tmp_path, content, reason):
    (tmp_path / "a.bin").write_bytes(content)
    with pytest.raises(UserError, match=rf"a\.bin: .*{reason}"):
        read_arrays(tmp_path / "a.bin")


def test_cut_safetensors(tmp_path, backbone_path):
    content = backbone_path.read_bytes()
    for length in (9, 50, len(content) // 2, len(content) - 1):
        (tmp_path / "a.safetensors").write_bytes(content[:length])
        with pytest.raises(UserError, match=r"a\.safetensors: truncated or damaged"):
            read_arrays(tmp_path / "a.safetensors")


@pytest.mark.parametrize("index, reason", [
    ({"weight_map": {"a": "part-1.safetensors", "b": "part-2.safetensors"}}, "2 shards, .*part-2.safetensors"),
    ({"weight_map": {}}, "0 shards"), ({}, "has no 'weight_map'"), ([], "the JSON is a list"),
    ({"weight_map": ["part-1.safetensors"]}, r"\.weight_map is a list"), ({"weight_map": {"a": 1}}, "a is 1, exp"),
    ({"weight_map": {"a": "../part-1.safetensors"}}, r"lists \.\./part-1\.safetensors, expected names of files beside"),
])
def test_missing_parts(tmp_path, index, reason):
    write(tmp_path / "part-1.safetensors", {"a": np.ones(1, np.float32)})
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=reason):
        read_arrays(tmp_path)


# Which file a name means

def test_resolve_the_file_itself_and_a_folder(backbone_path, capsys):
    assert resolve_checkpoint(backbone_path) == str(backbone_path)
    assert resolve_checkpoint(backbone_path.parent) == str(backbone_path)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["model.9000.pt", "model.9000.bin"])
def test_resolve_safetensors_for_a_torch_name(lora_path, name, capsys):
    assert resolve_checkpoint(lora_path.parent / name) == str(lora_path)
    assert capsys.readouterr().err == f"note: {lora_path.parent / name} does not exist, using {lora_path}\n"


def test_resolve_prefers_the_file_that_is_named(lora_path, capsys):
    (lora_path.parent / "model.9000.pt").write_bytes(b"")
    assert resolve_checkpoint(lora_path.parent / "model.9000.pt").endswith("model.9000.pt")


@pytest.mark.parametrize("folder", ["pretrained_checkpoints", "elsewhere"])
def test_resolve_the_original_name_of_a_backbone(project, backbone_path, folder, capsys):
    named = project / folder / "gpt2-test-pytorch_model.bin"
    assert resolve_checkpoint(named) == str(backbone_path)
    assert f"{named} does not exist, using {backbone_path}" in capsys.readouterr().err


def test_resolve_lists_what_is_there(tmp_path):
    for name in ("model.1000.safetensors", "model.900.pt", "a.b.c.bin", "notes.txt", "log.json"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "gpt2").mkdir()
    (tmp_path / "gpt2" / "model.safetensors").write_bytes(b"")
    listing = rf"{tmp_path} has a\.b\.c\.bin, gpt2/, model\.900\.pt, model\.1000\.safetensors$"
    with pytest.raises(UserError, match=r"model\.5\.pt: no such checkpoint; " + listing):
        resolve_checkpoint(tmp_path / "model.5.pt")
    with pytest.raises(UserError, match="a folder without any of model.safetensors, .*; " + listing):
        resolve_checkpoint(tmp_path)


def test_resolve_in_empty_and_missing_folders(tmp_path):
    with pytest.raises(UserError, match=f"no checkpoint is in {tmp_path}$"):
        resolve_checkpoint(tmp_path / "a.pt")
    with pytest.raises(UserError, match="the folder .*nowhere does not exist either$"):
        resolve_checkpoint(tmp_path / "nowhere" / "a.pt")


@pytest.mark.parametrize("name", ["gpt2-medium", "gpt2-medium-pytorch_model.bin"])
def test_resolve_says_how_to_fetch_a_backbone(project, name):
    with pytest.raises(UserError, match="bash scripts/download_pretrained_checkpoints.sh gpt2-medium$"):
        resolve_checkpoint(project / "pretrained_checkpoints" / name)
