"""run_eae.sh: the words of its stages, flags that are refused, and the report over made-up results."""

import json

import pytest

from common.data.span_counts import MEASURES
from common.drivers.commands import digest_of, files_of
from common.drivers.event_pipeline import EventRun, parse
from common.drivers.event_report import same_answers, write_event_report
from common.drivers.event_tasks import EVENT_PRESETS
from common.errors import UserError
from common.files import read_json, write_json, write_json_lines
from common.frameworks import FRAMEWORKS
from common.metrics.events import PARTS, metric_name
from tests.common.data.event_cases import write_phee, write_rams


def run_of(*words):
    return EventRun(*parse(list(words)))


def words_of(run, stage, framework="jittor"):
    (command,) = run.commands(framework, stage)
    return command.words[1:]


def value_of(words, flag):
    return words[words.index(flag) + 1]


def test_the_words_of_training(tmp_path):
    words = words_of(run_of("--preset", "phee", "--work_dir", str(tmp_path), "--lora_dim", "8"), "train")
    assert words[0] == "src/bert_eae_ft.py" and value_of(words, "--train_data") == "data/phee/train.json"
    assert words[words.index("--questions") + 1:][:2] == ["data/phee/arg_queries_stage1.csv",
                                                         "data/phee/arg_queries_stage2.csv"]
    assert value_of(words, "--lr") == "0.0003" and value_of(words, "--max_epoch") == "20"
    assert value_of(words, "--lora_dim") == "8"
    assert value_of(words, "--warmup_share") == "0.06"
    everything = words_of(run_of("--work_dir", str(tmp_path), "--lora_dim", "0"), "train")
    assert value_of(everything, "--lr") == "0.0001" and value_of(everything, "--max_epoch") == "2"  # the demo's
    of_phee = words_of(run_of("--preset", "phee", "--work_dir", str(tmp_path), "--lora_dim", "0"), "train")
    assert value_of(of_phee, "--lr") == "2.5e-05" and value_of(of_phee, "--max_epoch") == "10"
    assert value_of(of_phee, "--train_batch_size") == "16" and value_of(of_phee, "--label_smooth") == "0.1"
    slow = words_of(run_of("--work_dir", str(tmp_path), "--lora_dim", "0", "--lr", ".5", "--warmup_step", "3"), "train")
    assert value_of(slow, "--lr") == "0.5" and "--warmup_share" not in slow


def test_the_words_of_rams(tmp_path):
    write_rams(tmp_path)
    run = run_of("--preset", "rams", "--source", str(tmp_path), "--work_dir", str(tmp_path / "work"))
    words = words_of(run, "train")
    assert value_of(words, "--format") == "rams" and value_of(words, "--model_card") == "bert.base"
    assert value_of(words, "--train_data") == str(tmp_path / "train.jsonlines")
    assert value_of(words, "--roles") == str(tmp_path / "event_role_multiplicities.txt")
    assert [command.name for command in run.data_commands()] == ["backbone"]
    with pytest.raises(UserError, match="--preset rams needs --source DIR, the folder with train.jsonlines"):
        run_of("--preset", "rams")


def test_the_words_behind_training(tmp_path):
    run = run_of("--work_dir", str(tmp_path), "--seed_argmax", "--tf32", "--init_checkpoint", "random")
    with pytest.raises(UserError, match="run the stage train first"):
        words_of(run, "predict")
    write_json(tmp_path / "jittor" / "train_summary.json", {"checkpoint": "elsewhere/model.40.safetensors"})
    words = words_of(run, "predict")
    assert value_of(words, "--checkpoint") == str(tmp_path / "jittor" / "model.40.safetensors")
    assert {"--seed_argmax", "--tf32"} < set(words) and value_of(words, "--init_checkpoint") == "random"
    words = words_of(run, "score")
    assert words[0] == "eval/events/measure_scores.py" and words[1] == "data/demo/events/test.json"


@pytest.mark.parametrize("words, message", [
    (["--train_data", "x"], "--train_data: the preset decides the data; for others run src/bert_eae_ft.py"),
    (["--format", "rams"], "--format: the preset decides"),
    (["--stages", "train,beam"], "'beam' is none of data,train,predict,score,report"),
])
def test_flags_that_are_refused(words, message):
    with pytest.raises(UserError, match=message):
        run_of(*words)


def test_a_flag_that_no_program_has(capsys):
    with pytest.raises(SystemExit):
        parse(["--beam", "3"])
    assert "no such flag: --beam" in capsys.readouterr().err
    with pytest.raises(UserError, match="--lr -1.0: expected at least 0"):
        run_of("--lr", "-1", "--init_checkpoint", "random").check_flags()


def test_each_preset_can_be_checked(tmp_path):
    for name in EVENT_PRESETS:
        source = ["--source", str(tmp_path)] if name == "rams" else []
        run_of("--preset", name, *source, "--init_checkpoint", "random", "--vocab", str(tmp_path)).check_flags()


def write_results(run, framework, arguments, f1=0.5, step=40):
    """Writes what the stages of one framework write, and their stamps."""
    folder = run.work / framework
    write_json(folder / "train_summary.json", {
        "framework": framework, "version": "1", "device": "CPU", "precision": "fp32", "steps": step, "epochs": 2,
        "valid_loss": 1.5, "seconds": 60.0, "step_ms": 5.0, "peak_memory_bytes": 1 << 30, "best_f1": 0.4,
        "checkpoint_bytes": 600_000, "checkpoint": f"model.{step}.safetensors", "arguments": arguments})
    (folder / f"model.{step}.safetensors").write_text("weights")
    write_json_lines(folder / "train_log.jsonl", [
        {"kind": "train", "step": 20, "avg_loss": 2.0}, {"kind": "validation", "step": 40, "loss": 1.5,
                                                         "scores": {"classification": {"f1": 0.4}}}])
    write_json_lines(folder / "predictions.jsonl", [
        {"arguments": [{"role": "Agent", "start": 4, "end": 4 + (framework == "jittor")}]}, {"arguments": []}])
    write_json(folder / "predictions.jsonl.summary.json", {"events": 2, "queries": 4, "seconds": 2.0})
    names = [metric_name(measure, part) for measure in MEASURES for part in PARTS]
    write_json(folder / "scores.json", {
        "scores": dict.fromkeys(names, f1), "intervals": dict.fromkeys(names, [f1 - 0.1, f1 + 0.1]),
        "roles": {"Agent": {"f1": f1, "gold": 3, "predicted": 2}, "Thing": {"f1": 0.0, "gold": 1, "predicted": 0}}})
    for stage in run.stages:
        for command in run.commands(framework, stage):
            files = {name: digest_of(path) for name, path in files_of(command).items()}
            write_json(folder / "stamps" / f"{command.name}.json", {"words": command.words, "files": files})


@pytest.fixture
def finished(tmp_path):
    for name in ("train.json", "dev.json", "test.json"):
        write_phee(tmp_path, name=name)
    run = run_of("--work_dir", str(tmp_path / "work"))
    run.data = tmp_path
    arguments = {**run.training, "lora_targets": "query,value", "heads": "trained"}
    for framework, f1 in zip(FRAMEWORKS, (0.5, 0.52)):
        write_results(run, framework, arguments, f1)
    return run


def test_the_report(finished, capsys):
    write_event_report(finished)
    table = (finished.work / "table.md").read_text()
    assert "| classification, F1 | 0.5000 [0.4000, 0.6000] | 0.5200 [0.4200, 0.6200] | +0.0200 |" in table
    assert "| Agent | 3 | 0.5000 | 0.5200 |" in table and "| checkpoint, MB | 0.6000 | 0.6000 | 0 |" in table
    assert "LoRA of rank 16 on query,value, heads trained, seed 110" in table
    # Of four queries one has different answers.
    assert "the same answer to 75.00% of the queries" in table
    document = read_json(finished.work / "results.json")
    assert document["same_predictions"] == 0.75
    assert (finished.work / "curves.png").stat().st_size > 1000 and (finished.work / "roles.png").stat().st_size > 1000
    assert "| validation F1, best epoch | 0.4000 |" in capsys.readouterr().out


def test_reports_that_are_refused(finished):
    path = finished.work / "jittor" / "predictions.jsonl"
    path.write_text(json.dumps({"arguments": []}) + "\n")
    with pytest.raises(UserError, match="predictions.jsonl: has changed since the stage predict ended"):
        write_event_report(finished)
    with pytest.raises(UserError, match="holds 1 events, but 2 were predicted"):
        same_answers(finished.work, {"jittor": {"test": {"events": 2, "queries": 4}}})
    (finished.work / "pytorch" / "scores.json").unlink()
    with pytest.raises(UserError, match="scores.json"):
        write_event_report(finished)
