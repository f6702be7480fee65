"""run_chatglm2.sh: the words of its stages, flags that are refused, and the report over made-up results."""

import pytest

from common.demo.advertising import write_advertisements
from common.drivers.chatglm_pipeline import CHATGLM_PRESETS, ChatGLMRun, parse
from common.drivers.chatglm_report import same_answers, write_chatglm_report
from common.drivers.commands import digest_of, files_of
from common.errors import UserError
from common.files import read_json, write_json, write_json_lines
from common.frameworks import FRAMEWORKS
from common.metrics.chinese import NAMES
from common.run.chatglm_arguments import chatglm_training_arguments


def run_of(*words):
    return ChatGLMRun(*parse(list(words)))


def words_of(run, stage, framework="jittor"):
    (command,) = run.commands(framework, stage)
    return command.words[1:]


def value_of(words, flag):
    return words[words.index(flag) + 1]


def test_the_words_of_the_stages(tmp_path):
    run = run_of("--work_dir", str(tmp_path), "--lora_r", "8", "--num_beams", "3", "--max_target_length", "50")
    words = words_of(run, "train")
    assert words[0] == "src/chatglm2_ft.py" and value_of(words, "--lora_r") == "8"
    assert value_of(words, "--train_file") == "data/demo/advertisegen/train.json"
    assert value_of(words, "--validation_file") == "data/demo/advertisegen/dev.json"
    assert value_of(words, "--model_name_or_path") == "pretrained_checkpoints/chatglm2-nano"
    assert value_of(words, "--max_target_length") == "50" and "--num_beams" not in words
    with pytest.raises(UserError, match="run the stage train first"):
        words_of(run, "generate")
    write_json(tmp_path / "jittor" / "train_summary.json", {"checkpoint": "elsewhere/model.40.safetensors"})
    words = words_of(run, "generate")
    assert value_of(words, "--lora_checkpoint") == str(tmp_path / "jittor" / "model.40.safetensors")
    assert value_of(words, "--test_file") == "data/demo/advertisegen/test.json"
    assert value_of(words, "--num_beams") == "3" and value_of(words, "--max_target_length") == "50"
    assert "--lora_r" not in words


def test_the_real_data_set(tmp_path):
    write_advertisements(tmp_path, 1)
    run = run_of("--preset", "adgen", "--source", str(tmp_path), "--bf16", "false", "--model_name_or_path", "random")
    words = words_of(run, "train")
    assert value_of(words, "--train_file") == str(tmp_path / "train.json") and "--validation_file" not in words
    assert "--bf16=false" in words and value_of(words, "--model_card") == "chatglm2.6b"
    assert value_of(words, "--model_name_or_path") == "random" and value_of(words, "--learning_rate") == "2e-05"
    assert list(run.data_commands()) == []


@pytest.mark.parametrize("words, sentence", [
    (["--output_dir", "x"], "--output_dir: the driver decides it; for others run src/chatglm2_ft.py"),
    (["--preset", "adgen"], "--preset adgen needs --source DIR, the folder with train.json and dev.json"),
    (["--stages", "train,beam"], "'beam' is none of data,train,generate,report"),
    (["--lora_rank", "3"], r"--lora_rank: no such name; did you mean --lora_r\?"),
    (["--fp64"], "--fp64: ChatGLM2 is computed in fp32, tf32, bf16 and fp16 alone"),
    (["train"], "'train': expected flags")])
def test_flags_that_are_refused(words, sentence):
    with pytest.raises(UserError, match=sentence):
        run_of(*words)


def test_each_preset_can_be_checked(tmp_path):
    for name in CHATGLM_PRESETS:
        run_of("--preset", name, "--source", str(tmp_path)).check_flags()
    with pytest.raises(UserError, match="--lora_r 0: expected at least 1"):
        run_of("--lora_r", "0").check_flags()


def write_results(run, framework, score):
    """Writes what the stages of one framework write, and their stamps."""
    folder = run.work / framework
    arguments = chatglm_training_arguments(["--model_name_or_path", "x", "--train_file", "x", "--output_dir",
                                            str(folder)], "")
    write_json(folder / "train_summary.json", {
        "framework": framework, "version": "1", "device": "CPU", "precision": "fp32", "steps": 40, "epochs": 2,
        "valid_loss": 1.5, "seconds": 60.0, "step_ms": 5.0, "peak_memory_bytes": 1 << 30,
        "checkpoint": "model.40.safetensors",
        "arguments": {name: value for name, value in vars(arguments).items() if name not in ("card", "lora")}})
    (folder / "model.40.safetensors").write_text("weights")
    write_json_lines(folder / "train_log.jsonl", [{"kind": "train", "step": 20, "avg_loss": 2.0},
                                                  {"kind": "validation", "step": 40, "loss": 1.5}])
    write_json_lines(folder / "answers.jsonl", [{"question": "问", "reference": "答", "prediction": text}
                                                for text in ("答", framework)])
    write_json(folder / "answers.jsonl.summary.json", {
        "rows": 2, "prompts": 1, "seconds": 2.0, "peak_memory_bytes": 1 << 29, "scores": dict.fromkeys(NAMES, score)})
    for stage in run.stages:
        for command in run.commands(framework, stage):
            files = {name: digest_of(path) for name, path in files_of(command).items()}
            write_json(folder / "stamps" / f"{command.name}.json", {"words": command.words, "files": files})


@pytest.fixture
def finished(tmp_path):
    write_advertisements(tmp_path, 1)
    run = run_of("--work_dir", str(tmp_path / "work"), "--model_name_or_path", "random")
    run.data = tmp_path
    for framework, score in zip(FRAMEWORKS, (12.5, 13.0)):
        write_results(run, framework, score)
    return run


def test_the_report(finished, capsys):
    write_chatglm_report(finished)
    table = (finished.work / "table.md").read_text()
    assert "| BLEU-4 | 12.50 | 13.00 | +0.5000 |" in table and "| Rouge-L | 12.50 |" in table
    assert "Both frameworks give the same text for 50.00% of the rows" in table
    assert "LoRA of rank 32 and alpha 16 on query_key_value" in table and "  - reference: 答" in table
    assert read_json(finished.work / "results.json")["same_answers"] == 0.5
    assert (finished.work / "loss.png").stat().st_size > 1000
    assert "| validation loss | 1.5000 |" in capsys.readouterr().out


def test_reports_that_are_refused(finished):
    path = finished.work / "jittor" / "answers.jsonl"
    path.write_text("")
    with pytest.raises(UserError, match="answers.jsonl: has changed since the stage generate ended"):
        write_chatglm_report(finished)
    with pytest.raises(UserError, match="holds 0 rows, but 2 were answered"):
        same_answers(finished.work, {"jittor": {"test": {"rows": 2}}})
