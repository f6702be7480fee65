"""Runs the trainings and searches whose logs, tables and figures the repository shows, several at once on each GPU.

    python scripts/maintain/run_showcase.py --devices 0,1,2,3 --at_once 8 --minutes 9
    python scripts/maintain/run_showcase.py --stages decode,score,report,keep --only dart/seed110

The stage ``keep`` copies what has ended to ``log/NAME/``: a run of both frameworks as keep_run.py does, of the others
their logs and, where they decode, the predicted texts.

Each run is one of the drivers' with its own folder ``work/showcase/NAME``, so that one that was cut off goes on with
its next stage. The runs: every task at its preset's flags with three seeds (SQuAD with one), in both frameworks; for
each task its *noise floor*, PyTorch alone with the first values of the first ``lora_A`` one unit in the last place up;
what dropout and label smoothing cost; E2E at three times the rate, where training amplifies rounding, with its noise
floor; and a thousand steps of GPT-2 medium from random weights.
"""

import argparse
import sys
import time
from dataclasses import dataclass, field

import keep_run
import numpy as np

from common.drivers.commands import cleaned
from common.drivers.pipeline import STAGES
from common.drivers.side_by_side import add_options, run_all
from common.drivers.tasks import TASKS, as_words, training_flags
from common.errors import UserError, run_main
from common.files import atomic_write
from common.frameworks import FRAMEWORKS, interpreter
from common.model.checkpoint import new_record
from common.model.initial_weights import RANDOM
from common.model.lora_arrays import LoraSettings, initial_lora
from common.model.lora_file import save_lora
from common.model.model_cards import MODEL_CARDS
from common.paths import PRETRAINED, ROOT

WORK, LOG = ROOT / "work" / "showcase", ROOT / "log"
SEEDS = (110, 111, 112)
KEPT_OF_TRAINING = {name: name for name in ("train.log", "train_log.jsonl", "train_summary.json")}
KEPT_OF_DECODING = {"beam.log": "beam.log", "beam_summary.json": "predict.jsonl.summary.json"}
SCORE_FOLDERS = "all_references", "all_references_all", "answers"  # of the whole test set, by task
WITHOUT_NOISE = {"lora_dropout": 0, "label_smooth": 0}
PAST_THE_EDGE = {**WITHOUT_NOISE, "lr": 0.003}
MEDIUM = {"model_card": "gpt2.md", "init_checkpoint": RANDOM, "max_step": 1000, "log_interval": 10,
          "train_batch_size": 8}


@dataclass(frozen=True)
class ShowcaseRun:
    """One training and what follows it.

    Attributes:
        name: folder under work/showcase/.
        task: a key of TASKS.
        frameworks: which train.
        flags: in place of the preset's.
        is_nudged: whether it starts one unit in the last place apart.
        is_training_alone: whether nothing is decoded.
        is_control: whether it is there for its losses and texts alone, and is not scored.
    """

    name: str
    task: str
    frameworks: tuple[str, ...] = FRAMEWORKS
    flags: dict = field(default_factory=dict)
    is_nudged: bool = False
    is_training_alone: bool = False
    is_control: bool = False


def all_runs() -> list[ShowcaseRun]:
    """Returns the runs, the longest first."""
    runs = []
    for task in ("dart", "e2e", "squad", "webnlg"):
        runs += [ShowcaseRun(f"{task}/seed{seed}", task, flags={"random_seed": seed})
                 for seed in (SEEDS if task != "squad" else SEEDS[:1])]
        runs.append(ShowcaseRun(f"{task}/noise_floor", task, ("pytorch",), is_nudged=True, is_control=True))
        if task != "squad":
            runs.append(ShowcaseRun(f"{task}/without_dropout_and_smoothing", task, ("pytorch",), WITHOUT_NOISE,
                                    is_training_alone=True, is_control=True))
    runs += [ShowcaseRun("e2e/past_the_edge", "e2e", flags=PAST_THE_EDGE, is_control=True),
             ShowcaseRun("e2e/past_the_edge_noise_floor", "e2e", ("pytorch",), PAST_THE_EDGE, True, is_control=True),
             ShowcaseRun("e2e/medium", "e2e", flags=MEDIUM, is_training_alone=True, is_control=True),
             ShowcaseRun("e2e/medium_noise_floor", "e2e", ("pytorch",), MEDIUM, True, True, True)]
    return runs


def nudged_start(run: ShowcaseRun) -> str:
    """Writes a run's first LoRA weights, those of the first lora_A one unit in the last place up; returns the path."""
    task, card = TASKS[run.task], MODEL_CARDS[run.flags.get("model_card", "gpt2.nano")]
    flags = {**training_flags(task, "sampled", card.name), **run.flags}
    settings = LoraSettings(flags["lora_dim"], flags["lora_alpha"], 0.0,
                            tuple(flags.get("lora_targets", "q,v").split(",")))
    arrays = initial_lora(card, settings, flags["random_seed"])
    first = next(iter(arrays))
    arrays[first] = np.nextafter(arrays[first], np.float32(np.inf))
    backbone = run.flags.get("init_checkpoint") or PRETRAINED / card.folder / "model.safetensors"
    path = WORK / run.name / "nudged.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_lora(path, arrays, new_record(card, settings, backbone))
    return str(path)


def words_of(run: ShowcaseRun, framework: str, stages: list[str]) -> list[str] | None:
    """Returns the command of some stages of one framework of a run, or None where there is nothing to do."""
    folder, flags = WORK / run.name, dict(run.flags)
    if run.is_nudged:
        flags["lora_checkpoint"] = nudged_start(run)
    possible = ("train",) if run.is_training_alone else ("train", "beam", "decode") if run.is_control else STAGES
    stages = [stage for stage in stages if stage in possible and stage != "report"]
    if not stages:
        return None
    if flags.get("init_checkpoint") == RANDOM:  # the drivers want a file
        data = ROOT / "data" / TASKS[run.task].folder / "sampled"
        flags = {**training_flags(TASKS[run.task], "sampled", flags["model_card"]), **flags,
                 "train_data": data / "train.jsonl", "valid_data": data / "valid.jsonl",
                 "work_dir": folder / framework, "overwrite": True, "resume": True}
        return [str(interpreter(framework)), str(ROOT / f"NLG_{framework}/src/gpt2_ft.py"), *as_words(flags)]
    return [str(interpreter(framework)), "scripts/run_task.py", run.task, "--preset", "sampled", "--model_card",
            "gpt2.nano", "--framework", framework, "--work_dir", str(folder), "--stages", ",".join(stages),
            *as_words(flags)]


def report_words(run: ShowcaseRun) -> list[str]:
    """Returns the command of the report over all frameworks of a run."""
    framework = "both" if len(run.frameworks) > 1 else run.frameworks[0]
    return [sys.executable, "scripts/run_task.py", run.task, "--preset", "sampled", "--model_card", "gpt2.nano",
            "--framework", framework, "--work_dir", str(WORK / run.name), "--stages", "report", *as_words(run.flags)]


def keep(run: ShowcaseRun) -> None:
    """Copies a control's logs and predicted texts to log/, without what belongs to the machine.

    Raises:
        UserError: the run has not ended.
    """
    for framework in run.frameworks:
        source = WORK / run.name / framework
        names = {**KEPT_OF_TRAINING, **({} if run.is_training_alone else KEPT_OF_DECODING)}
        if not run.is_training_alone:
            predictions = TASKS[run.task].scoring.predictions
            whole = [folder for folder in SCORE_FOLDERS if (source / folder).is_dir()]
            names[predictions] = f"{whole[0]}/{predictions}" if whole else predictions
        if run.flags.get("init_checkpoint") == RANDOM:  # its program was started without a driver, which has a log
            names["train.log"] = f"../{framework}.log"
        for name, place in names.items():
            path = source / place
            if not path.is_file():
                raise UserError(f"{path}: is not there; run the stages before this one first")
            with atomic_write(LOG / run.name / framework / name) as file:
                file.write(cleaned(path.read_text(encoding="utf-8")))


def main(argv):
    """Runs what was asked for; returns 1 where something failed or was cut off."""
    parser = argparse.ArgumentParser(prog="run_showcase.py", description=__doc__.split("\n")[0])
    parser.add_argument("--stages", default="train,beam,decode,score,report,keep", help="comma-separated")
    parser.add_argument("--only", default="", help="runs whose name contains this; comma-separated")
    parser.add_argument("--framework", default="both", choices=[*FRAMEWORKS, "both"])
    add_options(parser)
    options = parser.parse_args(argv)
    stages, wanted = options.stages.split(","), options.only.split(",")
    runs = [run for run in all_runs() if any(word in run.name for word in wanted)]
    if not runs:
        raise UserError(f"--only {options.only}: no such run; there are " + ", ".join(run.name for run in all_runs()))
    deadline = time.monotonic() + 60 * options.minutes
    jobs = []
    # Jittor first, whose steps take longest; frameworks of one run do not touch each other's files.
    for framework in [name for name in reversed(FRAMEWORKS) if options.framework in (name, "both")]:
        for run in runs:
            words = words_of(run, framework, stages)
            if framework in run.frameworks and words:
                jobs.append((f"{run.name} {framework}", words, WORK / run.name / f"{framework}.log"))
    failed = run_all(jobs, options.devices.split(","), options.at_once, deadline)
    if "report" in stages and not failed:
        reports = [(f"{run.name} report", report_words(run), WORK / run.name / "report.log") for run in runs
                   if not run.is_control]
        failed = run_all(reports, [""], 1, deadline)
    if "keep" in stages and not failed:
        for run in runs:
            if run.is_control:
                keep(run)
            else:
                keep_run.main([str(WORK / run.name), "--name", run.name, "--force", "--without_figure"])
    if failed:
        print("not done: " + ", ".join(failed), file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    run_main(main)
