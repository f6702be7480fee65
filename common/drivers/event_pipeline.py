"""Event argument extraction from data to a score table: the stages data, train, predict, score and report."""

import argparse
import os
import shlex
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from common.data.event_files import find_copy
from common.data.event_sets import RAMS
from common.data.events import QUESTION_FILES
from common.data.rams import ROLES_FILE
from common.drivers.commands import Command, command_in, trained_checkpoint
from common.drivers.event_report import write_event_report
from common.drivers.event_tasks import EVENT_PRESETS, event_training_flags
from common.drivers.pipeline import add_run_options, check_chosen, run_stages, weight_files
from common.drivers.scoring_stages import BOOTSTRAP
from common.drivers.tasks import as_words
from common.errors import UserError
from common.files import find_input
from common.frameworks import BOTH, FRAMEWORKS, chosen_frameworks, interpreter
from common.model.bert_cards import BERT_CARDS
from common.model.initial_weights import RANDOM
from common.paths import PRETRAINED, ROOT
from common.run.arguments import PRECISION_FLAGS
from common.run.event_arguments import event_training_arguments, flags_of_event_training

EVENT_STAGES = ("data", "train", "predict", "score", "report")
PATHS = ("train_data", "valid_data", "questions", "roles", "init_checkpoint", "vocab")  # flags that name files
DRIVEN = ("train_data", "valid_data", "questions", "roles", "format")  # what the preset decides


class EventRun:
    """The folders and flags of one run; ``options`` and ``train`` are what parse() returns."""

    stages = EVENT_STAGES[1:-1]
    compiling = ("train", "predict")

    def __init__(self, options: argparse.Namespace, train: dict):
        self.options, self.preset = options, EVENT_PRESETS[options.preset]
        taken = [name for name in DRIVEN if name in train]
        if taken:
            raise UserError(f"--{taken[0]}: the preset decides the data; for others run src/bert_eae_ft.py")
        self.card = BERT_CARDS[options.model_card or self.preset.model_card]
        self.frameworks = chosen_frameworks(options.framework)
        default = ROOT / "work" / "events" / f"{options.preset}-{self.card.name.replace('.', '-')}"
        self.work = Path(options.work_dir).resolve() if options.work_dir else default
        self.title = f"Event arguments, {self.preset.title}, {self.card.name}"
        if not self.preset.folder and not options.source:
            raise UserError(f"--preset {options.preset} needs --source DIR, the folder with "
                            f"{', '.join(self.preset.files)}; its data cannot be downloaded")
        self.data = ROOT / "data" / self.preset.folder if self.preset.folder else Path(options.source).resolve()
        # Programs run in their tree; what a user names is seen from the user's folder.
        self.given = {name: RANDOM if train[name] == RANDOM else Path(os.path.abspath(train[name]))
                      for name in PATHS if name in train}
        flags = {name: value for name, value in train.items() if name not in PATHS}
        self.training = {**event_training_flags(options.preset, flags.get("lora_dim")), **flags, "overwrite": True}
        if "warmup_step" in flags:
            self.training.pop("warmup_share")

    def file_of(self, split: int) -> Path:
        """Returns the file of train, dev or test, by its number; of RAMS also in a folder ``data``, or gzipped."""
        name = self.preset.files[split]
        for folder in (self.data, self.data / "data"):
            try:
                return Path(find_input(folder / name))
            except UserError:
                continue
        return self.data / name

    def files_of_questions(self) -> list[Path]:
        """Returns the files that say what is asked."""
        if self.preset.form == RAMS:
            near = (self.data / ROLES_FILE, self.data / "scorer" / ROLES_FILE)
            return [next((path for path in near if path.is_file()), near[0])]
        names = QUESTION_FILES[:1] if self.options.preset == "demo" else QUESTION_FILES
        return [self.data / name for name in names]

    def data_words(self) -> list:
        """Returns the flags that say how the data is to be read."""
        name = "--roles" if self.preset.form == RAMS else "--questions"
        return ["--format", self.preset.form, name, *self.files_of_questions()]

    def check_flags(self) -> None:
        """Checks the flags of training as the program does, before the first stage runs.

        Raises:
            UserError: one is out of range, or does not go with another one.
        """
        backbone = ["--init_checkpoint", str(self.given.get("init_checkpoint", RANDOM))]
        event_training_arguments(["--train_data", "-", "--valid_data", "-", "--model_card", self.card.name, *backbone,
                                  *as_words(self.training)], "")

    def data_commands(self) -> Iterator[Command]:
        """The data where it can be made or obtained, and the backbone where it is not there yet."""
        options, command = self.options, partial(command_in, ROOT, interpreter(self.frameworks[0]), self.work)
        made = [self.data / name for name in self.preset.files] + self.files_of_questions()
        if options.preset == "demo":
            yield command("demo_data", ["scripts/make_demo_data.py", "events"], [], made)
        elif options.preset == "phee":
            source = ["--source", os.path.relpath(options.source, ROOT)] if options.source else []
            copies = [find_copy(path.name, options.source) for path in made]
            yield command("data", ["scripts/create_events.py", *source],
                          [Path(copy).resolve() for copy in copies if copy], made)
        if self.card.name == "bert.base" and "init_checkpoint" not in self.given:
            yield command("backbone", ["scripts/download_pretrained_checkpoints.py", self.card.folder], [],
                          [PRETRAINED / self.card.folder / "model.safetensors"])

    def commands(self, framework: str, stage: str) -> Iterator[Command]:
        """The commands of one stage of one framework."""
        work, python = self.work / framework, interpreter(framework)
        command = partial(command_in, ROOT / f"NLG_{framework}", python, work)
        summary, predictions, gold = work / "train_summary.json", work / "predictions.jsonl", self.file_of(2)
        questions, device = self.files_of_questions(), ["--device", self.options.device]

        if stage == "train":
            train, valid = self.file_of(0), self.file_of(1)
            given = [word for name, path in self.given.items() for word in (f"--{name}", path)]
            backbone = self.given.get("init_checkpoint")
            yield command("train", ["src/bert_eae_ft.py", "--train_data", train, "--valid_data", valid,
                                    *self.data_words(), "--model_card", self.card.name, *given, "--work_dir", work,
                                    *device, *as_words(self.training)],
                          [train, valid, *questions, *weight_files(backbone)], [summary, work / "train_log.jsonl"],
                          more=lambda: [trained_checkpoint(summary)], resuming=("--resume",))
        if stage == "predict":
            argmax = ["--seed_argmax"] if self.training.get("seed_argmax") else []
            precision = [f"--{name}" for name in PRECISION_FLAGS if self.training.get(name)]
            given = [word for name in ("init_checkpoint", "vocab") if name in self.given
                     for word in (f"--{name}", self.given[name])]
            trained = trained_checkpoint(summary)
            yield command("predict", ["src/bert_eae_predict.py", "--checkpoint", trained, "--data", gold,
                                      "--format", self.preset.form, *given, "--work_dir", work, "--output_file",
                                      predictions.name, *device, *precision, *argmax],
                          [gold, trained], [predictions, work / f"{predictions.name}.summary.json"])
        if stage == "score":
            yield command_in(ROOT, python, work, "score",
                             ["eval/events/measure_scores.py", gold, predictions, *self.data_words(), "--bootstrap",
                              str(BOOTSTRAP), "--json", work / "scores.json"],
                             [gold, predictions, *questions], [work / "scores.json"])


def parse(argv: list[str]) -> tuple[argparse.Namespace, dict]:
    """Parses the driver's options; the other flags are those of bert_eae_ft.py."""
    parser = argparse.ArgumentParser(
        prog="run_eae", allow_abbrev=False, formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        description="Event argument extraction from data to a score table.",
        epilog="Any flag of src/bert_eae_ft.py may be given too, such as --lr 0.0005 --max_epoch 2 --lora_dim 8; "
               "--lora_dim 0 trains all weights, then --lr is a tenth unless given.")
    parser.add_argument("--framework", default=BOTH, choices=[*FRAMEWORKS, BOTH])
    parser.add_argument("--preset", default="demo", choices=list(EVENT_PRESETS))
    parser.add_argument("--model_card", default=None, choices=list(BERT_CARDS), help="by default the preset's")
    parser.add_argument("--source", default=None,
                        help="folder with phee/, or with RAMS's files; by default PHEE is downloaded")
    add_run_options(parser, "work/events/PRESET-MODEL", EVENT_STAGES)
    options, rest = parser.parse_known_args(argv)
    check_chosen(options.stages, EVENT_STAGES)
    options.command = shlex.join(["bash", "scripts/run_eae.sh", *argv])
    flags, unknown = flags_of_event_training(rest)
    if unknown:
        parser.error(f"no such flag: {unknown[0]}; src/bert_eae_ft.py --help lists the flags that this program hands "
                     "on")
    return options, flags


def main(argv: list[str]) -> None:
    """Runs the chosen stages."""
    run = EventRun(*parse(argv))
    run.check_flags()
    run_stages(run, write_event_report)
