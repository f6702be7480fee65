"""Stamps, logs, summaries and scores of other shapes: what a driver reads is checked, and what is wrong is named."""

import json
import os

import pytest

from common.drivers.commands import Command, check_done, why_again
from common.drivers.report import collect, read_log
from common.drivers.scoring_stages import ScoreSet
from common.drivers.tasks import TASKS
from common.errors import UserError
from common.files import sha256_of, write_json, write_json_lines
from common.paths import ROOT

HOSTILE = ["", "{", "[]", "{}", "3", "null", '"x"', "[" * 100_000, "7" * 5000, '{"files": []}',
           '{"words": "a", "files": {}}', '{"words": ["a"], "files": {"in": 3}}',
           '{"words": ["a"], "words": ["a"], "files": {}}', "\ufeff\ufeff{}"]


@pytest.fixture
def command(tmp_path):
    (tmp_path / "in").write_text("in")
    (tmp_path / "out").write_text("out")
    return Command("train", ["a"], tmp_path, [tmp_path / "in"], [tmp_path / "out"], tmp_path / "train.log")


def stamp_of(command, path):
    write_json(path, {"words": command.words, "seconds": 1.0,
                      "files": {os.path.relpath(file, ROOT): sha256_of(file) for file in
                                (*command.inputs, *command.outputs)}})


def test_a_stamp_that_holds(command, tmp_path):
    stamp_of(command, tmp_path / "stamp.json")
    assert why_again(command, tmp_path / "stamp.json") is None
    check_done(command, tmp_path / "stamp.json", tmp_path)
    (tmp_path / "out").unlink()
    assert why_again(command, tmp_path / "stamp.json").endswith("out is not there")


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: text[:20])
def test_a_stamp_of_another_shape_does_not_hold(command, tmp_path, text):
    stamp = tmp_path / "stamp.json"
    stamp.write_text(text)
    assert why_again(command, stamp).startswith(f"{stamp}: ")
    with pytest.raises(UserError, match=r"stamp\.json: "):
        check_done(command, stamp, tmp_path)


@pytest.mark.parametrize("line, sentence", [
    ("[]", "2: the JSON is a list, expected an object"), ('{"step": 1}', "2: the JSON has no 'kind'"),
    ('{"kind": "train", "step": 1}', "2: the JSON has no 'avg_loss'; it has 'kind', 'step'"),
    ('{"kind": "train", "step": 1, "avg_loss": NaN}', "2: cannot be read as JSON: NaN is no number"),
    ('{"kind": "validation", "step": 1, "loss": "low"}', '2: .loss is "low", expected a number'),
    ('{"kind": "validation", "step": null, "loss": 1}', "2: .step is null, expected an integer"),
    ('{"kind": "train", "step": 1, "avg_l', "2: cannot be read as JSON: Unterminated string"),
])
def test_a_log_line_of_another_shape_is_named(tmp_path, line, sentence):
    path = tmp_path / "train_log.jsonl"
    path.write_text('{"kind": "train", "step": 1, "avg_loss": 2}\n' + line + "\n")
    with pytest.raises(UserError) as error:
        read_log(path)
    assert f"{path}:{sentence}" in str(error.value)


SUMMARY = {"framework": "pytorch", "version": "1", "device": "CPU", "precision": "fp32", "steps": 8, "epochs": 1,
           "seconds": 60, "step_ms": None, "peak_memory_bytes": 2**30, "valid_loss": 2.25, "arguments": {}}
BEAM = {"rows": 1, "contexts": 1, "seconds": 2.0}
SCORING = TASKS["squad"].scoring
SCORES = {"scores": dict.fromkeys(SCORING.metrics, 50), "intervals": dict.fromkeys(SCORING.metrics, [40, 60])}
FILES = {"train_summary.json": SUMMARY, "predict.jsonl.summary.json": BEAM, "answers/scores.json": SCORES}


def collected(tmp_path):
    return collect(tmp_path, "pytorch", SCORING, [ScoreSet("answers", "", "all", tmp_path / "none")])


@pytest.fixture
def run(tmp_path):
    write_json_lines(tmp_path / "pytorch/train_log.jsonl", [{"kind": "train", "step": 8, "avg_loss": 2.5}])
    for name, record in FILES.items():
        write_json(tmp_path / "pytorch" / name, record)
    return tmp_path


def test_a_run_is_collected(run):
    numbers = collected(run)["numbers"]
    assert numbers["last training loss"] == 2.5 and numbers["validation loss"] == 2.25 and numbers["F1"] == 50
    assert numbers["training minutes"] == 1 and numbers["peak memory of training, GiB"] == 1


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("text", HOSTILE[:9], ids=lambda text: text[:20])
def test_a_damaged_summary_is_named(run, name, text):
    (run / "pytorch" / name).write_text(text)
    with pytest.raises(UserError, match=name):
        collected(run)


@pytest.mark.parametrize("name", FILES)
def test_every_member_that_a_report_needs_is_checked(run, name):
    path = run / "pytorch" / name
    for key in FILES[name]:
        for changed in ({other: value for other, value in FILES[name].items() if other != key},
                        {**FILES[name], key: [[]]}):
            path.write_text(json.dumps(changed))
            with pytest.raises(UserError, match=rf"{name}: .*\b{key}\b"):
                collected(run)
