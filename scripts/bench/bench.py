"""How fast the programs are, and in how much memory: training steps, validation, beam search; beside Hugging Face PEFT.

    bash scripts/bench.sh [train|beam|eval|all] [--framework pytorch|jittor|both|peft|all] [--model_card gpt2.md]
    bash scripts/bench.sh train --precision fp32,tf32 --steps 100 --profile
    bash scripts/bench.sh train --model_card gpt2.nano --device cpu --rounds 5

Every case (program, framework, precision) runs in a process of its own, which times the real programs' functions; its
GPU memory and the GPU's utilisation are watched from outside. After each case ``OUTPUT/NAME.json`` is written, and at
the end ``OUTPUT/table.md`` from all JSON files there. A run with the same name adds to the file and replaces equal
cases; a case that fails is recorded with its error, the others go on, and the exit status is 1.
"""

import argparse
import os
import platform
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common.bench.bench_report import case_line, key_of, middle_round, write_table
from common.bench.cases import (
    EVERY_ROW_LONG,
    LONG,
    PADDED_TO_LONG,
    PADDED_TO_LONGEST,
    PEFT,
    PEFT_PRECISIONS,
    PROGRAMS,
)
from common.bench.gpu_monitor import Watch, find_gpu
from common.data.sampling import RATIO_TEXT
from common.drivers.commands import relative
from common.drivers.tasks import PAPER_BEAM, PAPER_TRAINING, as_words
from common.errors import UserError, run_main
from common.files import read_json, write_json
from common.frameworks import BOTH, FRAMEWORKS, interpreter, variables_for
from common.model.initial_weights import RANDOM
from common.model.model_cards import MODEL_CARDS
from common.paths import ROOT
from common.precisions import DEFAULT_PRECISION, PRECISIONS
from common.run.arguments import flags_of_programs

# What --framework says, and what it measures.
SYSTEMS = {**{name: (name,) for name in (*FRAMEWORKS, PEFT)}, BOTH: FRAMEWORKS, "all": (*FRAMEWORKS, PEFT)}
LONG_STEPS = 5
# What a wrapper around Python has started ends with it; it stays in the session, so that all ends with the terminal.
GROUP_OF_ITS_OWN = {"process_group": 0} if sys.version_info >= (3, 11) else {"start_new_session": True}
MESSAGE_LINES = 20


def parse(argv):
    """Returns the driver's options and the flags for gpt2_ft.py and for gpt2_beam.py."""
    parser = argparse.ArgumentParser(
        prog="bench.sh", allow_abbrev=False, description=__doc__.split("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        epilog="Any flag of src/gpt2_ft.py or src/gpt2_beam.py may be given too, such as --train_batch_size 4 or "
               "--batch_size 64; by default they are the paper's. Results: OUTPUT/NAME.json and OUTPUT/table.md.")
    parser.add_argument("program", nargs="?", default="all", choices=[*PROGRAMS, "all"])
    parser.add_argument("--framework", default=None, choices=list(SYSTEMS),
                        help="both: the two trees; all: PEFT too; by default all on a GPU, both on a CPU")
    parser.add_argument("--model_card", default=None, choices=list(MODEL_CARDS),
                        help="by default gpt2.md on a GPU, gpt2.nano on a CPU")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--precision", default=None,
                        help=f"comma-separated, of {','.join(PRECISIONS)}; by default fp32,tf32 on a GPU, else fp32")
    parser.add_argument("--steps", type=int, default=None, help="training steps; by default 200 on a GPU, 30 on a CPU")
    parser.add_argument("--rounds", type=int, default=None, help="how often training is measured, the frameworks "
                        "taking turns; by default 1 on a GPU, 5 on a CPU")
    parser.add_argument("--rows_512", action="store_true", help=f"also train {LONG_STEPS} steps with every row {LONG} "
                        "tokens long, for the memory; part of all")
    parser.add_argument("--contexts", type=int, default=None, help="beam search over so many contexts; by default all")
    parser.add_argument("--valid_rows", type=int, default=None, help="validation over so many rows; by default all")
    parser.add_argument("--peft_contexts", type=int, default=32, help="contexts that PEFT's generate decodes")
    parser.add_argument("--source", default=None, help="folder with the raw data sets, from which to make E2E")
    parser.add_argument("--profile", action="store_true", help="also write OUTPUT/NAME_CASE_profile.txt: where the "
                        "time of a few steps more goes")
    parser.add_argument("--minutes", type=float, default=10, help="longest time for one case")
    parser.add_argument("--output", default="log/bench", help="folder for the results")
    parser.add_argument("--name", default=None, help="of the JSON file; by default the model's, with _cpu on a CPU")
    options, rest = parser.parse_known_args(argv)
    return options, *flags_of_programs(parser, rest)


def check(options, train, beam):
    """Fills in what depends on the machine and refuses what cannot be; returns the Gpu to watch, or None.

    Raises:
        UserError: a value is out of range.
    """
    gpu = None if options.device == "cpu" else find_gpu()
    if options.device == "cuda" and gpu is None:
        raise UserError("--device cuda: found no GPU (nvidia-smi shows none, or CUDA_VISIBLE_DEVICES hides it); use "
                        "--device cpu")
    clash = set(PRECISIONS) & (set(train) | set(beam))
    if clash:
        raise UserError(f"--{sorted(clash)[0]}: say --precision {sorted(clash)[0]}, which the table shows too")
    for name, on_gpu, on_cpu in (("framework", "all", BOTH), ("model_card", "gpt2.md", "gpt2.nano"),
                                 ("precision", "fp32,tf32", DEFAULT_PRECISION), ("steps", 200, 30), ("rounds", 1, 5)):
        if getattr(options, name) is None:
            setattr(options, name, on_gpu if gpu else on_cpu)
    options.precision = options.precision.split(",")
    unknown = [word for word in options.precision if word not in PRECISIONS]
    if unknown:
        raise UserError(f"--precision {','.join(options.precision)}: {unknown[0]!r} is none of {', '.join(PRECISIONS)}")
    for name in ("steps", "rounds", "contexts", "valid_rows", "peft_contexts", "minutes"):
        value = getattr(options, name)
        if value is not None and value <= 0:
            raise UserError(f"--{name} {value}: expected more than 0")
    folder = MODEL_CARDS[options.model_card].folder
    options.name = options.name or folder + ("" if gpu else "_cpu")
    if os.sep in options.name:
        raise UserError(f"--name {options.name}: expected a name without folders; --output names the folder")
    options.programs = PROGRAMS if options.program == "all" else (options.program,)
    options.rows_512 = options.rows_512 or options.program == "all"
    options.systems = SYSTEMS[options.framework]
    return gpu


def find_data(options, train, beam):
    """Returns ``({split: path}, description)``: the user's own encoded rows where the flags name them, else E2E where
    it is or can be made of ``--source``, else the demo data.

    Raises:
        UserError: a program's data is not among the user's own, or a data set cannot be made.
    """
    own = {"train": train.get("train_data"), "valid": train.get("valid_data"), "test": beam.get("data")}
    if any(own.values()):
        for program, split, flag in (("train", "train", "train_data"), ("eval", "valid", "valid_data"),
                                     ("beam", "test", "data")):
            if program in options.programs and not own[split]:
                raise UserError(f"--{flag} is missing: with data of one's own, each program that runs needs its file")
        return ({split: os.path.abspath(path or os.devnull) for split, path in own.items()},
                "rows of " + ", ".join(os.path.basename(path) for path in own.values() if path))
    folder = ROOT / "data" / "e2e"
    paths = {"train": folder / "sampled" / "train.jsonl", "valid": folder / "valid.jsonl",
             "test": folder / "test.jsonl"}
    python = interpreter("jittor" if options.systems == ("jittor",) else "pytorch")

    def make(*words):
        made = subprocess.run([python, *words], cwd=ROOT, stdout=sys.stderr, env=variables_for(python, ROOT))
        if made.returncode:
            raise UserError(f"{words[0]} ended with exit status {made.returncode}; the lines above say why")

    if options.source:
        make("scripts/create_datasets.py", "e2e", "--source", os.path.abspath(options.source))
        make("scripts/sample_datasets.py", "--datasets", "e2e")
    if all(path.is_file() for path in paths.values()):
        return paths, f"E2E ({RATIO_TEXT} of train, all of valid and test)"
    missing = next(path for path in paths.values() if not path.is_file())
    print(f"note: {missing.relative_to(ROOT)} is not there: these are times on the demo data, whose rows differ from "
          "E2E's; --source DIR makes E2E from the raw files", file=sys.stderr)
    paths = {split: ROOT / "data" / "demo" / f"{split}.jsonl" for split in paths}
    if not all(path.is_file() for path in paths.values()):
        make("scripts/make_demo_data.py")
    return paths, "demo data"


def cases(options):
    """Yields the cases to run, ``{program, system, precision, variant, round}``; variant is "" where there is one."""
    def case(program, system, precision, variant="", number=1):
        return {"program": program, "system": system, "precision": precision, "variant": variant, "round": number}

    for program in options.programs:
        for precision in options.precision:
            for number in range(1, 1 + (options.rounds if program == "train" else 1)):
                yield from (case(program, system, precision, "", number) for system in options.systems
                            if system != PEFT)
            if PEFT in options.systems and precision in PEFT_PRECISIONS and program != "eval":
                yield from (case(program, PEFT, precision, variant) for variant in
                            ((PADDED_TO_LONGEST, PADDED_TO_LONG) if program == "train" else ("",)))
        if program == "train" and options.rows_512:
            yield from (case("train", system, precision, EVERY_ROW_LONG) for precision in options.precision
                        for system in options.systems if system != PEFT)


def command_of(case, options, train, beam, data, output):
    """Returns the words of the process that measures a case; paths as seen from the project's root."""
    card = MODEL_CARDS[options.model_card]
    backbone = ROOT / "pretrained_checkpoints" / card.folder / "model.safetensors"
    flags = {"model_card": card.name, "init_checkpoint": backbone if backbone.is_file() else RANDOM,
             "device": options.device}
    is_peft, is_long = case["system"] == PEFT, case["variant"] == EVERY_ROW_LONG
    steps = LONG_STEPS if is_long else options.steps
    if case["program"] == "beam":
        flags = {**PAPER_BEAM, **flags, **beam, "data": data["test"]}
    else:
        flags = {**PAPER_TRAINING, **flags, "max_step": steps, **train, "train_data": data["train"],
                 "valid_data": data["valid"]}
    words = [interpreter("pytorch" if is_peft else case["system"]),
             ROOT / "scripts" / "bench" / ("bench_peft.py" if is_peft else "bench_worker.py"),
             "--program", case["program"], "--steps", steps, "--output", output]
    contexts = options.peft_contexts if is_peft else options.contexts
    if contexts:
        words += ["--contexts", contexts]
    if options.valid_rows and case["program"] == "eval":
        words += ["--valid_rows", options.valid_rows]
    if is_peft:
        words += ["--precision", case["precision"],
                  "--pad_to", str(LONG) if case["variant"] == PADDED_TO_LONG else "longest"]
    else:
        flags |= {case["precision"]: True} if case["precision"] != DEFAULT_PRECISION else {}
        words += ["--framework", case["system"]] + ["--rows_512"] * is_long
        if options.profile and case["round"] == 1 and not is_long:
            words += ["--profile", Path(options.output).resolve() / f"{options.name}_{case['program']}_"
                      f"{case['system']}_{case['precision']}_profile.txt"]
    flags = {name: relative(value, ROOT) if isinstance(value, Path) else value for name, value in flags.items()}
    return [relative(word, ROOT) for word in [*words, "--", *as_words(flags)]]


def for_the_record(words, *path_flags):
    """Returns a command as text without what only this machine knows: its Python, and these flags with their paths."""
    words = ["python", *words[1:]]
    for flag in set(path_flags) & set(words):
        place = words.index(flag)
        del words[place:place + 2]
    return shlex.join(words)


def run_case(words, output, minutes, gpu):
    """Runs the process of a case and watches the GPU meanwhile.

    Returns:
        What it measured, with ``peak_memory_bytes``, ``memory_measured_by`` and ``utilisation`` (percent, or None); or
        ``{error, output_tail}``.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as printed:
        with Watch(gpu) as watch:
            process = subprocess.Popen(words, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=printed, stderr=printed,
                                       env={**variables_for(words[0], ROOT), "PYTHONUNBUFFERED": "1"},
                                       **GROUP_OF_ITS_OWN)
            try:
                status = process.wait(timeout=60 * minutes)
            except subprocess.TimeoutExpired:
                status = f"no result within {minutes:g} minutes (--minutes)"
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        printed.seek(0)
        tail = [line.rstrip() for line in printed.read()[-20000:].replace("\r", "\n").splitlines() if line.strip()]
    if status != 0:
        message = status if isinstance(status, str) else next(
            (line for line in reversed(tail) if "error" in line.lower()), f"exit status {status}")
        return {"error": message[:1000], "output_tail": tail[-MESSAGE_LINES:]}
    result = read_json(output)
    memory, how = watch.peak_memory(result["pid"])
    if gpu is None:
        memory, how = result["host_peak_bytes"] or result["framework_peak_bytes"], "resident memory of the process"
    return {**result, "peak_memory_bytes": memory, "memory_measured_by": how,
            "utilisation": watch.utilisation(*result["window"])}


def cores():
    """Returns how many processor cores this process may use."""
    return len(os.sched_getaffinity(0))


def processor():
    """Returns the processor's name."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def main(argv):
    """Runs all cases; returns 1 where one failed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # else the process of the case would run on
    options, train, beam = parse(argv)
    gpu = check(options, train, beam)
    data, description = find_data(options, train, beam)
    path = Path(options.output) / f"{options.name}.json"
    document = read_json(path) if path.is_file() else {"cases": []}
    document["machine"] = {"gpu": gpu.facts if gpu else None, "processor": processor(), "cores": cores(),
                           "python": platform.python_version(), "system": platform.system()}
    planned = list(cases(options))
    common = {"model_card": options.model_card, "data": description, "on": "cuda" if gpu else "cpu",
              "device": gpu.facts["name"] if gpu else f"{processor()}, {cores()} cores",
              "driver": gpu.facts["driver"] if gpu else None,
              "bench_command": for_the_record(["", "scripts/bench/bench.py", *argv], "--output", "--source")}
    failed, rounds, started = 0, {}, time.perf_counter()
    for number, case in enumerate(planned, 1):
        with tempfile.TemporaryDirectory() as folder:
            output = os.path.join(folder, "result.json")
            words = command_of(case, options, train, beam, data, output)
            begun = time.perf_counter()
            result = run_case(words, output, options.minutes, gpu)
        record = {**case, **common, "command": for_the_record(words, "--output", "--profile"),
                  "when": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                  "process_seconds": time.perf_counter() - begun, **result}
        print(f"[{number}/{len(planned)}] {case_line(record)}", flush=True)
        failed += "error" in record
        key = key_of(record)
        rounds.setdefault(key, []).append(record)
        document["cases"] = [old for old in document["cases"] if key_of(old) != key] + [middle_round(rounds[key])]
        write_json(path, document)
    table = write_table(options.output)
    print(f"\n{table}\n{len(planned)} cases, {failed} failed, {(time.perf_counter() - started) / 60:.1f} minutes; "
          f"{path} and table.md")
    return int(failed > 0)


if __name__ == "__main__":
    run_main(main)
