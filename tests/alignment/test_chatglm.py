"""Both trees' ChatGLM2 compute the same: a hundred training steps with dropout, and answers of one checkpoint."""

import json

import numpy as np
import pytest

from common.demo.advertising import make_rows
from common.files import read_json_lines, write_json_lines
from common.frameworks import FRAMEWORKS
from common.model.chatglm_cards import CHATGLM_CARDS
from common.model.weight_files import read_arrays
from common.paths import PRETRAINED

pytestmark = pytest.mark.slow
STEPS = 100
NANO = PRETRAINED / CHATGLM_CARDS["chatglm2.nano"].folder
TRAINING = {"model_name_or_path": str(NANO), "model_card": "chatglm2.nano", "device": "cpu", "lora_r": 8,
            "lora_dropout": 0.1, "learning_rate": 0.001, "warmup_steps": 20, "max_steps": STEPS,
            "gradient_accumulation_steps": 2, "per_device_train_batch_size": 2, "logging_steps": 1, "save_steps": STEPS}


@pytest.fixture(scope="module")
def trained(run_tree, tmp_path_factory):
    """Work directories after a hundred steps from the same seed, and the file of test rows."""
    folder = tmp_path_factory.mktemp("chatglm")
    for split, rows in make_rows(4, {"train": 120, "test": 12}).items():
        write_json_lines(folder / f"{split}.json", rows)
    for framework in FRAMEWORKS:
        (folder / f"{framework}.json").write_text(json.dumps({
            **TRAINING, "train_file": str(folder / "train.json"), "output_dir": str(folder / framework)}))
        run_tree(framework, "src/chatglm2_ft.py", folder / f"{framework}.json")
    return folder


def test_losses_agree_at_every_step(trained):
    torch, jittor = ([record["loss"] for _, record in read_json_lines(trained / framework / "train_log.jsonl")
                      if record["kind"] == "train"] for framework in FRAMEWORKS)
    assert len(torch) == STEPS and np.mean(torch[-10:]) < 0.7 * np.mean(torch[:10])
    np.testing.assert_allclose(torch, jittor, rtol=5e-6)


def test_trained_weights_agree(trained):
    torch, jittor = (read_arrays(trained / framework / f"model.{STEPS}.safetensors") for framework in FRAMEWORKS)
    assert torch.keys() == jittor.keys()
    for name, array in torch.items():
        assert np.abs(array - jittor[name]).max() <= 1e-3 * np.abs(array).max(), name


@pytest.mark.parametrize("flags", [(), ("--do_sample",), ("--num_beams", "3")], ids=["greedy", "sampled", "beam"])
def test_answers_are_equal(flags, trained, run_tree):
    """One checkpoint, that of the Jittor tree, read by both."""
    answers = []
    for framework in FRAMEWORKS:
        output = trained / f"answers_{framework}{'_'.join(flags)}.jsonl"
        run_tree(framework, "src/chatglm2_generate.py", "--model_name_or_path", NANO, "--model_card", "chatglm2.nano",
                 "--lora_checkpoint", trained / "jittor" / f"model.{STEPS}.safetensors", "--test_file",
                 trained / "test.json", "--output_file", output, "--max_target_length", "40", "--device", "cpu", *flags)
        answers.append([record["prediction"] for _, record in read_json_lines(output)])
    assert answers[0] == answers[1] and len(set(answers[0])) > 3
