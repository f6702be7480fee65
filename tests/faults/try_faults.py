"""Tries faults on a short training of gpt2-nano and says what they left: nothing completed may be lost, nothing wrong
loaded, no temporary file may stay, and the resumed training ends with the same bytes as one without a fault.

    python tests/faults/try_faults.py --framework pytorch --kills 30

Writes a table to standard output and ``NAME.json`` to ``--output`` (log/faults). It ends with status 1 where a
fault was not borne.
"""

import argparse
import contextlib
import os
import platform
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from common.drivers.commands import cleaned  # noqa: E402
from common.errors import run_main  # noqa: E402
from common.files import write_json  # noqa: E402
from common.frameworks import FRAMEWORKS  # noqa: E402
from common.model.model_cards import MODEL_CARDS  # noqa: E402
from common.paths import ROOT  # noqa: E402
from common.run.state import state_paths  # noqa: E402
from tests.faults.trials import FLAGS, TIMEOUT_S, Failed, Trials, end, expect  # noqa: E402

SKIPPED = "skipped"


def kills(trials, options, durations):
    """kill -9 at random moments, a fifth of them before the first step"""
    draw, (setting_out, training, _) = random.Random(options.seed), durations
    done = 0
    while done < options.kills:
        work = trials.folder / f"kill_{done}"
        is_early = done % 5 == 4
        delay = draw.uniform(0, setting_out if is_early else training)
        process = trials.start(trials.words(work, "--resume"))
        if not is_early:
            for line in process.stdout:
                if " steps; " in line:
                    break
        time.sleep(delay)
        end(process)
        found = trials.check_whole(work)
        if not (work / "train_summary.json").exists() or state_paths(work):  # else it had ended before
            printed = trials.resume(work)
            start = next((line for line in printed.splitlines() if line.startswith("going on")), "from the beginning")
            done += 1
            yield (f"{delay:.2f} s {'from the start' if is_early else 'of training'}: {found}; "
                   + start.split(", from ")[0])
        shutil.rmtree(work)


def kill_upon_kill(trials, options, durations):
    """kill -9 of one training again and again, each time behind one more log line"""
    work, count = trials.folder / "again", 0
    for _ in range(20):
        process = trials.start(trials.words(work, "--resume"))
        lines = 0
        for line in process.stdout:
            lines += line.startswith("| epoch")
            if lines > count:
                break
        count = lines
        end(process)
        if process.returncode == 0:
            break
    trials.resume(work) if state_paths(work) else trials.check_same(work)
    yield f"ended after {count} log lines, one kill behind each"


def signals(trials, options, durations):
    """Ctrl-C and SIGTERM: a state, status 130 and 143, and going on"""
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        work = trials.folder / number.name
        found, printed = trials.cut_off(work, number, "--state_minutes", "0")
        expect(found == status, f"{number.name}: status {found}, expected {status}: {printed[-800:]}")
        expect(len(state_paths(work)) == 1, f"{number.name}: left {os.listdir(work)}, expected a state")
        yield f"{number.name}: status {found}, {os.path.basename(state_paths(work)[0])}"
        trials.resume(work)


def damaged_state(trials, options, durations):
    """a truncated, a bit-flipped and an empty state: the one before it is used, and that is said"""
    start = trials.folder / "damaged"
    trials.cut_off(start, signal.SIGKILL, line="| Eval")
    for name, damage in (("truncated", lambda content: content[:-1000]), ("empty", lambda content: b""),
                         ("bit-flipped", lambda content: content[:5000] + bytes([content[5000] ^ 8]) + content[5001:])):
        work = trials.folder / name
        shutil.copytree(start, work)
        newest, before, *_ = state_paths(work)
        Path(newest).write_bytes(damage(Path(newest).read_bytes()))
        printed = trials.resume(work)
        step = os.path.basename(before).split(".")[1]
        expect(f"note: {newest}: is damaged" in printed and f"going on behind step {step}," in printed,
               f"{name}: it did not say what it left out: {printed[:800]}")
        yield f"{name}: {os.path.basename(newest)} left out, on from {os.path.basename(before)}"


def damaged_checkpoint(trials, options, durations):
    """a truncated, a bit-flipped and an empty checkpoint: refused"""
    whole = next((trials.folder / "whole").glob("model.*")).read_bytes()
    for name, content in (("truncated", whole[:-1000]), ("empty", b""),
                          ("bit-flipped", whole[:-5000] + bytes([whole[-5000] ^ 8]) + whole[-4999:])):
        path, work = trials.folder / f"{name}.safetensors", trials.folder / f"from_{name}"
        path.write_bytes(content)
        printed = trials.train(work, "--lora_checkpoint", str(path), status=2)
        expect(f"error: {path}: " in printed, f"{name}: said {printed[-800:]}")
        expect(not work.exists(), f"{name}: {work} was made")
        yield f"{name}: {printed.splitlines()[-1].split(f'{path}: ')[-1][:70]}"


@contextlib.contextmanager
def small_disk(folder, size):
    """Mounts a disk of its own of so many bytes; yields a function that makes it larger, or None where that is refused.
    """
    folder.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder],
                                      capture_output=True).returncode:
        yield None
        return
    try:
        yield lambda: subprocess.run(["mount", "-o", "remount,size=64m", folder], check=True)
    finally:
        subprocess.run(["umount", folder], check=True)


def full_disk(trials, options, durations):
    """a disk that is full while a state is written: it is said, and with more room the training goes on"""
    disk = trials.folder / "disk"
    with small_disk(disk, 900_000) as enlarge:
        def limit():
            if enlarge is None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))

        work, status = (disk / "work", 3) if enlarge else (trials.folder / "limited", 2)
        printed = trials.train(work, "--resume", status=status, before=limit)
        said = printed.splitlines()[-1]
        expect("/state." in said and ("No space left" in said or "File too large" in said), f"it said {said}")
        expect(not list(work.glob(".*.unfinished")), f"left {os.listdir(work)}")
        found = trials.check_whole(work)
        if enlarge:
            enlarge()
        trials.resume(work)
        yield f"{'a disk of 900 kB' if enlarge else 'a limit of 300 kB a file'}: status {status}; {found}"


def two_trainings(trials, options, durations):
    """two trainings in one work directory: the second is refused and told of the first"""
    work = trials.folder / "shared"
    first = trials.begin(work, line=" steps; ")
    first.send_signal(signal.SIGSTOP)  # else it could end before the second one begins
    printed = trials.train(work, "--resume", "--overwrite", status=2)
    first.send_signal(signal.SIGCONT)
    expect(f"process {first.pid} on " in printed, f"the second said {printed[-800:]}")
    rest, _ = first.communicate(timeout=TIMEOUT_S)
    expect(first.returncode == 0, f"the first ended with status {first.returncode}: {rest[-800:]}")
    trials.check_same(work)
    yield "the second ended with status 2 and named the process of the first"


def read_only(trials, options, durations):
    """a work directory that cannot be written: it is said"""
    work, way = trials.folder / "read_only", None
    work.mkdir()
    if os.geteuid():
        work.chmod(0o555)
        way = "without the right to write"
    elif subprocess.run(["mount", "--bind", work, work], capture_output=True).returncode == 0:
        subprocess.run(["mount", "-o", "remount,bind,ro", work], check=True)
        way = "mounted read-only"
    elif subprocess.run(["chattr", "+i", work], capture_output=True).returncode == 0:
        way = "immutable"
    else:  # root may write anywhere
        work.rmdir()
        work.write_text("")
        way = "a file (neither a mount nor chattr +i is allowed here)"
    try:
        said = trials.train(work, status=2).splitlines()[-1]
    finally:
        {"mounted read-only": lambda: subprocess.run(["umount", work], check=True),
         "immutable": lambda: subprocess.run(["chattr", "-i", work], check=True)}.get(way, lambda: None)()
    expect(str(work) in said and "Traceback" not in said, f"it said {said}")
    yield f"{way}: {said.split('error: ')[-1].replace(str(work), 'DIR')[:90]}"


def beam_search(trials, options, durations):
    """kill -9 of a beam search: it goes on behind the contexts it had finished"""
    whole, work = trials.folder / "beam_whole", trials.folder / "beam"
    trials.run(trials.beam_words(whole))
    process, partial = trials.start(trials.beam_words(work)), work / "out.jsonl.partial"
    while process.poll() is None and (not partial.exists() or partial.read_bytes().count(b"\n") < 6):
        time.sleep(0.01)
    end(process)
    kept = partial.read_bytes().count(b"\n") - 1
    printed = trials.run(trials.beam_words(work))
    expect(f"going on behind {kept} of " in printed, f"it said {printed[-800:]}")
    expect((work / "out.jsonl").read_bytes() == (whole / "out.jsonl").read_bytes(), "another output than without it")
    expect(sorted(os.listdir(work)) == sorted(os.listdir(whole)), f"left {os.listdir(work)}")
    yield f"killed behind {kept} contexts; the same bytes"


def driver(trials, options, durations):
    """SIGTERM and kill -9 of a driver: its training ends too, and the same command goes on"""
    whole, work = trials.folder / "driven_whole", trials.folder / "driven"

    def start(folder):
        return trials.start([trials.python, str(ROOT / "scripts" / "run_task.py"), "e2e", "--framework",
                             trials.framework, "--work_dir", str(folder), "--stages", "train", "--train_data",
                             str(trials.data), "--valid_data", str(trials.data), *trials.model, *FLAGS, "--eval_len",
                             "8"])

    for number in (signal.SIGTERM, signal.SIGKILL):
        process = start(work)
        for line in process.stdout:
            if line.startswith("| epoch"):
                break
        found, printed = end(process, number)
        trials.no_process_left(str(work))
        states = [os.path.basename(path) for path in state_paths(work / trials.framework)]
        expect(number == signal.SIGKILL or found == 143, f"status {found}, expected 143: {printed[-800:]}")
        expect(states, f"{number.name}: left {os.listdir(work / trials.framework)}, expected a state")
        yield f"{number.name}: status {found}, no process left, {states[0]}"
    for folder in (whole, work):
        printed, _ = (process := start(folder)).communicate(timeout=TIMEOUT_S)
        expect(process.returncode == 0, f"status {process.returncode}: {printed[-800:]}")
    expect("going on behind step" in printed, f"it said {printed[-800:]}")
    trials.check_same(work / trials.framework, whole / trials.framework)


def cold_cache(trials, options, durations):
    """two Jittor processes that compile at once, from an empty cache"""
    if trials.framework != "jittor":
        yield SKIPPED + ": PyTorch compiles nothing on a CPU"
        return
    both = [trials.folder / f"cold_{number}" for number in (1, 2)]
    cold = Trials(trials.framework, trials.folder / "cold", JITTOR_HOME=str(trials.folder / "cache"))
    cold.data = trials.data
    processes = [cold.start(cold.words(work)) for work in both]
    for process in processes:
        printed, _ = process.communicate(timeout=3000)
        expect(process.returncode == 0, f"one ended with status {process.returncode}: {printed[-1500:]}")
    for work in both:
        trials.check_same(work)
    left = [str(path) for path in (trials.folder / "cache").rglob("kernel_header.h.*")
            if path.suffix not in (".gch", ".key")]
    expect(not left, f"left {left}")
    yield "both ended with the same bytes as without a fault"


FAULTS = (kills, kill_upon_kill, signals, damaged_state, damaged_checkpoint, full_disk, two_trainings, read_only,
          beam_search, driver, cold_cache)


def tried(fault, trials, options, durations):
    """Tries a fault; returns its record for the table."""
    begun, details, failure = time.perf_counter(), [], None
    try:
        for detail in fault(trials, options, durations):
            details.append(detail)
            print(f"    {detail}", flush=True)
    except Failed as error:
        failure = str(error)
        print(f"    FAILED: {failure}", flush=True)
    return {"fault": fault.__name__, "what": fault.__doc__.strip(), "passed": failure is None,
            "failure": failure and cleaned(failure), "details": list(map(cleaned, details)),
            "seconds": round(time.perf_counter() - begun, 1)}


def main(argv):
    """Tries the faults; returns 1 where one was not borne."""
    parser = argparse.ArgumentParser(prog="try_faults.py", description=__doc__.split("\n\n")[0])
    parser.add_argument("--framework", required=True, choices=FRAMEWORKS)
    parser.add_argument("--kills", type=int, default=30, help="at how many random moments (default: 30)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments (default: 1)")
    parser.add_argument("--only", default="", help="faults, comma-separated: "
                        + ", ".join(fault.__name__ for fault in FAULTS))
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--model_card", default="gpt2.nano", choices=list(MODEL_CARDS),
                        help="by default gpt2.nano; others have random weights")
    parser.add_argument("--name", default=None, help="of the JSON file (default: the framework)")
    parser.add_argument("--output", type=Path, default=ROOT / "log" / "faults", help="folder for the JSON file")
    options = parser.parse_args(argv)
    chosen = [fault for fault in FAULTS if fault.__name__ in options.only.split(",") or not options.only]
    with tempfile.TemporaryDirectory(prefix="faults_") as folder:
        trials = Trials(options.framework, folder, options.device, options.model_card)
        durations = trials.reference()
        print("without a fault: {:.1f} s until the first step, {:.1f} s from there; a state takes {:.3f} s".format(
            *durations) + "; it is not reproducible" * (not trials.is_reproducible), flush=True)
        records = []
        for fault in chosen:
            print(f"{fault.__name__}: {fault.__doc__.strip()}", flush=True)
            records.append(tried(fault, trials, options, durations))
    print(f"\n{'fault':20} {'tries':>5} {'seconds':>8}  result")
    for record in records:
        print(f"{record['fault']:20} {len(record['details']):5} {record['seconds']:8.1f}  "
              f"{'passed' if record['passed'] else 'FAILED'}")
    write_json(options.output / f"{options.name or options.framework}.json", {
        "framework": options.framework, "device": options.device, "model_card": options.model_card,
        "kills": options.kills, "seed": options.seed, "python": sys.version.split()[0],
        "system": f"{platform.system()}, {os.cpu_count()} cores",
        "state_seconds": durations[2], "is_reproducible": trials.is_reproducible, "faults": records})
    return int(not all(record["passed"] for record in records))


if __name__ == "__main__":
    run_main(main)
