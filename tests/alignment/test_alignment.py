"""Both trees compute the same: logits, a hundred training steps, beam search, and each other's checkpoints."""

import json

import numpy as np
import pytest

from common.files import read_json_lines
from common.frameworks import FRAMEWORKS
from common.model.model_cards import MODEL_CARDS
from common.model.weight_files import read_arrays
from tests.alignment.programs import check_trained_in_fp64

pytestmark = pytest.mark.slow
STEPS = 100
TRAINING = ["--model_card", "gpt2.nano", "--train_batch_size", "4", "--lr", "0.001", "--warmup_step", "20",
            "--correct_bias", "--adam_beta2", "0.999", "--label_smooth", "0.1", "--lora_dropout", "0.1", "--clip",
            "1.0", "--log_interval", "1", "--device", "cpu"]

LOGITS = """
import sys
sys.path.insert(0, "src")
{imports}
import device
import numpy as np
from model import GPT2LMModel
from common.run.batching import converted, pack
from common.model.model_cards import MODEL_CARDS
from common.model.weight_files import read_arrays
device.set_up("cpu", 1, "fp32")
card = MODEL_CARDS["gpt2.nano"]
model = GPT2LMModel(card)
model.load_arrays(read_arrays(sys.argv[1]))
ids = np.load(sys.argv[2])
hidden, _ = model.transformer(converted(pack(ids.tolist()), device.from_numpy))
np.save(sys.argv[3], device.to_numpy(model.logits(hidden)))
"""


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_logits_of_nano_equal_those_of_transformers(framework, run_tree, nano, tmp_path):
    torch = pytest.importorskip("torch", reason="an oracle of the PyTorch environment")
    from transformers import GPT2Config, GPT2LMHeadModel

    card = MODEL_CARDS["gpt2.nano"]
    reference = GPT2LMHeadModel(GPT2Config(n_positions=card.positions, n_embd=card.width, n_layer=card.layers,
                                           n_head=card.heads)).eval()
    weights = {name: torch.from_numpy(array) for name, array in read_arrays(nano).items()}
    missing, unexpected = reference.load_state_dict(weights, strict=False)
    assert missing == ["lm_head.weight"] and not unexpected
    ids = np.random.RandomState(0).randint(0, card.vocabulary, (3, 40)).astype(np.int32)
    with torch.no_grad():
        expected = reference(torch.from_numpy(ids).long()).logits.numpy().reshape(-1, card.vocabulary)
    np.save(tmp_path / "ids.npy", ids)
    imports = "import jittor_setup" if framework == "jittor" else ""
    run_tree(framework, "-c", LOGITS.format(imports=imports), nano, tmp_path / "ids.npy", tmp_path / "logits.npy")
    assert np.abs(np.load(tmp_path / "logits.npy") - expected).max() <= 1e-4


def data_of(demo, nano):
    """Returns the flags that name what a training run reads."""
    return ["--train_data", demo / "train.jsonl", "--valid_data", demo / "valid.jsonl", "--init_checkpoint", nano]


@pytest.fixture(scope="module")
def trained(run_tree, demo, nano, tmp_path_factory):
    """Work directories after a hundred steps from the same seed, with dropout."""
    folders = {}
    for framework in FRAMEWORKS:
        folders[framework] = tmp_path_factory.mktemp(framework)
        run_tree(framework, "src/gpt2_ft.py", *data_of(demo, nano), *TRAINING, "--max_step", STEPS, "--save_interval",
                 50, "--work_dir", folders[framework])
    return folders


def test_losses_agree_over_a_hundred_steps(trained):
    records = {framework: [record for _, record in read_json_lines(folder / "train_log.jsonl")]
               for framework, folder in trained.items()}
    losses = {framework: [record["loss"] for record in found if record["kind"] == "train"]
              for framework, found in records.items()}
    assert len(losses["pytorch"]) == STEPS
    np.testing.assert_allclose(losses["jittor"], losses["pytorch"], rtol=5e-6)
    validation = [[record["loss"] for record in found if record["kind"] == "validation"] for found in records.values()]
    np.testing.assert_allclose(validation[1], validation[0], rtol=5e-6)
    assert losses["pytorch"][-1] < losses["pytorch"][0]


def test_in_fp64_no_loss_differs_and_hardly_a_weight(run_tree, demo, tmp_path):
    found, few = [], tmp_path / "valid.jsonl"
    few.write_text("".join((demo / "valid.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)[:4]))
    for framework in FRAMEWORKS:
        folder = tmp_path / framework
        run_tree(framework, "src/gpt2_ft.py", *data_of(demo, "random"), *TRAINING, "--max_step", 6, "--fp64",
                 "--valid_data", few, "--work_dir", folder)
        records = [record for _, record in read_json_lines(folder / "train_log.jsonl")]
        found.append(([record["loss"] for record in records], read_arrays(folder / "model.6.safetensors")))
    (losses, weights), (other_losses, other_weights) = found
    assert len(losses) == 7 and losses != np.float32(losses).tolist()
    np.testing.assert_allclose(losses, other_losses, rtol=1e-12)
    check_trained_in_fp64(weights, other_weights)


def test_weights_agree_after_a_hundred_steps(trained):
    torch_arrays, jittor_arrays = (read_arrays(trained[framework] / f"model.{STEPS}.safetensors")
                                   for framework in FRAMEWORKS)
    assert set(torch_arrays) == set(jittor_arrays)
    for name, array in torch_arrays.items():
        # Rounding grows from step to step: to 9e-5 where this was measured.
        assert np.abs(jittor_arrays[name] - array).max() <= 1e-3 * np.abs(array).max(), name


@pytest.mark.parametrize("source", FRAMEWORKS)
def test_either_tree_decodes_either_checkpoint_to_the_same_tokens(source, trained, run_tree, demo, tmp_path):
    test = tmp_path / "test.jsonl"
    test.write_text("".join((demo / "test.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)[:40]))
    predictions = {}
    for framework in FRAMEWORKS:
        run_tree(framework, "src/gpt2_beam.py", "--data", test, "--model_card", "gpt2.nano", "--init_checkpoint",
                 trained[source] / f"model.{STEPS}.pt", "--work_dir", tmp_path, "--output_file", f"{framework}.jsonl",
                 "--beam", "5", "--eval_len", "40", "--length_penalty", "0.8", "--no_repeat_ngram_size", "4",
                 "--repetition_penalty", "1.1", "--eos_token_id", "628", "--device", "cpu")
        predictions[framework] = [record for _, record in read_json_lines(tmp_path / f"{framework}.jsonl")]
    assert len(predictions["pytorch"]) == 40
    assert predictions["pytorch"] == predictions["jittor"]


@pytest.mark.parametrize("launcher", [["torch.distributed.run", "--nproc_per_node=1"],
                                      ["torch.distributed.launch", "--use_env", "--nproc_per_node=1"]])
def test_under_a_launcher_training_is_the_same(launcher, trained, run_tree, demo, nano, tmp_path):
    run_tree("pytorch", "-m", *launcher, "src/gpt2_ft.py", *data_of(demo, nano), *TRAINING, "--max_step", 3,
             "--work_dir", tmp_path)
    first = [json.loads(line)["loss"] for line in (tmp_path / "train_log.jsonl").read_text().splitlines()][:2]
    alone = [record["loss"] for _, record in read_json_lines(trained["pytorch"] / "train_log.jsonl")][:2]
    assert first == pytest.approx(alone, rel=1e-6)


def test_the_same_seed_gives_the_same_run_with_dropout(run_tree, demo, nano, tmp_path):
    both = []
    for framework in FRAMEWORKS:
        losses = []
        for attempt in ("first", "second"):
            run_tree(framework, "src/gpt2_ft.py", *data_of(demo, nano), "--model_card", "gpt2.nano", "--max_step", 4,
                     "--train_batch_size", 2, "--lr", 0.01, "--lora_dropout", 0.3, "--log_interval", 1, "--work_dir",
                     tmp_path / framework / attempt, "--device", "cpu")
            log = tmp_path / framework / attempt / "train_log.jsonl"
            losses.append([record["loss"] for _, record in read_json_lines(log)])
        assert losses[0] == losses[1], framework
        both.append(losses[0])
    # Half of a batch of two rows with a third of their features dropped: one other mask would be a tenth of the loss.
    assert both[0] == pytest.approx(both[1], rel=1e-5)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("flags, sentence", [
    (["--tf32", "--device", "cpu"], "no tf32 products"), (["--device", "cuda"], "--device cuda")])
def test_a_device_that_cannot_do_it_is_refused_with_a_sentence(framework, flags, sentence, run_tree, demo, nano):
    result = run_tree(framework, "src/gpt2_ft.py", *data_of(demo, nano), "--model_card", "gpt2.nano", "--max_step", 2,
                      *flags, status=2)
    assert sentence in result.stderr and "Traceback" not in result.stderr
