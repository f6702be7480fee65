"""The training run on events around made-up steps: scores after each epoch, the best checkpoint; and its flags."""

import json
from pathlib import Path

import numpy as np
import pytest

from common.errors import UserError
from common.files import read_json
from common.model.bert_cards import BERT_CARDS, HEAD_NAMES
from common.model.initial_weights import RANDOM
from common.run.event_arguments import event_prediction_arguments, event_training_arguments, flags_of_event_training
from common.run.event_training import EVENTS, first_event_weights, new_event_record
from common.run.ranges import RANGES
from common.run.training import run_training
from tests.common.data.event_cases import EVENT, write_phee, write_vocab
from tests.common.run.event_steps import made_up_steps


@pytest.fixture
def words(tmp_path):
    return ["--train_data", str(write_phee(tmp_path, [EVENT] * 4)), "--valid_data",
            str(write_phee(tmp_path, [EVENT] * 3, "dev.json")), "--vocab", str(write_vocab(tmp_path)),
            "--init_checkpoint", RANDOM, "--work_dir", str(tmp_path / "work"), "--train_batch_size", "4",
            "--log_interval", "1", "--max_epoch", "4"]


def test_the_best_epoch_is_kept(words, tmp_path, capsys):
    saved = []
    arguments = event_training_arguments([*words, "--warmup_share", "0.25"], "")
    run_training(arguments, made_up_steps([0, 2, 1, 2], saved), EVENTS)
    work = tmp_path / "work"
    assert [Path(path).name for path in saved] == [f"model.{step}.safetensors" for step in (2, 4, 6, 8)]
    assert sorted(path.name for path in work.iterdir()) == ["model.6.safetensors", "train_log.jsonl",
                                                            "train_summary.json"]
    records = [json.loads(line) for line in (work / "train_log.jsonl").read_text().splitlines()]
    validations = [record for record in records if record["kind"] == "validation"]
    # Six queries with nine gold spans: the agent has two, of which one answer finds one.
    assert [record["epoch"] for record in validations] == [1, 2, 3, 4]
    assert [round(record["scores"]["classification"]["f1"], 4) for record in validations][::2] == [0.0, 0.8]
    assert validations[2]["scores"]["classification"] == pytest.approx({"precision": 1.0, "recall": 6 / 9, "f1": 0.8})
    assert [record["lr"] for record in records if record["kind"] == "train"][:3] == pytest.approx([5e-4, 1e-3, 5 / 6e3])
    summary = read_json(work / "train_summary.json")
    assert summary["best_f1"] == pytest.approx(0.8) and summary["checkpoint"].endswith("model.6.safetensors")
    assert summary["checkpoint_bytes"] == 1 and summary["arguments"]["init_checkpoint"] == RANDOM
    assert not {"card", "lora", "ontology", "backbone_path", "vocab_path"} & summary["arguments"].keys()
    printed = capsys.readouterr().out
    assert "4 training events with 8 queries, 3 validation events with 6; 2 batches of 4 an epoch, 8 steps" in printed
    assert "| precision 1.0000 | recall 0.6667 | F1 0.8000 | best F1 0.8000" in printed


def test_a_loss_that_is_not_finite(words):
    arguments = event_training_arguments(words, "")
    prepare = made_up_steps([0], [])
    steps = prepare(arguments)
    steps.__dict__["evaluate"] = lambda batch: np.full((len(batch.input_ids), 2), np.nan, np.float32)
    with pytest.raises(UserError, match="the validation loss after step 2 is nan: training has diverged"):
        run_training(arguments, lambda arguments: steps, EVENTS)


@pytest.mark.parametrize("flags, message", [
    (["--grad_acc", "9"], "more than the 8 steps of the run"),
    (["--warmup_share", "0.1", "--warmup_step", "3"], "give one of them"),
    (["--lora_dim", "0", "--heads", "frozen"], "--lora_dim 0 trains all weights"),
    (["--lora_targets", "q,v"], "expected some of query,key,value,output,intermediate,layer_output"),
    (["--seq_len", "513"], "expected at most 512, the positions of bert.minilm"),
    (["--lora_dim", "385"], "expected at most 384"),
    (["--init_checkpoint", "/nowhere.safetensors"], "no such checkpoint"),
])
def test_wrong_flags(words, flags, message):
    with pytest.raises(UserError, match=message):
        EVENTS.plan(event_training_arguments([*words, *flags], ""))


@pytest.mark.parametrize("name", ["backbone_dropout", "head_dropout", "warmup_share"])
def test_numbers_up_to_their_bounds(words, name):
    assert getattr(event_training_arguments([*words, f"--{name}=.999"], ""), name) == 0.999
    assert (RANGES[name].low, RANGES[name].high) == (0, 1)
    for value in ("-1e-9", "1", "nan"):
        with pytest.raises(UserError, match=f"--{name} .*expected at least 0 and less than 1"):
            event_training_arguments([*words, f"--{name}={value}"], "")


def test_a_vocabulary_of_another_model(words, tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(["[UNK]", "[CLS]", "[SEP]", *map(str, range(40_000))]))
    with pytest.raises(UserError, match="has 40003 pieces, and bert.minilm knows 30522"):
        EVENTS.plan(event_training_arguments(words, ""))


def test_what_a_checkpoint_records(words):
    record = new_event_record(event_training_arguments([*words, "--heads", "frozen"], ""))
    assert (record.model_card, record.lora_dim, record.heads, record.backbone_path) == ("bert.minilm", 16, "frozen",
                                                                                        RANDOM)
    assert record.task == {"questions": {"Agent": "Who acts?", "Thing": "Which thing?"},
                           "roles": {"Break": ["Agent", "Thing"]}, "seq_len": 512}


def test_the_first_weights(words):
    arguments = event_training_arguments([*words, "--lora_dim", "2", "--lora_targets", "key,layer_output"], "")
    weights = first_event_weights(arguments)
    card = BERT_CARDS["bert.minilm"]
    assert set(card.backbone_shapes()) < set(weights) and set(HEAD_NAMES) < set(weights)
    lora = {name: array.shape for name, array in weights.items() if "lora_" in name}
    assert len(lora) == 4 * card.layers
    assert lora["bert.layers.5.attention.query_key_value.lora_A"] == (2, 384)
    assert lora["bert.layers.5.feed_forward.output.lora_A"] == (2, 1536)
    assert 0 < np.abs(weights["heads.weight"]).max() <= 384 ** -0.5
    again = first_event_weights(event_training_arguments([*words, "--random_seed", "111"], ""))
    assert not np.array_equal(again["heads.weight"], weights["heads.weight"])


def test_flags_for_a_driver():
    flags, rest = flags_of_event_training(["--lr", "0.5", "--heads", "frozen", "--beam", "3"])
    assert flags == {"lr": 0.5, "heads": "frozen"} and rest == ["--beam", "3"]
    assert flags_of_event_training([]) == ({}, [])


@pytest.mark.parametrize("words, message", [
    ([], "found nothing to read; expected one of a sentence, --file and --data"),
    (["It [broke].", "--data", "x"], "found sentence and data to read"),
    (["--data", "x", "--event_type", "Break"], "the events of --data have their types"),
])
def test_wrong_flags_of_prediction(words, message):
    with pytest.raises(UserError, match=message):
        event_prediction_arguments(["--checkpoint", "x", *words], "")
