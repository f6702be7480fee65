"""A short training and a beam search of one framework that faults are tried on, and what they must leave behind."""

import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

from common.errors import UserError
from common.files import read_json
from common.frameworks import interpreter, variables_for
from common.model.initial_weights import RANDOM
from common.model.lora_file import read_checkpoint
from common.paths import PRETRAINED, ROOT
from common.run.state import read_state, state_paths

TIMES = {"step_ms", "seconds"}
OFTEN = "0.00001"  # minutes: a state behind every step
FLAGS = ("--max_epoch 2 --train_batch_size 2 --valid_batch_size 4 --seq_len 32 --grad_acc 2 "
         "--lora_dropout 0.1 --lr 0.001 --warmup_step 4 --log_interval 3 --save_interval 5 --eval_interval 7 "
         f"--state_minutes {OFTEN}").split()
BEAM_FLAGS = "--seq_len 32 --eval_len 8 --beam 3 --batch_size 1 --output_file out.jsonl".split()
ROWS = 12
TIMEOUT_S = 900


class Failed(Exception):
    """A trial did not end as it must."""


def expect(condition, sentence):
    """Ends a trial where a condition does not hold."""
    if not condition:
        raise Failed(sentence)


class Trials:
    """What is tried on one framework's programs.

    Args:
        framework: which.
        folder: an empty folder for all that is written.
        device: ``cpu`` or ``cuda``.
        model_card: gpt2.nano, or another one, whose weights then are random.
        variables: environment variables on top of those that the framework's programs get.

    Attributes:
        is_reproducible: whether two trainings without a fault end with the same bits; on a CPU they must.
    """

    def __init__(self, framework, folder, device="cpu", model_card="gpt2.nano", **variables):
        self.framework, self.folder, self.device, self.is_reproducible = framework, Path(folder), device, True
        self.python, self.tree = str(interpreter(framework)), ROOT / f"NLG_{framework}"
        self.environment = {**variables_for(self.python, self.tree), "PYTHONUNBUFFERED": "1", **variables}
        if device == "cpu":
            self.environment["CUDA_VISIBLE_DEVICES"] = ""
        self.backbone = PRETRAINED / "gpt2-nano" / "model.safetensors" if model_card == "gpt2.nano" else RANDOM
        self.model = ["--model_card", model_card, "--device", device, "--init_checkpoint", str(self.backbone)]
        self.data = self.folder / "rows.jsonl"
        draw = random.Random(7)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.data.write_text("".join(json.dumps({name: [draw.randrange(50000) for _ in range(draw.randint(*length))]
                                                 for name, length in (("context", (3, 12)), ("completion", (2, 9)))})
                                     + "\n" for _ in range(ROWS)))

    def words(self, work, *more):
        """Returns the command of a training."""
        return [self.python, "src/gpt2_ft.py", "--train_data", str(self.data), "--valid_data", str(self.data),
                *self.model, *FLAGS, "--work_dir", str(work), *more]

    def start(self, words, before=lambda: None):
        """Starts a program with its output in a pipe; ``before`` is called in its process."""
        def begin():
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background job ignores it
            before()

        return subprocess.Popen(words, cwd=self.tree, env=self.environment, text=True, errors="replace",
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                preexec_fn=begin)

    def run(self, words, status=0, before=lambda: None):
        """Runs a program to its end; returns what it printed.

        Raises:
            Failed: it ends with another status.
        """
        process = self.start(words, before)
        try:
            printed, _ = process.communicate(timeout=TIMEOUT_S)
        finally:
            process.kill()
        expect(process.returncode == status,
               f"ended with status {process.returncode}, expected {status}: {printed[-1500:]}")
        return printed

    def train(self, work, *more, status=0, before=lambda: None):
        """Trains to the end; returns what was printed."""
        return self.run(self.words(work, *more), status, before)

    def resume(self, work):
        """Goes on with a training to its end, and compares what it leaves; returns what was printed."""
        printed = self.train(work, "--resume")
        self.check_same(work)
        return printed

    def begin(self, work, *more, line="| epoch"):
        """Starts a training and reads until a line with this text in it; returns the process."""
        process = self.start(self.words(work, *more))
        for printed in process.stdout:
            if line in printed:
                return process
        raise Failed(f"the training did not come to print {line!r}")

    def cut_off(self, work, number, *more, line="| epoch"):
        """Sends a training a signal behind a line; again where it had ended before the signal came.

        Returns:
            Its exit status and what it still printed.
        """
        for _ in range(9):
            status, printed = end(self.begin(work, *more, line=line), number)
            if state_paths(work):
                return status, printed
            shutil.rmtree(work, ignore_errors=True)
        raise Failed(f"left no state upon {number.name}; it ended with status {status}: {printed[-800:]}")

    def reference(self):
        """Trains once without a fault.

        Returns:
            The seconds until the first step, those from there on, and those that a state takes.
        """
        begun = time.perf_counter()
        process = self.begin(self.folder / "whole", line=" steps; ")
        setting_out = time.perf_counter()
        rest, _ = process.communicate(timeout=TIMEOUT_S)
        expect(process.returncode == 0, f"without a fault it ended with status {process.returncode}: {rest[-1500:]}")
        ended = time.perf_counter()
        if self.device != "cpu":
            self.train(self.folder / "whole_again")
            self.is_reproducible = self.left(self.folder / "whole") == self.left(self.folder / "whole_again")
        summary = read_json(self.folder / "whole" / "train_summary.json", dict)
        return setting_out - begun, ended - setting_out, summary["state_seconds"] / summary["states"]

    def left(self, work):
        """Returns what a training left: its checkpoints, its log without times, and its files' names."""
        log = [json.loads(line) for line in (work / "train_log.jsonl").read_text().splitlines()]
        return ({path.name: path.read_bytes() for path in work.glob("model.*")},
                [{name: value for name, value in record.items() if name not in TIMES} for record in log],
                sorted(os.listdir(work)))

    def check_same(self, work, whole=None):
        """Checks that a training left what one without a fault left, to the last bit, and nothing else.

        Args:
            work: its folder.
            whole: that of the one without a fault, by default reference()'s.

        Raises:
            Failed: it did not.
        """
        kinds = zip(("checkpoints", "train_log.jsonl", "files"), self.left(work),
                    self.left(whole or self.folder / "whole"), strict=True)
        for what, found, expected in list(kinds)[0 if self.is_reproducible else 2:]:
            names = (sorted(found), sorted(expected)) if isinstance(found, dict) else (found, expected)
            expect(found == expected, f"other {what} than without a fault: {names[0]} instead of {names[1]}"[:1500])

    def check_whole(self, work):
        """Checks that whatever has its final name is whole; returns how many files of how many steps there are.

        Raises:
            Failed: a file is not.
        """
        checkpoints = list(work.glob("model.*")) if work.is_dir() else []
        states = state_paths(work)
        try:
            for path in checkpoints:
                read_checkpoint(path)
            steps = [read_state(path).progress.step for path in states]
        except UserError as error:
            raise Failed(f"half a file under its final name: {error}") from error
        return f"{len(checkpoints)} checkpoints, states {sorted(steps)}"

    def beam_words(self, work):
        """Returns the command of a beam search."""
        return [self.python, "src/gpt2_beam.py", "--data", str(self.data), *self.model, *BEAM_FLAGS, "--work_dir",
                str(work)]

    def no_process_left(self, marker):
        """Checks that no process has a text in its command line.

        Raises:
            Failed: one has.
        """
        for _ in range(100):
            found = []
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    if marker.encode() in path.read_bytes() and int(path.parent.name) != os.getpid():
                        found.append(path.parent.name)
                except OSError:  # it has ended
                    pass
            if not found:
                return
            time.sleep(0.1)
        raise Failed(f"processes are left: {', '.join(found)}")


def end(process, number=signal.SIGKILL):
    """Sends a process a signal and waits for its end; returns its exit status and what it still printed."""
    process.send_signal(number)
    printed, _ = process.communicate(timeout=TIMEOUT_S)
    return process.returncode, printed
