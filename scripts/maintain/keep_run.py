"""Keeps a finished run: copies what is worth keeping from its work directory to log/ and its loss curve to figure/.

    bash scripts/run_e2e.sh --preset sampled --model_card gpt2.nano
    python scripts/maintain/keep_run.py work/e2e/sampled-gpt2-nano [--name e2e_sampled_gpt2-nano] [--force]
        [--without_figure]

``log/NAME/`` gets results.json, table.md and, for each framework, train.log and beam.log (whose first lines are the
commands), train_log.jsonl, train_summary.json, beam_summary.json (version, device, seconds, peak memory), the predicted
texts and ``scores_SET.json`` for each set of references; ``figure/NAME_loss.png`` the loss curve. What belongs to the
machine, such as absolute paths, is taken out. A name may have folders, such as ``e2e_paper_gpt2-md/seed110`` where the
same run is kept for several seeds. Nothing is written unless every stage has ended, no file has changed since, and the
report is that of these files.
"""

import argparse
import os
import shlex
import tempfile
from pathlib import Path

from common.drivers.commands import check_done, cleaned
from common.drivers.pipeline import STAGES, run_of_folder
from common.drivers.report import build_report, plot_losses
from common.errors import UserError, run_main
from common.files import atomic_write, read_json
from common.frameworks import FRAMEWORKS
from common.paths import ROOT

LOG, FIGURE = ROOT / "log", ROOT / "figure"
REPORT = ("results.json", "table.md")
PROGRAM_LOGS = ("train.log", "beam.log")
RENAMED = {"predict.jsonl.summary.json": "beam_summary.json"}


def check_finished(run):
    """Makes sure that every stage of a Run has ended and that its report is that of its files.

    Raises:
        UserError: it is not so.
    """
    for framework in run.frameworks:
        for stage in STAGES[STAGES.index("train"):STAGES.index("report")]:
            for command in run.commands(framework, stage):
                check_done(command, run.work / framework / "stamps" / f"{command.name}.json", run.work)
    others = [name for name in FRAMEWORKS if name not in run.frameworks and (run.work / name).exists()]
    if others:
        raise UserError(f"{run.work}: holds {others[0]}/, which the report does not show; make the report of both with "
                        "--stages report, or remove that folder")
    document, table = build_report(run)
    if read_json(run.work / "results.json") != document or (run.work / "table.md").read_text("utf-8") != table:
        raise UserError(f"{run.work}: results.json and table.md are not the report of the files beside them; make it "
                        "anew with --stages report")


def kept_files(run, framework):
    """Returns ``{name in log/NAME/FRAMEWORK/: path}`` of what is kept of one framework."""
    folder, scoring = run.work / framework, run.task.scoring
    names = {name: RENAMED.get(name, name)
             for name in (*PROGRAM_LOGS, "train_log.jsonl", "train_summary.json", *RENAMED)}
    kept = {new: folder / name for name, new in names.items()}
    kept |= {f"scores_{score_set.name}.json": folder / score_set.name / "scores.json" for score_set in run.score_sets}
    whole = next(score_set for score_set in run.score_sets if score_set.part == "all")
    return {**kept, scoring.predictions: folder / whole.name / scoring.predictions}


def without_interpreter(text):
    """Returns a program's log with its first line, ``$ cd FOLDER && COMMAND``, naming the program ``python``."""
    first, newline, rest = text.partition("\n")
    folder, separator, words = first.partition(" && ")
    return folder + separator + shlex.join(["python", *shlex.split(words)[1:]]) + newline + rest


def write_kept(run, folder):
    """Writes into a new folder what is kept of a run."""
    paths = {name: run.work / name for name in REPORT}
    for framework in run.frameworks:
        paths |= {f"{framework}/{name}": path for name, path in kept_files(run, framework).items()}
    for name, path in paths.items():
        text = path.read_text(encoding="utf-8")
        if path.name in PROGRAM_LOGS:
            text = without_interpreter(text)
        with atomic_write(folder / name) as file:
            # Predicted texts may hold anything, slashes included.
            file.write(text if path.name == run.task.scoring.predictions else cleaned(text))


def check_target(target, figure, force):
    """Makes sure that nothing is overwritten without ``force``, and with it only what a kept run consists of.

    Raises:
        UserError: something is there.
    """
    if not force and (target.exists() or figure.exists()):
        raise UserError(f"{target if target.exists() else figure}: is there already; --force replaces it, --name takes "
                        "another name")
    if target.exists():
        foreign = [path.name for path in target.iterdir() if path.name not in (*REPORT, *FRAMEWORKS)
                   ] if target.is_dir() else [target.name]
        if foreign:
            raise UserError(f"{target}: holds {foreign[0]}, which is no part of a kept run; it is not replaced")


def keep(run, name, force, with_figure=True):
    """Copies a finished Run to ``log/name/`` and ``figure/name_loss.png``, each whole or not at all; returns both.

    Raises:
        UserError: the run is not finished, or something is there already.
    """
    target, figure = LOG / name, FIGURE / f"{name}_loss.png"
    check_target(target, figure, force)
    check_finished(run)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as beside:
        new, old = Path(beside) / "new", Path(beside) / "old"
        new.mkdir()
        write_kept(run, new)
        # Drawn anew rather than copied: a curve says nothing of the files that it was drawn from.
        if with_figure:
            plot_losses(figure, run.work, run.frameworks, run.title)
        if target.exists():
            os.rename(target, old)
        try:
            os.rename(new, target)
        except BaseException:
            if old.exists():  # else it would go with the temporary folder
                os.rename(old, target)
            raise
    return target, figure


def checked_name(name):
    """Returns the name of a folder below log/.

    Raises:
        UserError: it leads out of log/, or a part of it is hidden or empty.
    """
    if not all(part and not part.startswith(".") for part in name.split("/")):
        raise UserError(f"--name {name}: expected a name, or folders and a name such as e2e_paper_gpt2-md/seed110")
    return name


def main(argv):
    """Keeps the run."""
    parser = argparse.ArgumentParser(prog="keep_run.py", description=__doc__.split("\n")[0])
    parser.add_argument("work", help="the run's work directory, such as work/e2e/sampled-gpt2-nano")
    parser.add_argument("--name", help="of the folder in log/; by default TASK_PRESET_MODEL")
    parser.add_argument("--force", action="store_true", help="replace a kept run of that name")
    parser.add_argument("--without_figure", action="store_true", help="where other figures are made of its logs")
    options = parser.parse_args(argv)
    run = run_of_folder(options.work)
    name = checked_name(options.name or f"{run.options.task}_{run.options.preset}_{run.model}")
    target, figure = keep(run, name, options.force, not options.without_figure)
    kept = [target] if options.without_figure else [target, figure]
    print(f"{' and '.join(map(os.path.relpath, kept))}: kept. Add a line to log/README.md with what made it: "
          + cleaned(run.options.command))


if __name__ == "__main__":
    run_main(main)
