"""Adapters, ours and others', in Hugging Face's own PEFT and transformers."""

import json
import logging
import os

import huggingface_hub
import numpy as np
import peft
import pytest
import safetensors.numpy
import torch
from transformers import GPT2Config, GPT2LMHeadModel, GPT2Model

from common.errors import UserError
from common.model import peft_export, peft_import
from common.model.checkpoint import load_weights, new_record
from common.model.huggingface_files import config_of, write_model
from common.model.lora_arrays import TARGETS, LoraSettings, merge_lora
from common.model.lora_file import read_record, save_lora
from common.model.model_cards import MODEL_CARDS
from common.model.weight_files import read_arrays
from tests.common.model.checkpoint_cases import assert_same, write
from tests.common.model.huggingface_cases import (
    BACKBONE,
    CARD,
    assert_same_logits,
    logits_of,
    merged_logits,
    transformers_model,
    weights,
)

TARGET_SETS = [("q", "v"), ("q",), ("k",), ("k", "v"), ("q", "k", "v"), ("o",), ("fc", "proj"), ("v", "o", "proj"),
               TARGETS]
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")]


@pytest.fixture(autouse=True)
def small_model_offline(monkeypatch):
    monkeypatch.setitem(MODEL_CARDS, CARD.name, CARD)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    logging.getLogger("transformers").setLevel(logging.ERROR)


@pytest.fixture
def backbone_path(project):
    folder = project / "pretrained_checkpoints" / CARD.folder
    (folder / "config.json").write_text(json.dumps(config_of(CARD)))
    return write(folder / "model.safetensors", BACKBONE)


@pytest.fixture
def saved(project, backbone_path):
    """A function from LoraSettings to a LoRA file and its arrays."""
    def save(settings):
        lora = weights(settings, seed=1)[1]
        path = project / "trained" / "model.5.safetensors"
        save_lora(path, lora, new_record(CARD, settings, backbone_path))
        return path, lora
    return save


def import_folder(folder, project, *flags):
    """Runs import_peft.py; returns the LoRA arrays and LoraSettings of its file, checked by load_weights."""
    output = project / "imported.safetensors"
    output.unlink(missing_ok=True)
    peft_import.main([str(folder), str(output), "--model_card", CARD.name, "--init_checkpoint",
                      str(project / "pretrained_checkpoints" / CARD.folder), *flags])
    record = read_record(output)
    settings = LoraSettings(record.lora_dim, record.lora_alpha, targets=record.lora_targets)
    backbone, lora, _ = load_weights(output, None, CARD, settings)
    assert_same(backbone, BACKBONE)
    return lora, settings


# Ours in PEFT

@pytest.mark.parametrize("targets", TARGET_SETS, ids=",".join)
def test_an_exported_adapter_has_the_same_logits_and_comes_back_as_it_was(saved, project, targets):
    settings = LoraSettings(rank=3, alpha=7, targets=targets)
    path, lora = saved(settings)
    peft_export.main([str(path), str(project / "adapter")])
    model = peft.PeftModel.from_pretrained(transformers_model(BACKBONE), project / "adapter").eval()
    assert_same_logits(logits_of(model), merged_logits(BACKBONE, lora, settings), BACKBONE)
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, peft.tuners.lora.Linear)}
    assert len(layers) == len(lora) // 2
    for name, layer in layers.items():
        count = sum(target in targets for target in ("q", "k", "v")) if name.endswith("c_attn") else 1
        assert layer.r == {"default": 3 * count} and layer.scaling == {"default": 7 / 3}
    model.save_pretrained(project / "again")  # with PEFT's whole configuration
    for folder in ("adapter", "again"):
        found, found_settings = import_folder(project / folder, project)
        assert found_settings == settings
        assert_same(found, lora)


def test_the_adapter_names_its_backbone(saved, project, monkeypatch):
    settings = LoraSettings()
    path, lora = saved(settings)
    peft_export.main([str(path), str(project / "adapter")])
    monkeypatch.chdir(project)
    model = peft.AutoPeftModelForCausalLM.from_pretrained(project / "adapter").eval()
    assert_same_logits(logits_of(model), merged_logits(BACKBONE, lora, settings), BACKBONE)


def test_a_training_of_the_adapter_goes_on_in_peft(saved, project):
    """One step of SGD on A and B: zeros outside of the blocks would become other numbers, and rank 2r updates."""
    settings = LoraSettings(rank=2, alpha=4)
    path, _ = saved(settings)
    peft_export.main([str(path), str(project / "adapter")])
    model = peft.PeftModel.from_pretrained(transformers_model(BACKBONE), project / "adapter", is_trainable=True)
    model(input_ids=torch.arange(12)[None], labels=torch.arange(12)[None]).loss.backward()
    torch.optim.SGD((each for each in model.parameters() if each.requires_grad), lr=0.1).step()
    model.eval().save_pretrained(project / "trained_on")
    lora, found = import_folder(project / "trained_on", project)
    assert (found.rank, found.alpha, found.targets) == (4, 8, ("q", "k", "v"))
    assert_same_logits(logits_of(model), merged_logits(BACKBONE, lora, found), BACKBONE)


# Others' with us

def adapter(folder, base=None, **options):
    """Makes an adapter with random A and B and saves it; returns PEFT's model."""
    torch.manual_seed(5)
    options = {"r": 3, "lora_alpha": 5, "target_modules": ["c_attn"], "fan_in_fan_out": True, "task_type": "CAUSAL_LM",
               **options}
    model = peft.get_peft_model(base or transformers_model(BACKBONE), peft.LoraConfig(**options)).eval()
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("options, rank, scale, targets", [
    ({}, 3, 5 / 3, ("q", "k", "v")),
    ({"use_rslora": True, "lora_alpha": 2}, 3, 2 / 3 ** 0.5, ("q", "k", "v")),
    ({"target_modules": ["c_proj"]}, 3, 5 / 3, ("o", "proj")),
    ({"target_modules": ["c_attn", "mlp.c_fc"], "rank_pattern": {"c_fc": 5}}, 5, 5 / 3, ("q", "k", "v", "fc")),
    ({"target_modules": "all-linear", "rank_pattern": {r"h\.[01]\.attn\.c_attn": 2}, "use_rslora": True,
      "alpha_pattern": {"mlp.c_proj": 9, "transformer.h.2.attn.c_attn": 1.5}}, 3, 5 / 3 ** 0.5, TARGETS),
    ({"layers_to_transform": [1]}, 3, 5 / 3, ("q", "k", "v")),
    ({"init_lora_weights": "gaussian", "lora_dropout": 0.1, "exclude_modules": ["h.0.attn.c_attn"]}, 3, 5 / 3,
     ("q", "k", "v")),
])
def test_an_adapter_of_other_shape_has_the_same_logits_here(project, backbone_path, options, rank, scale, targets):
    model = adapter(project / "adapter", **options)
    lora, settings = import_folder(project / "adapter", project)
    assert (settings.rank, settings.targets) == (rank, targets)
    assert settings.alpha / settings.rank == pytest.approx(scale, rel=1e-15)
    assert_same_logits(logits_of(model), merged_logits(BACKBONE, lora, settings),
                       BACKBONE if len(lora) == 6 else None)


def test_an_adapter_of_the_model_without_a_head(project, backbone_path):
    base = GPT2Model(GPT2Config(**config_of(CARD))).eval()
    base.load_state_dict({name.removeprefix("transformer."): torch.tensor(array) for name, array in BACKBONE.items()})
    adapter(project / "adapter", base, task_type="FEATURE_EXTRACTION", alpha_pattern={"h.1.attn.c_attn": 2})
    assert "base_model.model.h.0.attn.c_attn.lora_A.weight" in safetensors.numpy.load_file(
        project / "adapter" / "adapter_model.safetensors")
    lora, settings = import_folder(project / "adapter", project)
    with torch.no_grad():
        merged = transformers_model(merge_lora(BACKBONE, lora, settings)).transformer
        found, expected = (model(input_ids=torch.arange(12)[None]).last_hidden_state.numpy()
                           for model in (merged, base))  # PEFT has put its layers into base
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("is_torch", [True, False], ids=["bin", "safetensors"])
def test_half_precision_and_old_files(project, backbone_path, dtype, is_torch):
    adapter(project / "adapter")
    path = project / "adapter" / "adapter_model.safetensors"
    halves = {name: torch.tensor(array).to(dtype) for name, array in safetensors.numpy.load_file(path).items()}
    path.unlink()
    if is_torch:
        torch.save(halves, path.with_suffix(".bin"))
    else:
        from safetensors.torch import save_file
        save_file(halves, path)
    lora, _ = import_folder(project / "adapter", project)
    for name, tensor in halves.items():
        ours = name.removeprefix("base_model.model.").removesuffix(".weight")
        expected = tensor.float().numpy()
        np.testing.assert_array_equal(lora[ours], np.tile(expected, (3, 1)) if ours.endswith("A") else expected)


def test_an_adapter_before_its_training(project, backbone_path):
    model = adapter(project / "adapter")
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.zeros_(parameter)
    model.save_pretrained(project / "adapter")
    lora, settings = import_folder(project / "adapter", project)
    assert (settings.rank, settings.targets) == (3, ("q", "k", "v"))
    assert all(array.any() == name.endswith("A") for name, array in lora.items())


# What no LoRA file can hold

@pytest.mark.parametrize("options, reason", [
    ({"use_dora": True}, "use_dora is True: DoRA also scales"),
    ({"bias": "all"}, "bias is 'all': biases were trained"),
    ({"bias": "lora_only"}, "bias is 'lora_only': biases were trained"),
    ({"lora_bias": True}, "lora_bias is True: the updates have biases"),
    ({"init_lora_weights": "pissa"}, "init_lora_weights is 'pissa': such a start changes the backbone"),
    ({"modules_to_save": ["ln_f"]}, r"modules_to_save is \['ln_f'\]: whole modules"),
    ({"trainable_token_indices": [1, 2]}, r"trainable_token_indices is \[1, 2\]: embeddings were trained"),
])
def test_what_is_more_than_updates_is_refused_and_can_be_merged_in_peft(project, backbone_path, options, reason):
    adapter(project / "adapter", **options)
    with pytest.raises(UserError, match=reason + r".*merge_and_unload\(\)"):
        import_folder(project / "adapter", project)
    assert not (project / "imported.safetensors").exists()
    loaded = peft.PeftModel.from_pretrained(transformers_model(BACKBONE), project / "adapter").eval()
    expected = logits_of(loaded)
    loaded.merge_and_unload().save_pretrained(project / "merged")
    assert_same_logits(logits_of(transformers_model(read_arrays(project / "merged"))), expected)


@pytest.mark.parametrize("module, array", [("wte", "lora_embedding_A"), ("lm_head", r"lora_A\.weight")])
def test_updates_elsewhere_are_refused(project, backbone_path, module, array):
    adapter(project / "adapter", target_modules=["c_attn", module])
    with pytest.raises(UserError, match=rf"holds base_model\.model\..*{module}\.{array}, .*; expected updates of attn"):
        import_folder(project / "adapter", project)


def test_other_methods_are_refused(project, backbone_path):
    config = peft.IA3Config(target_modules=["c_attn"], feedforward_modules=[], task_type="CAUSAL_LM")
    peft.get_peft_model(transformers_model(BACKBONE), config).save_pretrained(project / "adapter")
    with pytest.raises(UserError, match="peft_type is 'IA3', expected 'LORA'"):
        import_folder(project / "adapter", project)


# The merged folder in transformers

def test_a_merged_folder_is_a_plain_gpt2(project, vocab, tokenizer):
    from transformers import AutoTokenizer
    settings = LoraSettings(targets=TARGETS)
    backbone, lora = weights(settings)
    write_model(project / "merged", merge_lora(BACKBONE, lora, settings), CARD)
    model, found = GPT2LMHeadModel.from_pretrained(project / "merged", output_loading_info=True)
    assert not any(found.values()), found
    assert_same_logits(logits_of(model.eval()), merged_logits(backbone, lora, settings), backbone)
    theirs = AutoTokenizer.from_pretrained(project / "merged")
    for text in ("name : Blue Spice | food : Chinese", " café 12,000\n\n x", ""):
        assert theirs(text)["input_ids"] == tokenizer.encode(text).ids
        assert theirs.decode(tokenizer.encode(text).ids) == text
    assert theirs("a<|endoftext|>")["input_ids"] == [64, 50256] and theirs.model_max_length == 16
    assert sorted(os.listdir(project / "merged")) == [
        "config.json", "generation_config.json", "merges.txt", "model.safetensors", "tokenizer_config.json",
        "vocab.json"]
