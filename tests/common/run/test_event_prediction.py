"""Prediction around a made-up model: what is printed and written, and checkpoints that cannot be used."""

import json
from pathlib import Path

import numpy as np
import pytest

from common.data.events import Ontology
from common.errors import UserError
from common.files import read_json
from common.metrics.events import read_predictions, tally_events
from common.model.bert_cards import BERT_CARDS, BertCard
from common.model.bert_files import save_event_checkpoint, to_hugging_face
from common.model.checkpoint import backbone_hash
from common.model.huggingface_files import save_arrays
from common.model.initial_weights import RANDOM
from common.model.lora_arrays import BertLoraSettings, merge_lora
from common.model.lora_file import LoraRecord, is_lora
from common.run.event_arguments import event_prediction_arguments, event_training_arguments
from common.run.event_prediction import EventModel, run_prediction
from common.run.event_training import EVENTS, first_event_weights
from tests.common.data.event_cases import EVENT, write_phee, write_vocab
from tests.common.run.event_steps import logits_of

TASK = {"questions": {"Agent": "Who acts?", "Thing": "Which thing?"}, "roles": {"Break": ["Agent", "Thing"]},
        "seq_len": 64}
SMALL = BertCard("bert.small", 8, 2, 2, "bert-small", vocabulary=64)


@pytest.fixture(autouse=True)
def small_card(monkeypatch):
    monkeypatch.setitem(BERT_CARDS, SMALL.name, SMALL)


@pytest.fixture
def weights(tmp_path):
    """All weights of the small model, LoRA's and the heads' too, none of them zero."""
    arguments = event_training_arguments(
        ["--train_data", str(write_phee(tmp_path)), "--valid_data", str(tmp_path / "train.json"), "--vocab",
         str(write_vocab(tmp_path)), "--model_card", SMALL.name, "--init_checkpoint", RANDOM, "--max_epoch", "1",
         "--lora_dim", "2"], "")
    generator = np.random.RandomState(1)
    return {name: array + generator.randn(*array.shape).astype(np.float32)
            for name, array in first_event_weights(arguments).items()}


def write_checkpoint(folder, weights, rank=2, **record):
    """Writes the backbone and a checkpoint on it; returns the checkpoint's path."""
    backbone = folder / "backbone.safetensors"
    plain = {name: array for name, array in weights.items() if not is_lora(name) and "heads" not in name}
    save_arrays(backbone, to_hugging_face(plain, SMALL))
    full = LoraRecord(**{"model_card": SMALL.name, "lora_dim": rank, "lora_alpha": 4.0,
                         "lora_targets": ("query", "value"), "step": 7, "backbone_path": str(backbone),
                         "backbone_sha256": backbone_hash(backbone), "heads": "trained", "task": TASK, **record})
    kept = weights if not rank else {name: array for name, array in weights.items() if name not in plain}
    path = folder / "model.7.safetensors"
    save_event_checkpoint(path, {name: array for name, array in kept.items() if rank or not is_lora(name)}, full)
    return str(path)


def made_up_model(seen, share=1):
    def prepare(arguments):
        seen.update(arguments.weights)
        return EventModel(lambda batch: logits_of(batch, lambda index: index % share == 0), lambda: 1 << 20,
                          {"framework": "made up"})
    return prepare


def predict(checkpoint, *words, seen=None, share=1):
    run_prediction(event_prediction_arguments(["--checkpoint", checkpoint, *words], ""),
                   made_up_model({} if seen is None else seen, share))


@pytest.mark.parametrize("rank", [2, 0])
def test_a_data_set(tmp_path, weights, rank):
    checkpoint, seen = write_checkpoint(tmp_path, weights, rank), {}
    gold = write_phee(tmp_path, [EVENT, EVENT], "test.json")
    predict(checkpoint, "--data", str(gold), "--vocab", str(tmp_path / "vocab.txt"), "--work_dir",
            str(tmp_path / "work"), seen=seen)
    lora = {name: array for name, array in weights.items() if is_lora(name)}
    plain = {name: array for name, array in weights.items() if not is_lora(name)}
    expected = plain if not rank else merge_lora(plain, lora, BertLoraSettings(2, 4.0))
    assert seen.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(seen[name], array)
    path = tmp_path / "work" / "predictions.jsonl"
    first = json.loads(path.read_text().splitlines()[0])
    assert first["trigger"] == [2, 2] and first["id"] == "s1"
    assert [(each["role"], each["text"]) for each in first["arguments"]] == [("Agent", "Ada"), ("Thing", "The clock")]
    assert all(0.99 < each["probability"] <= 1 for each in first["arguments"])
    events = EVENTS.plan(event_training_arguments(
        ["--train_data", str(gold), "--valid_data", str(gold), "--init_checkpoint", RANDOM, "--vocab",
         str(tmp_path / "vocab.txt"), "--max_epoch", "1"], "")).valid_rows.events
    found = read_predictions(path, events, Ontology(TASK["questions"], {"Break": ("Agent", "Thing")}))
    assert tally_events(events, found)["classification_precision"].corpus_score == 1.0
    summary = read_json(str(path) + ".summary.json")
    assert summary["events"] == 2 and summary["queries"] == 4 and summary["framework"] == "made up"


def test_a_sentence_and_a_file(tmp_path, weights, capsys):
    checkpoint = write_checkpoint(tmp_path, weights)
    vocab = ["--vocab", str(tmp_path / "vocab.txt")]
    predict(checkpoint, "The clock [broke].", *vocab)
    # The made-up model knows that a sentence without gold arguments has none.
    assert capsys.readouterr().out == 'the sentence: Break, trigger "broke"\n  no arguments found\n'
    (tmp_path / "few.txt").write_text("It [broke].\nThe clock [broke] too.\n")
    predict(checkpoint, "--file", str(tmp_path / "few.txt"), "--event_type", "Break", *vocab)
    assert capsys.readouterr().out.count('Break, trigger "broke"') == 2
    with pytest.raises(UserError, match="--event_type Sale: is unknown; the model knows Break"):
        predict(checkpoint, "It [broke].", "--event_type", "Sale", *vocab)


def test_what_is_printed(tmp_path, weights, capsys):
    """Logits of zero everywhere but for the sentence's first word."""
    def prepare(arguments):
        def evaluate(batch):
            logits = np.zeros((len(batch.input_ids), 2), np.float32)
            logits[batch.offsets[0] + 5] = 3.0  # behind [CLS] who acts ? [SEP]
            return logits
        return EventModel(evaluate, lambda: 1, {})
    checkpoint = write_checkpoint(tmp_path, weights)
    run_prediction(event_prediction_arguments(["--checkpoint", checkpoint, "ada [broke] it", "--vocab",
                                               str(tmp_path / "vocab.txt")], ""), prepare)
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first == 'the sentence: Break, trigger "broke"' and second.split()[0] == "Agent"
    share = np.exp(6) / (np.exp(6) + 2 * np.exp(3) + 4)  # ada; two spans that begin with it; four others, or none
    assert second.split()[1:] == [f"{share:.3f}", "ada"]


def test_a_type_has_to_be_named_where_there_are_several(tmp_path, weights):
    several = {**TASK, "roles": {"Break": ["Agent"], "Sale": ["Agent"]}}
    checkpoint = write_checkpoint(tmp_path, weights, task=several)
    with pytest.raises(UserError, match="--event_type is missing; the model knows Break, Sale"):
        predict(checkpoint, "It [broke].", "--vocab", str(tmp_path / "vocab.txt"))


def test_checkpoints_that_cannot_be_used(tmp_path, weights):
    checkpoint = write_checkpoint(tmp_path, weights)
    backbone = Path(tmp_path / "backbone.safetensors")
    content = backbone.read_bytes()
    backbone.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(UserError, match="was trained on .*, which is not there or is another file now"):
        predict(checkpoint, "It [broke].")
    with pytest.raises(UserError, match=r"nowhere\.txt: no such file; expected the model's vocab\.txt"):
        predict(checkpoint, "It [broke].", "--init_checkpoint", str(backbone), "--vocab", str(tmp_path / "nowhere.txt"))
    damaged = bytearray(Path(checkpoint).read_bytes())
    damaged[-1] ^= 1
    Path(checkpoint).write_bytes(damaged)
    with pytest.raises(UserError, match="is damaged: its checksum is not that of the arrays"):
        predict(checkpoint, "It [broke].")
    with pytest.raises(UserError, match="does not record how it was trained"):
        predict(str(backbone), "It [broke].")
    write_checkpoint(tmp_path, weights, heads="")
    with pytest.raises(UserError, match="expected a checkpoint of bert_eae_ft.py"):
        predict(checkpoint, "It [broke].")
    write_checkpoint(tmp_path, weights, task={"questions": {}})
    with pytest.raises(UserError, match="the record of its task: the JSON has no 'roles'"):
        predict(checkpoint, "It [broke].")


def test_logits_that_are_not_finite(tmp_path, weights):
    def prepare(arguments):
        return EventModel(lambda batch: np.full((len(batch.input_ids), 2), np.inf, np.float32), lambda: 1, {})
    arguments = event_prediction_arguments(["--checkpoint", write_checkpoint(tmp_path, weights), "It [broke].",
                                            "--vocab", str(tmp_path / "vocab.txt")], "")
    with pytest.raises(UserError, match="the model's logits are not finite"), np.errstate(all="ignore"):
        run_prediction(arguments, prepare)
