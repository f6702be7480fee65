"""ChatGLM2's published form: shards with an index, float16, the buffer of angles; what is missing or wrong in it."""

import json
import shutil
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy

from common.errors import UserError
from common.model import downloading
from common.model.chatglm_cards import CHATGLM_CARDS, chatglm_lora_shapes, chatglm_shapes, initial_chatglm_lora
from common.model.chatglm_weights import ChatGLMLora, read_chatglm_lora, stream_backbone
from common.model.lora_file import LoraRecord, save_lora
from common.paths import PRETRAINED
from tests.trees.small_chatglm import CARD, LORA, backbone, lora_arrays

SHARDS = 7
BUFFER = "transformer.rotary_pos_emb.inv_freq"


def write_shards(folder, kind="torch", change=lambda arrays: None):
    """Writes the small model as it is published, its last shard with the buffer; returns its float16 arrays."""
    arrays = {name: array.astype(np.float16) for name, array in backbone().items()}
    arrays[BUFFER] = np.ones(8, np.float16)
    change(arrays)
    names, ending = list(arrays), "bin" if kind == "torch" else "safetensors"
    stem = "pytorch_model" if kind == "torch" else "model"
    weight_map = {}
    for number in range(1, SHARDS + 1):
        part = names[(number - 1) * len(names) // SHARDS:number * len(names) // SHARDS]
        file = f"{stem}-{number:05d}-of-{SHARDS:05d}.{ending}"
        weight_map.update(dict.fromkeys(part, file))
        if kind == "torch":
            torch = pytest.importorskip("torch", reason="torch writes what is read here without it")
            torch.save({name: torch.from_numpy(arrays[name]) for name in part}, folder / file)
        else:
            safetensors.numpy.save_file({name: arrays[name] for name in part}, folder / file)
    (folder / f"{stem}.{ending}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return arrays


@pytest.mark.parametrize("kind", ["torch", "safetensors"])
def test_shards(tmp_path, kind):
    arrays = write_shards(tmp_path, kind)
    found = dict(stream_backbone(tmp_path, CARD))
    assert found.keys() == chatglm_shapes(CARD).keys() == arrays.keys() - {BUFFER}
    assert all(array.dtype == np.float32 and np.array_equal(array, arrays[name]) for name, array in found.items())


def test_only_one_shard_is_in_memory(tmp_path):
    write_shards(tmp_path)
    sizes = [array.nbytes // 2 for array in backbone().values()]
    tracemalloc.start()
    for _ in stream_backbone(tmp_path, CARD):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.6 * sum(sizes)


def drop(name):
    return lambda arrays: arrays.pop(name)


def put(name, array):
    return lambda arrays: arrays.update({name: array})


NORM = "transformer.encoder.final_layernorm.weight"


@pytest.mark.parametrize("change, sentence", [
    (drop(NORM), f"index.json: arrays that do not fit a ChatGLM2: 1 missing: {NORM}"),
    (put("transformer.prefix_encoder.weight", np.ones(3, np.float16)), "1 unexpected: transformer.prefix_encoder"),
    (put(NORM, np.ones(65, np.float16)), r"has shape \(65,\), chatglm2.test expects \(64,\)"),
    (put(NORM, np.ones(64, np.int32)), "has dtype int32"),
    (put(NORM, np.full(64, np.nan, np.float16)), "64 of 64 numbers that are NaN")])
def test_what_does_not_fit(tmp_path, change, sentence):
    write_shards(tmp_path, "safetensors", change)
    with pytest.raises(UserError, match=sentence):
        list(stream_backbone(tmp_path, CARD))


def test_missing_shards_are_all_named(tmp_path):
    write_shards(tmp_path, "safetensors")
    files = sorted(tmp_path.glob("*.safetensors"))
    for file in files[:6]:
        file.unlink()
    with pytest.raises(UserError) as caught:
        list(stream_backbone(tmp_path, CARD))
    assert all(file.name in str(caught.value) for file in files[:6])


def test_copying_a_model(tmp_path, monkeypatch, capsys):
    """As scripts/download_pretrained_checkpoints.sh chatglm2-6b --source DIR copies it."""
    source, target = tmp_path / "source" / "chatglm2-6b", tmp_path / "pretrained"
    source.mkdir(parents=True)
    write_shards(source, "safetensors")
    card = replace(CARD, pieces=4600)
    monkeypatch.setattr(downloading, "CARDS", {"chatglm2-6b": card})
    monkeypatch.setattr(downloading, "PRETRAINED", target)
    with pytest.raises(UserError, match="no tokenizer.model beside it"):
        downloading.main(["chatglm2-6b", "--source", str(source.parent)])
    shutil.copy(PRETRAINED / "chatglm2-nano" / "tokenizer.model", source)
    for _ in range(2):
        downloading.main(["chatglm2-6b", "--source", str(source.parent)])
    assert "copied and valid" in (said := capsys.readouterr().out) and "there and valid" in said
    assert len(list((target / "chatglm2-6b").iterdir())) == SHARDS + 3  # with index, tokenizer and SHA256SUMS
    assert dict(stream_backbone(target / "chatglm2-6b", card)).keys() == chatglm_shapes(card).keys()
    with pytest.raises(UserError, match="THUDM/chatglm2-6b: no revision of it is known here; download its weights and"):
        shutil.rmtree(target)
        downloading.main(["chatglm2-6b"])


def test_sizes_of_another_card(tmp_path):
    write_shards(tmp_path, "safetensors", put("transformer.embedding.word_embeddings.weight",
                                              np.zeros((4608, 128), np.float16)))
    with pytest.raises(UserError, match="sizes of chatglm2.nano: give its --model_card"):
        list(stream_backbone(tmp_path, CARD))


def test_published_sizes():
    card = CHATGLM_CARDS["chatglm2.6b"]
    assert sum(np.prod(shape) for shape in chatglm_shapes(card).values()) == 6243584000
    assert sum(np.prod(shape) for shape in chatglm_lora_shapes(card, 32).values()) == 7798784


def test_first_values_of_lora():
    arrays = initial_chatglm_lora(CARD, 4, 1)
    assert {name: array.shape for name, array in arrays.items()} == chatglm_lora_shapes(CARD, 4)
    for name, array in arrays.items():
        assert not array.any() if name.endswith("B") else 0.9 / 8 < np.abs(array).max() <= 1 / 8


def test_lora_files(tmp_path):
    record = LoraRecord(CARD.name, LORA.rank, LORA.alpha, LORA.targets, 7, "random", "random")
    save_lora(tmp_path / "lora.safetensors", lora_arrays(), record)
    arrays, found = read_chatglm_lora(tmp_path / "lora.safetensors", CARD, LORA)
    assert found == record and all(np.array_equal(arrays[name], array) for name, array in lora_arrays().items())
    with pytest.raises(UserError, match="--lora_r 4 --lora_alpha 8, but the flags say --lora_r 4 --lora_alpha 16"):
        read_chatglm_lora(tmp_path / "lora.safetensors", CARD, ChatGLMLora(4, 16))
    with pytest.raises(UserError, match="query_key_value of chatglm2.test, expected query_key_value of chatglm2.6b"):
        read_chatglm_lora(tmp_path / "lora.safetensors", CHATGLM_CARDS["chatglm2.6b"])
