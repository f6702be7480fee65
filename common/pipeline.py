"""The stages from raw data to a score table, each run only where its result is not there already.

A stage is one command. It leaves a stamp with its words and the hashes of what it read and wrote; while those still
hold, the stage is skipped. So a run that was cut off goes on where it stopped, and a changed flag or file reruns what
depends on it.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from common.arguments import flags_of_beam, flags_of_training
from common.errors import UserError
from common.files import sha256_of, write_json
from common.model_cards import MODEL_CARDS
from common.tasks import PRESETS, TASKS, as_words, beam_flags, training_flags

ROOT = Path(__file__).resolve().parent.parent
FRAMEWORKS = ("pytorch", "jittor")
STAGES = ("data", "train", "beam", "decode", "score", "report")


@dataclass(frozen=True)
class Command:
    """One step of a stage.

    Attributes:
        name: of its stamp.
        words: program and arguments.
        folder: working directory.
        inputs, outputs: files that decide whether it must run.
        log: file that gets what it prints, besides the terminal.
    """

    name: str
    words: list
    folder: Path
    inputs: list
    outputs: list
    log: Path


def interpreter(framework):
    """Returns the Python of a framework's environment: PYTHON_PYTORCH or PYTHON_JITTOR, or the one setup made."""
    chosen = os.environ.get(f"PYTHON_{framework.upper()}")
    return chosen or ROOT / f".venv_{framework}" / "bin" / "python"


def relative(word, folder):
    """Returns a path inside the project as seen from ``folder``, where data/ and others are linked; else as text."""
    if not isinstance(word, Path) or not word.is_relative_to(ROOT):
        return str(word)
    inside = word.relative_to(ROOT)
    return str(inside) if (folder / inside.parts[0]).exists() else os.path.relpath(word, folder)


def is_done(command, stamp):
    """Tells whether a stamp still describes the command and the files."""
    try:
        record = json.loads(stamp.read_text(encoding="utf-8"))
        return (record["words"] == command.words
                and record["files"] == {str(path): sha256_of(path) for path in command.inputs + command.outputs})
    except (OSError, ValueError, KeyError):
        return False


def run_command(command, stamps, force):
    """Runs a command unless its stamp holds.

    Raises:
        UserError: it failed; the message names its log.
    """
    stamp = stamps / f"{command.name}.json"
    if not force and is_done(command, stamp):
        print(f"[{command.name}] done before: {', '.join(str(path) for path in command.outputs[:2])}", flush=True)
        return
    stamp.unlink(missing_ok=True)
    print(f"[{command.name}] {shlex.join(command.words)}", flush=True)
    command.log.parent.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    with open(command.log, "w", encoding="utf-8") as log:
        log.write(f"$ cd {os.path.relpath(command.folder, ROOT)} && {shlex.join(command.words)}\n")
        process = subprocess.Popen(command.words, cwd=command.folder, stdout=subprocess.PIPE, text=True,
                                   encoding="utf-8", errors="replace", env={**os.environ, "PYTHONUNBUFFERED": "1"})
        for line in process.stdout:
            sys.stdout.write(line)
            sys.stdout.flush()
            log.write(line)
        status = process.wait()
    if status != 0:
        raise UserError(f"the stage {command.name} ended with exit status {status}; what it printed is in "
                        f"{command.log}")
    absent = [path for path in command.outputs if not os.path.exists(path)]
    if absent:
        raise UserError(f"the stage {command.name} did not write {absent[0]}; what it printed is in {command.log}")
    write_json(stamp, {"words": command.words, "seconds": time.perf_counter() - started,
                       "files": {str(path): sha256_of(path) for path in command.inputs + command.outputs}})


class Run:
    """The folders and flags of one run of a task."""

    def __init__(self, options, train_overrides, beam_overrides):
        self.options = options
        self.task, self.preset = TASKS[options.task], PRESETS[options.preset]
        self.card = MODEL_CARDS[options.model_card or self.preset.model_card]
        self.frameworks = FRAMEWORKS if options.framework == "both" else (options.framework,)
        default = ROOT / "work" / options.task / f"{options.preset}-{self.card.name.replace('gpt2.', 'gpt2-')}"
        self.work = Path(options.work_dir).resolve() if options.work_dir else default
        sources = {"demo": ROOT / "data" / "demo", "sampled": ROOT / "data" / self.task.folder / "sampled",
                   "paper": ROOT / "data" / self.task.folder}
        self.data = sources[options.preset]
        self.backbone = ROOT / "pretrained_checkpoints" / self.card.folder / "model.safetensors"
        self.training = {**training_flags(self.task, self.preset, self.card.name), **train_overrides}
        self.beam = {**beam_flags(self.task, self.preset), **beam_overrides}

    def data_commands(self):
        """The raw data to encoded rows, and the backbone where it is not there yet."""
        python, options = interpreter(self.frameworks[0]), self.options
        made = [self.data / f"{split}{end}" for split in ("train", "valid", "test")
                for end in (".jsonl", "_formatted.jsonl")]

        def command(name, words, inputs, outputs):
            return Command(name, [relative(word, ROOT) for word in words], ROOT, inputs, outputs,
                           self.work / f"{name}.log")

        if options.preset == "demo":
            yield command("demo_data", [python, "scripts/make_demo_data.py"], [], made)
        else:
            full = ROOT / "data" / self.task.folder
            source = ["--source", os.path.relpath(options.source, ROOT)] if options.source else []
            complete = [full / path.name for path in made]
            yield command("data", [python, "scripts/create_datasets.py", self.task.data_name, *source], [], complete)
            if options.preset == "sampled":
                yield command("sample", [python, "scripts/sample_datasets.py", "--datasets", self.task.data_name,
                                         "--unit", options.unit], complete, made)
        if self.card.name != "gpt2.nano":
            yield command("backbone", [python, "scripts/download_pretrained_checkpoints.py", self.card.folder], [],
                          [self.backbone])

    def commands(self, framework, stage):
        """The commands of one stage of one framework."""
        work, tree = self.work / framework, ROOT / f"NLG_{framework}"
        python = interpreter(framework)
        summary = work / "train_summary.json"
        predictions, formatted = work / "predict.jsonl", self.data / "test_formatted.jsonl"
        device = ["--device", self.options.device]

        def command(name, words, inputs, outputs):
            return Command(name, [relative(word, tree) for word in [python, *words]], tree, inputs, outputs,
                           work / f"{name}.log")

        if stage == "train":
            train, valid = self.data / "train.jsonl", self.data / "valid.jsonl"
            yield command("train", ["src/gpt2_ft.py", "--train_data", train, "--valid_data", valid, "--model_card",
                                    self.card.name, "--init_checkpoint", self.backbone, "--work_dir", work, *device,
                                    *as_words(self.training)], [train, valid, self.backbone], [summary])
        if stage == "beam":
            checkpoint = work / os.path.basename(json.loads(summary.read_text(encoding="utf-8"))["checkpoint"])
            test = self.data / "test.jsonl"
            yield command("beam", ["src/gpt2_beam.py", "--data", test, "--model_card", self.card.name,
                                   "--init_checkpoint", self.backbone, "--lora_checkpoint", checkpoint, "--work_dir",
                                   work, "--output_file", predictions.name, *device, *as_words(self.beam)],
                          [test, self.backbone, checkpoint], [predictions])
        for name, references in self.reference_sets().items():
            folder = work / name
            reference_file, prediction_file = folder / "references.txt", folder / "predictions.txt"
            if stage == "decode":
                yield command(f"decode_{name}", [
                    "src/gpt2_decode.py", "--vocab", ROOT / "vocab", "--sample_file", predictions, "--input_file",
                    formatted, "--reference_file", references, "--output_ref_file", reference_file,
                    "--output_pred_file", prediction_file], [predictions, formatted, references],
                    [reference_file, prediction_file])
            if stage == "score":
                yield command(f"score_{name}", ["eval/e2e/measure_scores.py", reference_file, prediction_file, "-p",
                                                "--json", folder / "scores.json"],
                              [reference_file, prediction_file], [folder / "scores.json"])

    def reference_sets(self):
        """``{name: formatted file}`` of the references that predictions are scored against."""
        sets = {"all_references": self.data / "test_formatted.jsonl"}
        if self.options.preset == "sampled" and self.options.unit == "line":
            sets = {"all_references": ROOT / "data" / self.task.folder / "test_formatted.jsonl",
                    "sampled_references": self.data / "test_formatted.jsonl"}
        return sets


def parse(argv):
    """Parses the driver's options and sorts the other flags by the program that takes them."""
    parser = argparse.ArgumentParser(
        prog="run_task", allow_abbrev=False, formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        description="From data to a score table.",
        epilog="Any flag of src/gpt2_ft.py or src/gpt2_beam.py may be given too, such as --lr 0.001 --max_epoch 2 "
               "--beam 4; --seq_len, --lora_dim, --lora_alpha, --lora_targets, --random_seed, --tf32, --bf16 "
               "and --fp16 go to both.")
    parser.add_argument("task", choices=list(TASKS))
    parser.add_argument("--framework", default="both", choices=[*FRAMEWORKS, "both"])
    parser.add_argument("--preset", default="demo", choices=list(PRESETS))
    parser.add_argument("--model_card", default=None, choices=list(MODEL_CARDS), help="by default the preset's")
    parser.add_argument("--source", default=None, help="folder with the raw data sets; by default they are downloaded")
    parser.add_argument("--unit", default="line", choices=["line", "mr"], help="what --preset sampled samples")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--work_dir", default=None, help="by default work/TASK/PRESET-MODEL")
    parser.add_argument("--stages", default=",".join(STAGES), help="which to run, comma-separated")
    parser.add_argument("--force", action="store_true", help="rerun stages that are done")
    options, rest = parser.parse_known_args(argv)
    unknown = [stage for stage in options.stages.split(",") if stage not in STAGES]
    if unknown:
        raise UserError(f"--stages {options.stages}: {unknown[0]!r} is none of {','.join(STAGES)}")
    train, rest_of_train = flags_of_training(rest)
    beam, rest_of_beam = flags_of_beam(rest)
    foreign = [word for word in rest_of_train if word.startswith("--") and word in rest_of_beam]
    if foreign or (rest and not rest[0].startswith("--")):
        parser.error(f"no such flag: {(foreign or rest)[0]}; src/gpt2_ft.py --help and src/gpt2_beam.py --help list "
                     "the flags that this program hands on")
    return options, train, beam


def main(argv):
    """Runs the chosen stages."""
    from common.report import write_report

    options, train, beam = parse(argv)
    run = Run(options, train, beam)
    chosen = options.stages.split(",")
    started = time.perf_counter()
    if "data" in chosen:
        for command in run.data_commands():
            run_command(command, run.work / "stamps", options.force)
    for framework in run.frameworks:
        for stage in ("train", "beam", "decode", "score"):
            if stage in chosen:
                for command in run.commands(framework, stage):
                    run_command(command, run.work / framework / "stamps", options.force)
    if "report" in chosen:
        write_report(run)
    print(f"{', '.join(chosen)}: {(time.perf_counter() - started) / 60:.1f} minutes; results in "
          f"{os.path.relpath(run.work)}")
