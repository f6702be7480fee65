"""ChatGLM2 in the tree under test: numbers of transformers and peft, pieces of a step, decoding, the programs."""

import json

import numpy as np
import pytest

from common.demo.advertising import make_rows
from common.errors import UserError
from common.files import write_json_lines
from common.model.chatglm_weights import ChatGLMLora
from common.run.batching import converted, pack
from common.run.beam_search import SearchSettings, search
from common.run.chatglm_arguments import chatglm_generation_arguments, chatglm_training_arguments
from common.run.chatglm_generating import drawn, generate, sampled
from common.run.chatglm_training import pieces_of_step
from common.run.dropout import Dropout, is_kept, step_key, token_keys
from tests import DEVICE
from tests.oracles.glm import PATH
from tests.oracles.plain_beam_search import log_softmax, plain_search
from tests.trees.small_chatglm import CARD, LORA, ROWS, SEQUENCES, lora_arrays, model_of
from tests.trees.small_model import relative_error

import chatglm2_ft
import chatglm2_generate
import chatglm_kernels
import device
from chatglm2_ft import build_steps
from chatglm2_generate import build_generation_model
from gpt2_ft import build_optimizer, train_step

pytestmark = pytest.mark.usefixtures("on_device")
FLAGS = ["--model_name_or_path", "random", "--model_card", "chatglm2.nano", "--device", DEVICE]


@pytest.fixture(scope="module")
def glm_oracle():
    with np.load(PATH) as file:
        return dict(file)


def training(*flags):
    """Returns the arguments of a training of the small model."""
    arguments = chatglm_training_arguments([*FLAGS, "--train_file", "x", "--output_dir", "x", "--lora_dropout", "0",
                                            "--max_grad_norm", "0", *flags], "")
    arguments.card, arguments.lora = CARD, LORA
    return arguments


def test_logits(glm_oracle):
    model = model_of()
    model.eval()
    hidden, _ = model.transformer(converted(pack(SEQUENCES), device.from_numpy))
    assert relative_error(device.to_numpy(model.logits(hidden)), glm_oracle["logits"]) <= 1e-5


@pytest.mark.parametrize("most_tokens", [10 ** 9, 31, 1])  # one piece, two, one for each row
def test_loss_and_gradients_in_pieces(most_tokens, glm_oracle):
    """All rows are one batch, whose loss is the mean over its tokens, in however many pieces it is computed."""
    model, arguments = model_of(LORA, lora_arrays()), training()
    optimizer = build_optimizer(arguments, model)
    pieces = pieces_of_step(ROWS, len(ROWS), 99, most_tokens)
    assert len(pieces) == {10 ** 9: 1, 31: 2, 1: 4}[most_tokens]
    loss = sum(float(train_step(model, optimizer, arguments, converted(piece, device.from_numpy), 0.0, False))
               for piece in pieces)
    assert loss == pytest.approx(glm_oracle["loss"], rel=1e-6)
    expected = [glm_oracle[f"gradients/{name}"] for name in lora_arrays()]
    found = np.concatenate([device.to_numpy(each).reshape(-1) for each in optimizer.gradients])
    for array in expected:
        assert relative_error(found[:array.size].reshape(array.shape), array) <= 1e-5
        found = found[array.size:]


def test_a_layer_with_dropout_computes_its_formula():
    generator = np.random.RandomState(5)
    x, weight, bias, a, b = (generator.randn(*shape).astype(np.float32) for shape in
                             ((11, 24), (40, 24), (40,), (3, 24), (40, 3)))
    keys = step_key(1, 2), token_keys(np.arange(11) // 4, np.arange(11) % 4)
    mask = is_kept(Dropout(0.25, 3, *keys), 24) / 0.75
    found = chatglm_kernels.lora_linear(*map(device.from_numpy, (x, weight, bias, a, b)), 2.0,
                                        Dropout(0.25, 3, *map(device.from_numpy, keys)))
    x, weight, a, b = (array.astype(np.float64) for array in (x, weight, a, b))
    assert relative_error(device.to_numpy(found), x @ weight.T + bias + 2 * (x * mask) @ a.T @ b.T) <= 2e-6


def test_a_step_does_not_depend_on_its_pieces():
    """With dropout: a row's mask is known by its place in the step, not in the piece."""
    trained = []
    for most_tokens, multiple in ((10 ** 9, 1), (31, 1), (31, 16)):
        arguments = training("--lora_dropout", "0.3")
        arguments.lora = ChatGLMLora(LORA.rank, LORA.alpha, 0.3)
        steps = build_steps(arguments, model_of(arguments.lora, lora_arrays()))
        losses = [float(steps.train(pieces_of_step(ROWS, 2, 99, most_tokens, step_key(1, step), multiple), 0.01, True))
                  for step in (1, 2, 3, 4)]
        trained.append(losses)
    for other in trained[1:]:
        np.testing.assert_allclose(other, trained[0], rtol=1e-5)
    assert trained[0][0] != trained[0][1]


def logits_function(model):
    """Returns the slow, plain decoder's step: ids to the logits behind the last, the whole sequence anew."""
    def logits_of(ids):
        hidden, _ = model.transformer(converted(pack([ids]), device.from_numpy))
        return device.to_numpy(model.logits(hidden))[-1]
    return logits_of


def generation(*flags):
    arguments = chatglm_generation_arguments([*FLAGS, "--question", "x", *flags], "")
    arguments.card = CARD
    return arguments


CONTEXTS = [SEQUENCES[0], SEQUENCES[2][:5], [7]]


@pytest.mark.parametrize("flags", [(), ("--do_sample", "--top_p", "0.8", "--temperature", "1.5", "--seed", "5")])
def test_tokens_are_those_of_a_plain_decoder(flags):
    model = model_of(LORA, lora_arrays())
    searched, arguments = build_generation_model(model), generation("--max_target_length", "18", *flags)
    streamed, found = [], []
    found = generate(searched, CONTEXTS, arguments, [4, 0, 2], streamed.append)
    logits_of = logits_function(model)
    for context, prompt, answer in zip(CONTEXTS, [4, 0, 2], found):
        expected = []
        for place in range(18):
            logs = log_softmax(logits_of(context + expected).astype(np.float64))
            token = int(logs.argmax())
            if arguments.do_sample:
                token = sampled(logs, 0.8, 1.5, drawn(5, prompt, place))
            if token == 2:
                break
            expected.append(token)
        assert answer == expected
    assert streamed == found[0]


def test_beams_are_those_of_a_plain_search():
    model = model_of(LORA, lora_arrays())
    settings = SearchSettings(3, 10, 0.8, 2, eos_token_id=(2,))
    found, _ = search(build_generation_model(model), CONTEXTS, settings)
    assert [output.tolist() for output in found] == [plain_search(logits_function(model), context, settings)[0]
                                                     for context in CONTEXTS]


@pytest.fixture
def files(tmp_path):
    """A configuration file for a short training of chatglm2-nano with random weights."""
    for split, rows in make_rows(1, {"train": 24, "dev": 4}).items():
        write_json_lines(tmp_path / f"{split}.json", rows)
    configuration = {"model_name_or_path": "random", "model_card": "chatglm2.nano", "device": DEVICE,
                     "train_file": str(tmp_path / "train.json"), "validation_file": str(tmp_path / "dev.json"),
                     "output_dir": str(tmp_path / "out"), "do_train": True, "do_eval": True, "lora_r": 4,
                     "learning_rate": 0.01, "max_steps": 4, "logging_steps": 2, "save_steps": 2,
                     "per_device_train_batch_size": 1, "gradient_accumulation_steps": 6, "max_eval_samples": None,
                     "predict_with_generate": False}
    (tmp_path / "config.json").write_text(json.dumps(configuration))
    return tmp_path


def test_programs(files, capsys):
    """A training, one that starts from its weights, and answers with them."""
    chatglm2_ft.main([str(files / "config.json")])
    output = capsys.readouterr().out
    assert "{'loss': " in output and "'learning_rate': 0.005, 'epoch': 0.5}" in output and "train_loss" in output
    out = files / "out"
    assert {path.name for path in out.iterdir()} == {"model.2.safetensors", "model.4.safetensors", "train_log.jsonl",
                                                     "train_summary.json"}
    records = [json.loads(line) for line in (out / "train_log.jsonl").read_text().splitlines()]
    assert [record["kind"] for record in records] == ["train", "train", "validation"]
    assert records[1]["avg_loss"] < records[0]["avg_loss"] < 9

    lora = ["--lora_checkpoint", str(out / "model.4.safetensors")]
    with pytest.raises(UserError, match="holds another training's"):
        chatglm2_ft.main([*FLAGS, "--train_file", str(files / "train.json"), "--output_dir", str(out)])
    chatglm2_ft.main([*FLAGS, *lora, "--train_file", str(files / "train.json"), "--output_dir", str(files / "more"),
                      "--lora_r", "4", "--max_steps", "1", "--gradient_accumulation_steps", "1"])
    assert (files / "more" / "model.5.safetensors").is_file()
    capsys.readouterr()

    chatglm2_generate.main([*FLAGS, *lora, "--test_file", str(files / "dev.json"), "--output_file",
                            str(files / "answers.jsonl"), "--max_target_length", "5", "--batch_size", "3"])
    answers = [json.loads(line) for line in (files / "answers.jsonl").read_text().splitlines()]
    assert len(answers) == 4 and all(set(row) == {"question", "reference", "prediction"} for row in answers)
    summary = json.loads((files / "answers.jsonl.summary.json").read_text())
    assert set(summary["scores"]) == {"bleu-4", "rouge-1", "rouge-2", "rouge-l"} and summary["prompts"] == 4
    capsys.readouterr()

    chatglm2_generate.main([*FLAGS, *lora, "--question", answers[0]["question"], "--max_target_length", "5"])
    assert capsys.readouterr().out.rstrip("\n") == answers[0]["prediction"]
