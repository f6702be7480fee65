"""The stages from raw data to a score table, each run only where its result is not there already."""

import argparse
import os
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from common.cpp_compiler import check_folders
from common.data.raw_files import RAW_FILES, find_raw
from common.data.strata import FOLDERS
from common.drivers.commands import Command, command_in, run_command, trained_checkpoint
from common.drivers.report import write_report
from common.drivers.scoring_stages import ScoreSet, decode_command, score_command, score_sets
from common.drivers.tasks import PRESETS, TASKS, as_words, beam_flags, training_flags
from common.errors import UserError
from common.files import read_json
from common.frameworks import BOTH, FRAMEWORKS, chosen_frameworks, interpreter
from common.model.initial_weights import RANDOM
from common.model.model_cards import MODEL_CARDS
from common.model.weight_files import FOLDER_FILES, resolve_checkpoint, shard_files
from common.paths import PRETRAINED, ROOT, what_cannot_be_written
from common.run.arguments import beam_arguments, flags_of_programs, training_arguments

STAGES = ("data", "train", "beam", "decode", "score", "report")
# Flags of the programs that name files.
TRAINING_PATHS = ("train_data", "valid_data", "init_checkpoint", "lora_checkpoint")
BEAM_PATHS = ("data", "output_file")


def raw_files(name: str, data: Path) -> list[Path]:
    """Returns the raw files of a data set that are in a folder of data sets."""
    found = [find_raw(os.path.join(data, FOLDERS[name]), raw_file) for raw_file in RAW_FILES[name].values()]
    return [Path(path) for path in dict.fromkeys(filter(None, found))]


def weight_files(checkpoint: Path | str | None) -> list[Path]:
    """Returns the files that a checkpoint consists of, its index included; none for random weights or None."""
    if checkpoint in (None, RANDOM):
        return []
    try:
        path = resolve_checkpoint(checkpoint)
        return [Path(file) for file in dict.fromkeys([*shard_files(path), path])]
    except UserError:  # the program that reads it says so
        return [Path(checkpoint)]


class Run:
    """The folders and flags of one run of a task; ``options``, ``train`` and ``beam`` are what parse() returns."""

    stages = STAGES[1:-1]  # of each framework
    compiling = ("train", "beam")  # those in which Jittor compiles

    def __init__(self, options: argparse.Namespace, train: dict, beam: dict):
        self.options = options
        self.task = TASKS[options.task]
        self.card = MODEL_CARDS[options.model_card or PRESETS[options.preset].model_card]
        self.model = self.card.name.replace("gpt2.", "gpt2-")
        self.frameworks = chosen_frameworks(options.framework)
        default = ROOT / "work" / options.task / f"{options.preset}-{self.model}"
        self.work = Path(options.work_dir).resolve() if options.work_dir else default
        self.full = ROOT / "data" / self.task.folder
        self.data = {"demo": ROOT / "data" / self.task.demo_folder, "sampled": self.full / "sampled",
                     "paper": self.full}[options.preset]
        self.description = self.task.descriptions[options.preset]
        if options.rows:
            self.description = f"stratified sample of {' + '.join(map(str, options.rows))} rows"
        self.title = f"{self.task.title}, {self.description}, {self.card.name}"
        # Programs run in their tree; what a user names is seen from the user's folder.
        self.given = {name: RANDOM if train[name] == RANDOM else Path(os.path.abspath(train[name]))
                      for name in TRAINING_PATHS if name in train}
        folder = PRETRAINED / self.card.folder
        self.backbone = self.given.get("init_checkpoint") or next(
            (folder / name for name in FOLDER_FILES if (folder / name).is_file()), folder / "model.safetensors")
        for name in BEAM_PATHS:
            if name in beam:
                raise UserError(f"--{name}: the drivers decode the test set that they made, to a file in the work "
                                f"directory; for others run src/gpt2_beam.py")
        # Beam search takes the checkpoint that training has written, also where training started from another one.
        train, beam = ({name: value for name, value in flags.items() if name not in TRAINING_PATHS}
                       for flags in (train, beam))
        self.training = {**training_flags(self.task, options.preset, self.card.name), **train, "overwrite": True}
        self.beam = {**beam_flags(self.task, options.preset), **beam}

    @property
    def score_sets(self) -> list[ScoreSet]:
        """The sets of references that the data has; those of parts without a row are left out."""
        is_line_sample = self.options.preset == "sampled" and self.options.unit == "line"
        return score_sets(self.task, self.data, self.full, is_line_sample)

    def check_flags(self) -> None:
        """Checks the flags of both programs as these do, before the first stage runs.

        Raises:
            UserError: one is out of range, or does not go with another one.
        """
        card, backbone = ["--model_card", self.card.name], ["--init_checkpoint", str(self.backbone)]
        training_arguments(["--train_data", "-", "--valid_data", "-", *card, *backbone, *as_words(self.training)], "")
        beam_arguments(["--data", "-", *card, *backbone, *as_words(self.beam)], "")

    def data_commands(self) -> Iterator[Command]:
        """The raw data to encoded rows, and the backbone where it is not there yet."""
        options, command = self.options, partial(command_in, ROOT, interpreter(self.frameworks[0]), self.work)
        made = [self.data / f"{split}{end}" for split in ("train", "valid", "test")
                for end in (".jsonl", "_formatted.jsonl")]

        if options.preset == "demo":
            yield command("demo_data", ["scripts/make_demo_data.py", self.task.data_name], [], made)
        else:
            source = ["--source", os.path.relpath(options.source, ROOT)] if options.source else []
            complete = [self.full / path.name for path in made]
            shared = as_words({flag: self.beam[flag] for flag in self.task.beam_flags_of_data})
            yield command("data", ["scripts/create_datasets.py", self.task.data_name, *source, *shared],
                          raw_files(self.task.data_name, Path(options.source)) if source else [], complete,
                          lambda: raw_files(self.task.data_name, ROOT / "data"))
            if options.preset == "sampled":
                rows = ["--rows", *map(str, options.rows)] if options.rows else []
                yield command("sample", ["scripts/sample_datasets.py", "--datasets", self.task.data_name,
                                         "--unit", options.unit, *rows], complete, made)
        if self.card.name != "gpt2.nano" and "init_checkpoint" not in self.given:
            yield command("backbone", ["scripts/download_pretrained_checkpoints.py", self.card.folder], [],
                          [self.backbone])

    def commands(self, framework: str, stage: str) -> Iterator[Command]:
        """The commands of one stage of one framework."""
        work, tree = self.work / framework, ROOT / f"NLG_{framework}"
        command = partial(command_in, tree, interpreter(framework), work)
        summary, predictions = work / "train_summary.json", work / "predict.jsonl"
        device, card = ["--device", self.options.device], ["--model_card", self.card.name]

        if stage == "train":
            train, valid = (self.given.get(f"{split}_data", self.data / f"{split}.jsonl")
                            for split in ("train", "valid"))
            lora = self.given.get("lora_checkpoint")
            yield command("train", ["src/gpt2_ft.py", "--train_data", train, "--valid_data", valid, *card,
                                    "--init_checkpoint", self.backbone, *(["--lora_checkpoint", lora] if lora else []),
                                    "--work_dir", work, *device, *as_words(self.training)],
                          [train, valid, *weight_files(self.backbone), *weight_files(lora)],
                          [summary, work / "train_log.jsonl"], lambda: [trained_checkpoint(summary)], ("--resume",))
        if stage == "beam":
            test, lora = self.data / "test.jsonl", trained_checkpoint(summary)
            # A checkpoint says which backbone it belongs to, or holds all weights; what a user gave may hold LoRA
            # arrays of its own.
            weights = (["--init_checkpoint", lora] if "init_checkpoint" in self.given or self.beam["lora_dim"] == 0
                       else ["--init_checkpoint", self.backbone, "--lora_checkpoint", lora])
            yield command("beam", ["src/gpt2_beam.py", "--data", test, *card, *weights, "--work_dir", work,
                                   "--output_file", predictions.name, *device, *as_words(self.beam)],
                          [test, *weight_files(self.backbone), lora],
                          [predictions, work / f"{predictions.name}.summary.json"])
        for score_set in self.score_sets:
            if stage == "decode":
                yield decode_command(self.task.scoring, score_set, command, work, self.data)
            if stage == "score":
                yield score_command(self.task.scoring, score_set, command, work)


def add_run_options(parser: argparse.ArgumentParser, folder: str, stages: Sequence[str]) -> None:
    """Adds the options that every driver has; ``folder`` is the work directory, for the help."""
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--work_dir", default=None, help=f"by default {folder}")
    parser.add_argument("--stages", default=",".join(stages), help="which to run, comma-separated")
    parser.add_argument("--force", action="store_true", help="rerun stages that are done")


def parse(argv: list[str]) -> tuple[argparse.Namespace, dict, dict]:
    """Parses the driver's options and sorts the other flags by the program that takes them."""
    parser = argparse.ArgumentParser(
        prog="run_task", allow_abbrev=False, formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        description="From data to a score table.",
        epilog="Any flag of src/gpt2_ft.py or src/gpt2_beam.py may be given too, such as --lr 0.001 --max_epoch 2 "
               "--beam 4; --seq_len, --lora_dim, --lora_alpha, --lora_targets, --random_seed, --tf32, --bf16 "
               "and --fp16 go to both.")
    parser.add_argument("task", choices=list(TASKS))
    parser.add_argument("--framework", default=BOTH, choices=[*FRAMEWORKS, BOTH])
    parser.add_argument("--preset", default="demo", choices=list(PRESETS))
    parser.add_argument("--model_card", default=None, choices=list(MODEL_CARDS), help="by default the preset's")
    parser.add_argument("--source", default=None, help="folder with the raw data sets; by default they are downloaded")
    parser.add_argument("--unit", default="line", choices=["line", "mr"], help="what --preset sampled samples")
    parser.add_argument("--rows", type=int, nargs=3, metavar=("TRAIN", "VALID", "TEST"),
                        help="how many rows --preset sampled samples, in place of its share")
    add_run_options(parser, "work/TASK/PRESET-MODEL", STAGES)
    options, rest = parser.parse_known_args(argv)
    check_chosen(options.stages, STAGES)
    if options.rows and options.preset != "sampled":
        raise UserError(f"--rows goes with --preset sampled, found --preset {options.preset}")
    options.command = shlex.join(["bash", "scripts/run_task.sh", *argv])
    return options, *flags_of_programs(parser, rest)


def run_of_folder(work: str | os.PathLike) -> Run:
    """Returns the Run whose report a work directory holds.

    Raises:
        UserError: there is no report, or it does not say which command wrote it.
    """
    path = Path(work).resolve() / "results.json"
    if not path.is_file():
        raise UserError(f"{work}: no results.json there; expected the folder of a run whose stage report has ended")
    command = read_json(path, dict).get("command")
    if not isinstance(command, str):
        raise UserError(f"{path}: does not say which command wrote it; make the report anew with --stages report")
    options, train, beam = parse([*shlex.split(command)[2:], "--work_dir", str(path.parent)])
    options.command = command
    return Run(options, train, beam)


def check_folders_of(run: Run, stages: list[str]) -> None:
    """Checks that the run can write its folder and, where a stage runs Jittor, that Jittor can compile.

    Raises:
        UserError: a folder is another user's or read-only, or has a path that Jittor cannot compile with.
    """
    problem = what_cannot_be_written(run.work)
    if problem:
        raise UserError(f"cannot write the results: {problem}; name a folder of yours: --work_dir /path/to/folder")
    if "jittor" in run.frameworks and set(run.compiling) & set(stages):
        check_folders()


def run_stages(run: Run, write: Callable[[Run], None]) -> None:
    """Runs the stages that the run's options choose, and says how long they took; ``write`` is the stage report."""
    options = run.options
    chosen = options.stages.split(",")
    check_folders_of(run, chosen)
    started = time.perf_counter()
    if "data" in chosen:
        for command in run.data_commands():
            run_command(command, run.work / "stamps", options.force)
    for framework in run.frameworks:
        for stage in run.stages:
            if stage in chosen:
                for command in run.commands(framework, stage):
                    run_command(command, run.work / framework / "stamps", options.force)
    if "report" in chosen:
        write(run)
    print(f"{', '.join(chosen)}: {(time.perf_counter() - started) / 60:.1f} minutes; results in "
          f"{os.path.relpath(run.work)}")


def check_chosen(chosen: str, known: Sequence[str]) -> None:
    """Checks ``--stages``.

    Raises:
        UserError: one of them is unknown.
    """
    unknown = [stage for stage in chosen.split(",") if stage not in known]
    if unknown:
        raise UserError(f"--stages {chosen}: {unknown[0]!r} is none of {','.join(known)}")


def main(argv: list[str]) -> None:
    """Runs the chosen stages."""
    options, train, beam = parse(argv)
    run = Run(options, train, beam)
    run.check_flags()
    run_stages(run, write_report)
