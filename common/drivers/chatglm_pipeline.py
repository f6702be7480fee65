"""ChatGLM2 from data to a score table: the stages data, train, generate and report."""

import argparse
import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from common.drivers.chatglm_report import write_chatglm_report
from common.drivers.commands import Command, command_in, trained_checkpoint
from common.drivers.pipeline import add_run_options, check_chosen, run_stages, weight_files
from common.drivers.tasks import as_words
from common.errors import UserError
from common.files import find_input
from common.frameworks import BOTH, FRAMEWORKS, chosen_frameworks, interpreter
from common.model.chatglm_cards import CHATGLM_CARDS
from common.model.initial_weights import RANDOM
from common.paths import PRETRAINED, ROOT
from common.run.chatglm_arguments import chatglm_generation_arguments, chatglm_training_arguments, flags_of_chatglm

CHATGLM_STAGES = ("data", "train", "generate", "report")
# Flags that name files; the driver decides the others of this kind.
PATHS = ("model_name_or_path", "tokenizer_name", "train_file", "validation_file", "test_file")
DRIVEN = ("output_dir", "output_file", "lora_checkpoint", "resume_from_checkpoint", "question", "history",
          "overwrite_output_dir", "device")
# Those of the script that users know.
TRAINING = {"lora_r": 32, "lora_alpha": 16, "lora_dropout": 0.05, "learning_rate": 2e-5, "max_steps": 3000,
            "per_device_train_batch_size": 1, "gradient_accumulation_steps": 16, "logging_steps": 10, "save_steps": 100}


@dataclass(frozen=True)
class ChatGLMPreset:
    """Data and model of a preset.

    Attributes:
        title: for tables.
        folder: of its data, under ``data/``; empty where ``--source`` has to name one.
        model_card: the default; ``--model_card`` overrides it.
        training, generation: flags that differ from the programs'.
    """

    title: str
    folder: str
    model_card: str
    training: dict = field(default_factory=dict)
    generation: dict = field(default_factory=dict)


CHATGLM_PRESETS = {
    "demo": ChatGLMPreset("made-up advertisements from a seeded grammar", "demo/advertisegen", "chatglm2.nano",
                          {"learning_rate": 0.01, "max_steps": 100, "save_steps": 100, "do_eval": True,
                           "eval_steps": 50}),
    "adgen": ChatGLMPreset("AdvertiseGen", "", "chatglm2.6b", {"bf16": True}, {"bf16": True}),
}


class ChatGLMRun:
    """The folders and flags of one run; the arguments are what parse() returns."""

    stages = CHATGLM_STAGES[1:-1]
    compiling = ("train", "generate")

    def __init__(self, options: argparse.Namespace, train: dict, generate: dict):
        self.options, self.preset = options, CHATGLM_PRESETS[options.preset]
        for name in DRIVEN:
            if name in {**train, **generate}:
                raise UserError(f"--{name}: the driver decides it; for others run src/chatglm2_ft.py")
        self.card = CHATGLM_CARDS[train.get("model_card", self.preset.model_card)]
        self.frameworks = chosen_frameworks(options.framework)
        default = ROOT / "work" / "chatglm2" / f"{options.preset}-{self.card.name.replace('.', '-')}"
        self.work = Path(options.work_dir).resolve() if options.work_dir else default
        self.title = f"{self.preset.title}, {self.card.name}"
        # Programs run in their tree; what a user names is seen from the user's folder.
        self.given = {name: RANDOM if value == RANDOM else Path(os.path.abspath(value))
                      for name, value in {**generate, **train}.items() if name in PATHS}
        if not self.preset.folder and not options.source and len(set(PATHS[2:]) & self.given.keys()) < 3:
            raise UserError(f"--preset {options.preset} needs --source DIR, the folder with train.json and dev.json")
        self.data = ROOT / "data" / self.preset.folder if self.preset.folder else Path(options.source or ".").resolve()
        self.backbone = self.given.get("model_name_or_path", PRETRAINED / self.card.folder)
        shared = {"model_card": self.card.name}
        train, generate = ({name: value for name, value in flags.items() if name not in PATHS}
                           for flags in (train, generate))
        self.training = {**shared, **TRAINING, **self.preset.training, **train}
        self.generation = {**shared, **self.preset.generation, **generate}

    def file_of(self, flag: str) -> Path:
        """Returns the file of ``train_file``, ``validation_file`` or ``test_file``, gzipped or not."""
        names = {"train_file": "train.json", "validation_file": "dev.json",
                 "test_file": "test.json" if self.options.preset == "demo" else "dev.json"}
        path = self.given.get(flag, self.data / names[flag])
        try:
            return Path(find_input(path))
        except UserError:  # the stage data makes it, or the program that reads it says so
            return path

    def model_words(self) -> list:
        """Returns the flags that say where weights and tokenizer are."""
        tokenizer = self.given.get("tokenizer_name")
        return ["--model_name_or_path", self.backbone, *(["--tokenizer_name", tokenizer] if tokenizer else []),
                "--device", self.options.device]

    def check_flags(self) -> None:
        """Checks the flags of both programs as these do, before the first stage runs.

        Raises:
            UserError: one is out of range, or does not go with another one.
        """
        backbone = ["--model_name_or_path", str(self.backbone)]
        chatglm_training_arguments([*backbone, "--train_file", "-", "--validation_file", "-", "--output_dir", "-",
                                    *as_flags(self.training)], "")
        chatglm_generation_arguments([*backbone, "--test_file", "-", "--output_file", "-",
                                      *as_flags(self.generation)], "")

    def data_commands(self) -> Iterator[Command]:
        """The demo's data; that of other presets is the user's."""
        if self.options.preset == "demo":
            made = [self.data / f"{split}.json" for split in ("train", "dev", "test")]
            yield command_in(ROOT, interpreter(self.frameworks[0]), self.work, "demo_data",
                             ["scripts/make_demo_data.py", "advertisegen"], [], made)

    def commands(self, framework: str, stage: str) -> Iterator[Command]:
        """The commands of one stage of one framework."""
        work, tree = self.work / framework, ROOT / f"NLG_{framework}"
        command = partial(command_in, tree, interpreter(framework), work)
        summary, answers = work / "train_summary.json", work / "answers.jsonl"
        weights = weight_files(self.backbone)
        if stage == "train":
            files = {"train_file": self.file_of("train_file")}
            if self.training.get("do_eval"):
                files["validation_file"] = self.file_of("validation_file")
            yield command("train", ["src/chatglm2_ft.py", *self.model_words(),
                                    *(word for name, path in files.items() for word in (f"--{name}", path)),
                                    "--output_dir", work, "--overwrite_output_dir", *as_flags(self.training)],
                          [*files.values(), *weights], [summary, work / "train_log.jsonl"],
                          lambda: [trained_checkpoint(summary)], ("--resume_from_checkpoint",))
        if stage == "generate":
            test, trained = self.file_of("test_file"), trained_checkpoint(summary)
            yield command("generate", ["src/chatglm2_generate.py", *self.model_words(), "--lora_checkpoint",
                                       trained, "--test_file", test, "--output_file", answers,
                                       *as_flags(self.generation)],
                          [test, trained, *weights], [answers, Path(f"{answers}.summary.json")])


def as_flags(flags: dict) -> list[str]:
    """Returns ``{name: value}`` as words; false is a word of its own, for some switches are on without it."""
    return [*as_words({name: value for name, value in flags.items() if value is not False}),
            *(f"--{name}=false" for name, value in flags.items() if value is False)]


def parse(argv: list[str]) -> tuple[argparse.Namespace, dict, dict]:
    """Parses the driver's options; the other flags are those of chatglm2_ft.py and chatglm2_generate.py."""
    parser = argparse.ArgumentParser(
        prog="run_chatglm2", allow_abbrev=False, formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        description="ChatGLM2 from data to a score table.",
        epilog="Any flag of src/chatglm2_ft.py or src/chatglm2_generate.py may be given too, such as --lora_r 8 "
               "--max_steps 100 --num_beams 4; those of both go to both.")
    parser.add_argument("--framework", default=BOTH, choices=[*FRAMEWORKS, BOTH])
    parser.add_argument("--preset", default="demo", choices=list(CHATGLM_PRESETS))
    parser.add_argument("--source", default=None, help="adgen: folder with train.json and dev.json, gzipped or not")
    add_run_options(parser, "work/chatglm2/PRESET-MODEL", CHATGLM_STAGES)
    options, rest = parser.parse_known_args(argv)
    check_chosen(options.stages, CHATGLM_STAGES)
    options.command = shlex.join(["bash", "scripts/run_chatglm2.sh", *argv])
    return options, *flags_of_chatglm(rest)


def main(argv: list[str]) -> None:
    """Runs the chosen stages."""
    run = ChatGLMRun(*parse(argv))
    run.check_flags()
    run_stages(run, write_chatglm_report)
