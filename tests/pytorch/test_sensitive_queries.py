"""sensitive_queries.py finds a step and its queries, on a training of the demo's events."""

import sys

import pytest

from common.demo.events import write_events
from common.files import read_json
from common.model.bert_files import package_folder
from common.run.event_arguments import event_training_arguments
from common.run.progress import Progress
from common.run.state import State, write_state
from scripts.maintain import sensitive_queries

import bert_eae_ft
import device


def test_it_names_a_step_and_a_query(tmp_path, monkeypatch):
    if package_folder() is None:
        pytest.skip("the package with MiniLM's weights is not installed: run scripts/setup.sh")
    monkeypatch.setattr(sys, "path", list(sys.path))  # the script adds the tree's folder
    write_events(tmp_path, 1)
    flags = ["--train_data", str(tmp_path / "train.json"), "--valid_data", str(tmp_path / "dev.json"), "--questions",
             str(tmp_path / "arg_queries_stage1.csv"), "--work_dir", str(tmp_path / "work"), "--device", "cpu",
             "--max_step", "30", "--train_batch_size", "4", "--lr", "0.001", "--lora_dim", "4"]
    arguments = event_training_arguments(flags, "")
    device.set_up("cpu", 1, "fp32")
    steps = bert_eae_ft.build_steps(arguments, bert_eae_ft.build_model(
        arguments, bert_eae_ft.first_event_weights(arguments)))
    write_state(tmp_path, State(Progress(step=7), "pytorch", {}, 0, [], steps.state()), 1)
    words = ["--state", str(tmp_path / "state.7.safetensors"), "--output", str(tmp_path / "found.json")]
    assert sensitive_queries.main([*words, "--gap", "1", "--steps", "1", "--", *flags]) == 1  # they do not part
    assert not (tmp_path / "found.json").exists()
    assert sensitive_queries.main([*words, "--gap", "1e-9", "--", *flags]) == 0
    found = read_json(tmp_path / "found.json", dict)
    assert found["state"] == 7 and 8 <= found["step"] <= 30 and 1e-9 < found["gap"] < 1e-5
    apart = [query["gradients_apart"] for query in found["queries"]]
    assert len(apart) == 4 and 0 < max(apart) < 1e-3 and apart[found["worst_query"]] == max(apart)
    assert len(found["layers"]) == 6 and all(0 < layer["worst_query"] < 1e-2 for layer in found["layers"])
