"""GPT-2 and LoRA files as other programs write them: microsoft/LoRA's, Hugging Face's, torch.compile's."""

import json

import loralib
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import GPT2Config, GPT2LMHeadModel, GPT2Model

from common.errors import UserError
from common.model.checkpoint import check_shapes, load_weights
from common.model.huggingface_files import config_of
from common.model.lora_arrays import merge_lora
from common.model.model_cards import MODEL_CARDS, backbone_shapes
from common.model.weight_files import read_arrays
from tests.common.model.checkpoint_cases import BACKBONE, CARD, LORA, SETTINGS, assert_same, write
from tests.oracles import make_oracle

as_tensors = {name: torch.tensor(array) for name, array in BACKBONE.items()}
formats = pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])


# microsoft/LoRA

@formats
@pytest.mark.parametrize("prefix", ["", "module."], ids=["one process", "distributed"])
def test_what_loralib_saves(tmp_path, is_zip, prefix):
    """A LoRA-only file as examples/NLG writes it, on a backbone without prefix: the logits are loralib's."""
    backbone, lora = make_oracle.weights()
    model = make_oracle.reference_model(backbone, lora)
    state = loralib.lora_state_dict(torch.nn.DataParallel(model) if prefix else model)
    assert set(state) == {prefix + name for name in lora}
    torch.save({"model_state_dict": state}, tmp_path / "model.26290.pt", _use_new_zipfile_serialization=is_zip)
    write(tmp_path / "gpt2.safetensors", {name.removeprefix("transformer."): array for name, array in backbone.items()})
    settings, card = make_oracle.SETTINGS, make_oracle.CARD
    found = load_weights(tmp_path / "gpt2.safetensors", tmp_path / "model.26290.pt", card, settings)
    assert_same(found[0], backbone)
    assert_same(found[1], lora)
    assert found[2] is None
    merged = merge_lora(*found[:2], settings)
    plain = make_oracle.reference_model(merged, {name: np.zeros_like(array) for name, array in lora.items()})
    ids = torch.arange(12)[None]
    with torch.no_grad():
        expected = model(ids).logits.numpy()
        assert np.abs(plain(ids).logits.numpy() - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("bias", ["lora_only", "all"])
def test_biases_that_loralib_trained_are_refused(tmp_path, bias):
    backbone, lora = make_oracle.weights()
    model = make_oracle.reference_model(backbone, lora)
    for block in model.transformer.h:
        block.attn.c_attn.bias.data += 1
    torch.save({"model_state_dict": loralib.lora_state_dict(model, bias)}, tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"a\.pt: holds 2 arrays that are neither LoRA's nor those of .*attn\.c_attn\."):
        load_weights(write(tmp_path / "gpt2.safetensors", backbone), tmp_path / "a.pt", make_oracle.CARD,
                     make_oracle.SETTINGS)


@formats
def test_tensorflows_endings(tmp_path, is_zip):
    """Names of the first conversions of OpenAI's files to torch, which examples/NLG renames when it loads them."""
    def old(name):
        stem, _, ending = name.removeprefix("transformer.").rpartition(".")
        letter = "g" if ".ln_" in name or stem == "ln_f" else "w"
        return f"{stem}.{'b' if ending == 'bias' else letter}" if stem not in ("wte", "wpe") else f"{stem}.weight"

    renamed = {old(name): tensor for name, tensor in as_tensors.items()}
    assert {"h.0.ln_1.g", "h.1.mlp.c_fc.b", "h.1.attn.c_attn.w", "wte.weight"} < set(renamed)
    torch.save(renamed, tmp_path / "a.bin", _use_new_zipfile_serialization=is_zip)
    assert_same(read_arrays(tmp_path / "a.bin"), BACKBONE)


# torch

def test_a_compiled_model(tmp_path):
    model = GPT2LMHeadModel(GPT2Config(**{**config_of(CARD), "n_layer": 1}))
    plain = {name: tensor.numpy() for name, tensor in model.transformer.state_dict(prefix="transformer.").items()}
    model.transformer.h[0] = torch.compile(model.transformer.h[0])
    compiled = torch.compile(torch.nn.DataParallel(model))
    assert "_orig_mod.module.transformer.h.0._orig_mod.ln_1.weight" in compiled.state_dict()
    torch.save(compiled.state_dict(), tmp_path / "a.pt")
    assert_same(read_arrays(tmp_path / "a.pt"), plain)


@formats
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_other_floats_in_torch_files(tmp_path, is_zip, dtype):
    stored = {name: tensor.to(dtype) for name, tensor in as_tensors.items()}
    torch.save(stored, tmp_path / "a.bin", _use_new_zipfile_serialization=is_zip)
    assert_same(read_arrays(tmp_path / "a.bin"), {name: tensor.float().numpy() for name, tensor in stored.items()})


# Hugging Face

@pytest.mark.parametrize("name, layers, heads, width", [
    ("gpt2.sm", 12, 12, 768), ("gpt2.md", 24, 16, 1024), ("gpt2.lg", 36, 20, 1280), ("gpt2.xl", 48, 25, 1600)])
@pytest.mark.parametrize("kind", [GPT2Model, GPT2LMHeadModel])
def test_every_published_size_has_its_card(name, layers, heads, width, kind):
    """Sizes of Radford et al. 2019, table 2; names and shapes are transformers', on a device without memory."""
    card = MODEL_CARDS[name]
    assert (card.layers, card.heads, card.width, card.positions) == (layers, heads, width, 1024)
    with torch.device("meta"):
        state = kind(GPT2Config(n_layer=layers, n_head=heads, n_embd=width)).state_dict()
    found = {"transformer." + each.removeprefix("transformer."): tensor for each, tensor in state.items()
             if each != "lm_head.weight"}
    check_shapes(found, backbone_shapes(card), name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("prefix", ["", "transformer."])
@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_shards_with_an_index(tmp_path, dtype, prefix, file):
    """With the causal mask and the tied output embedding that older files have."""
    state = {prefix + name.removeprefix("transformer."): tensor.to(dtype) for name, tensor in as_tensors.items()}
    state[prefix + "h.0.attn.bias"] = torch.ones(1, 1, 8, 8).tril()
    if prefix:
        state["lm_head.weight"] = state["transformer.wte.weight"].clone()
    stem, ending = file.split(".")
    weight_map = {name: f"{stem}-0000{number % 3 + 1}-of-00003.{ending}" for number, name in enumerate(state)}
    for shard in set(weight_map.values()):
        part = {name: tensor for name, tensor in state.items() if weight_map[name] == shard}
        (save_file if ending == "safetensors" else torch.save)(part, tmp_path / shard)
    (tmp_path / f"{file}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    expected = {name: tensor.to(dtype).float().numpy() for name, tensor in as_tensors.items()}
    assert_same(read_arrays(tmp_path), expected)
    backbone, _, _ = load_weights(tmp_path / f"{file}.index.json", write(tmp_path / "lora.safetensors", LORA), CARD,
                                  SETTINGS)
    assert_same(backbone, expected)
