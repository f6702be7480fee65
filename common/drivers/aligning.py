"""Both frameworks' dumps of a short training, and their comparison: what scripts/align.sh runs."""

import argparse
import os
from pathlib import Path

from common.align.compare import compare
from common.align.dump import Dump
from common.align.report import NAME_OF_REPORT, write_report
from common.drivers.commands import Command, relative, run_command
from common.drivers.pipeline import Run
from common.drivers.tasks import PRESETS, TASKS, as_words
from common.errors import UserError
from common.frameworks import BOTH, FRAMEWORKS, interpreter
from common.model.initial_weights import RANDOM
from common.model.model_cards import MODEL_CARDS
from common.paths import ROOT
from common.precisions import DEFAULT_PRECISION, PRECISIONS
from common.run.arguments import flags_of_programs

PAPER_REGULARISATION = {"lora_dropout": 0.1, "label_smooth": 0.1}
LENGTHS = ("max_epoch", "max_step")
FILES = ("train_data", "valid_data", "init_checkpoint")
# Flags of gpt2_beam.py that are not of the search, and have other names here.
NOT_OF_THE_SEARCH = ("data", "output_file", "lora_checkpoint")


def parse(argv: list[str]) -> tuple[argparse.Namespace, dict, dict]:
    """Parses the options and sorts the other flags by the program that they are of."""
    parser = argparse.ArgumentParser(
        prog="align", allow_abbrev=False, formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        description="Shows that both frameworks compute the same, or names the first operation that differs: dumps of "
                    "a short training in either one, compared point by point. Exit status 1 where a bound is missed.",
        epilog="Any flag of src/gpt2_ft.py, or of the search in src/gpt2_beam.py, may be given too, such as --lr "
               "0.0002 --lora_targets q,k,v,o,fc,proj --train_batch_size 4.")
    parser.add_argument("--task", default="e2e", choices=list(TASKS))
    parser.add_argument("--preset", default="demo", choices=list(PRESETS), help="its data and flags")
    parser.add_argument("--model_card", default="gpt2.nano", choices=list(MODEL_CARDS))
    parser.add_argument("--checkpoint", default=None, help="LoRA file that both decode with; by default the first "
                        "framework's weights behind the last step")
    parser.add_argument("--steps", type=int, default=100, help="training steps")
    parser.add_argument("--contexts", type=int, default=20, help="test contexts that both decode")
    parser.add_argument("--precision", default=DEFAULT_PRECISION, choices=PRECISIONS)
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--work_dir", default=None, help="by default work/align/TASK-PRESET-MODEL-PRECISION")
    parser.add_argument("--source", default=None, help="folder with the raw data sets; by default they are downloaded")
    parser.add_argument("--dump", default=None, choices=FRAMEWORKS, help="write this framework's dump alone, on this "
                        "machine, to be compared on another")
    parser.add_argument("--output", default=None, help="with --dump: the file; by default WORK_DIR/FRAMEWORK.npz")
    parser.add_argument("--inputs", default=None, help="with --dump: the other framework's file, for single-step mode, "
                        "and for the beam search's weights")
    parser.add_argument("--compare", default=None, nargs=2, metavar=("A", "B"), help="compare two dumps, no more")
    options, rest = parser.parse_known_args(argv)
    if options.dump and options.compare:
        raise UserError("--dump and --compare: two stages, each on its own; leave both out to run them all")
    if not options.dump and (options.output or options.inputs):
        raise UserError("--output and --inputs go with --dump, which names the framework")
    train, beam = flags_of_programs(parser, rest)
    unused = [name for name in NOT_OF_THE_SEARCH if name in beam and name not in train]
    if unused:
        raise UserError(f"--{unused[0]}: is no flag of the search; the task's test set is decoded, with --checkpoint")
    flagged = [name for name in PRECISIONS if name in train]
    if flagged:
        raise UserError(f"--{flagged[0]}: say --precision {flagged[0]} instead, which names the work directory too")
    return options, train, beam


def run_of(options: argparse.Namespace, train: dict, beam: dict) -> Run:
    """Returns the task's Run: its data, model and flags."""
    name = f"{options.task}-{options.preset}-{options.model_card.replace('gpt2.', 'gpt2-')}-{options.precision}"
    work = options.work_dir or ROOT / "work" / "align" / name
    return Run(argparse.Namespace(task=options.task, preset=options.preset, model_card=options.model_card, rows=None,
                                  unit="line", source=options.source, device=options.device, work_dir=str(work),
                                  framework=options.dump or BOTH), {**PAPER_REGULARISATION, **train}, beam)


def flags_of(options: argparse.Namespace, run: Run, train: dict) -> dict:
    """Returns the flags of src/align.py, files apart: a run as long as its steps where ``train`` gives no length."""
    training = {name: value for name, value in run.training.items() if name not in FILES + LENGTHS or name in train}
    if not set(LENGTHS) & set(train):
        training["max_step"] = options.steps
    if "warmup_step" not in train:
        training["warmup_step"] = min(training["warmup_step"], options.steps // 10)
    search = {name: value for name, value in run.beam.items() if name not in training}
    flags = {**training, **search, "steps": options.steps, "contexts": options.contexts,
             options.precision: options.precision != DEFAULT_PRECISION}
    return {name: value for name, value in flags.items() if name not in FILES}


def files_of(options: argparse.Namespace, run: Run, train: dict, inputs: Path | None) -> dict[str, str | Path]:
    """Returns the flags of src/align.py that name files; random weights have no file."""
    given = {name: train[name] for name in FILES if name in train}
    given |= {"inputs": inputs} if inputs else {}
    given |= {"checkpoint": options.checkpoint} if options.checkpoint else {}
    return {"train_data": run.data / "train.jsonl", "valid_data": run.data / "valid.jsonl",
            "test_data": run.data / "test.jsonl", "init_checkpoint": run.backbone,
            **{name: path if path == RANDOM else Path(path).resolve() for name, path in given.items()}}


def dump_command(options: argparse.Namespace, run: Run, train: dict, framework: str, output: Path,
                 inputs: Path | None) -> Command:
    """Returns the command that writes a framework's dump."""
    tree, files = ROOT / f"NLG_{framework}", files_of(options, run, train, inputs)
    words = [interpreter(framework), "src/align.py", "--output", output, "--model_card", run.card.name, "--device",
             options.device, *(word for name, path in files.items() for word in (f"--{name}", path)),
             *as_words(flags_of(options, run, train))]
    return Command(f"dump_{framework}", [relative(word, tree) for word in words], tree,
                   [path for path in files.values() if path != RANDOM], [output], run.work / f"dump_{framework}.log")


def make_dumps(options: argparse.Namespace, train: dict, beam: dict) -> tuple[Run, list[Path]]:
    """Writes the dumps that the options ask for, the data first; returns the Run and the dumps.

    Nothing is taken from an earlier time: the code in between may be what has changed.
    """
    run = run_of(options, train, beam)
    for command in run.data_commands():
        if command.name != "backbone" or "init_checkpoint" not in train:
            run_command(command, run.work / "stamps", force=False)
    outputs: list[Path] = []
    for framework in run.frameworks:
        output = Path(options.output).resolve() if options.output else run.work / f"{framework}.npz"
        given = Path(options.inputs).resolve() if options.inputs else outputs[0] if outputs else None
        run_command(dump_command(options, run, train, framework, output, given), run.work / "stamps", force=True)
        outputs.append(output)
    return run, outputs


def main(argv: list[str]) -> int:
    """Runs the stages; returns 1 where a bound is missed."""
    options, train, beam = parse(argv)
    if options.compare:
        dumps, folder = options.compare, options.work_dir or "."
    else:
        run, dumps = make_dumps(options, train, beam)
        folder = run.work
        if options.dump:
            return 0
    comparison = compare(*map(Dump, dumps))
    print(write_report(folder, comparison))
    print(os.path.relpath(Path(folder) / NAME_OF_REPORT))
    return 0 if comparison.passed else 1
