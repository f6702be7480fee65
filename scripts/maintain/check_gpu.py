"""Runs on a GPU what the tests hold on a CPU, and writes what came out to log/gpu_checks/.

    python scripts/maintain/check_gpu.py [--framework pytorch|jittor|both] [--device cuda|cpu] [--output log/gpu_checks]

The shared checks of both trees (tests/trees/test_tree.py, against the float64 oracle); a hundred training steps of
gpt2-nano on the demo data, one framework against the other, in fp32 and fp64; the same steps in every other precision
against fp32.
"""

import argparse
import json
import math
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tqdm import tqdm

from common.bench.gpu_monitor import find_gpu
from common.drivers.commands import cleaned
from common.errors import UserError, run_main
from common.files import atomic_write, read_json_lines, write_json
from common.frameworks import BOTH, FRAMEWORKS, chosen_frameworks, interpreter, variables_for
from common.paths import ROOT
from common.precisions import DEFAULT_PRECISION, PRECISIONS

STEPS = 100
OF_BOTH = ["tests/trees/test_tree.py", "tests/trees/test_all_weights.py", "tests/trees/test_bert.py",
           "tests/trees/test_encoder_kernels.py"]
TESTS = {"pytorch": [*OF_BOTH, "tests/pytorch/test_cuda_graphs.py"],
         "jittor": [*OF_BOTH, "tests/jittor/test_kernels.py"]}
BETWEEN_FRAMEWORKS = {"fp32": 1e-4, "fp64": 1e-12}
# Four units in the last place of the factors: their significands have 11, 8 and 11 bits. Of fp64 it is fp32's own
# rounding, over all steps.
AGAINST_FP32 = {"tf32": 4 * 2.0 ** -11, "bf16": 4 * 2.0 ** -8, "fp16": 4 * 2.0 ** -11, "fp64": 1e-5}
TRAINING = ["--model_card", "gpt2.nano", "--train_batch_size", "4", "--lr", "0.001", "--warmup_step", "20",
            "--correct_bias", "--adam_beta2", "0.999", "--label_smooth", "0.1", "--lora_dropout", "0.1", "--clip",
            "1.0", "--max_step", str(STEPS), "--log_interval", "1", "--save_interval", str(STEPS)]


def run(words, device, framework="", **more):
    """Runs a program from the project's root; returns its exit status and its cleaned output."""
    environment = {**variables_for(words[0], ROOT), "NLG_TEST_DEVICE": device, "NLG_TEST_FRAMEWORK": framework}
    result = subprocess.run([str(word) for word in words], env=environment, stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                            **{"cwd": ROOT, **more})
    return result.returncode, cleaned(result.stdout)


def run_tests(framework, device, folder):
    """Runs the shared checks of a tree; returns pytest's last line and whether all passed."""
    status, output = run([interpreter(framework), "-m", "pytest", "--color=no", "-vv", *TESTS[framework]], device,
                         framework)
    with atomic_write(folder / f"tests_{framework}.txt") as file:
        file.write(output)
    lines = [line.strip("= ") for line in output.splitlines() if re.search(r"\d+ (passed|failed|error)", line)]
    return (lines or [f"pytest ended with status {status}"])[-1], status == 0


def train(framework, precision, device, data, folder):
    """Trains a hundred steps; returns what the run says of itself and the losses, both empty where it failed."""
    work = folder / f"{framework}_{precision}"
    flags = [] if precision == DEFAULT_PRECISION else [f"--{precision}"]
    status, output = run(
        [interpreter(framework), "src/gpt2_ft.py", "--train_data", data / "train.jsonl", "--valid_data",
         data / "valid.jsonl", "--init_checkpoint", ROOT / "pretrained_checkpoints/gpt2-nano/model.safetensors",
         "--work_dir", work, "--device", device, *TRAINING, *flags], device, cwd=ROOT / f"NLG_{framework}")
    if status != 0:
        print(f"training in {framework}, {precision}, ended with status {status}:\n{output[-2000:]}", file=sys.stderr)
        return {}, []
    losses = [record["loss"] for _, record in read_json_lines(work / "train_log.jsonl") if record["kind"] == "train"]
    with open(work / "train_summary.json", encoding="utf-8") as file:
        return json.load(file), losses


def difference(found, expected):
    """Returns the largest relative difference of two lists of losses, infinite where a run failed."""
    if len(found) != STEPS or len(expected) != STEPS:
        return math.inf
    return max(abs(one / other - 1.0) for one, other in zip(found, expected))


def compared(frameworks, precisions, losses):
    """Returns ``[(what, largest difference, what is allowed)]`` of losses, ``{(framework, precision): list}``."""
    between = [(f"Jittor against PyTorch, {precision}",
                difference(losses["jittor", precision], losses["pytorch", precision]), allowed)
               for precision, allowed in BETWEEN_FRAMEWORKS.items() if len(frameworks) == 2]
    return between + [(f"{framework}, {precision} against fp32",
                       difference(losses[framework, precision], losses[framework, "fp32"]), AGAINST_FP32[precision])
                      for framework in frameworks for precision in precisions if precision != DEFAULT_PRECISION]


def demo_data(device):
    """Returns the folder of the demo data, made where it is absent."""
    folder = ROOT / "data" / "demo"
    if not (folder / "train.jsonl").is_file():
        status, output = run([sys.executable, "scripts/make_demo_data.py"], device)
        if status != 0:
            raise UserError(f"data/demo holds no demo data and scripts/make_demo_data.py failed:\n{output[-2000:]}")
    return folder


def table(header, rows):
    """Returns lines of a Markdown table."""
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)]


def report(tests, summaries, comparisons):
    """Returns the report's text."""
    lines = ["# Checks on a GPU", "", "Made by `bash scripts/check_gpu.sh`.", ""]
    machines = {(each["framework"], each["version"], each["device"]) for each in summaries.values() if each}
    lines += table(["framework", "version", "device"], sorted(machines))
    lines += ["", "## Shared checks of the trees", ""]
    lines += table(["framework", "result", "output"], [(framework, result, f"`tests_{framework}.txt`")
                                                       for framework, (result, _) in tests.items()])
    lines += ["", f"## Losses of {STEPS} training steps", "", "gpt2-nano, the demo data, batch 4, dropout .1, clipping "
              "at 1; largest relative difference of any step's loss.", ""]
    lines += table(["what", "largest difference", "allowed", ""],
                   [(what, f"{found:.1e}", f"{allowed:.1e}", "passed" if found <= allowed else "FAILED")
                    for what, found, allowed in comparisons])
    return "\n".join(lines) + "\n"


def main(argv):
    """Returns 1 where a check fails.

    Raises:
        UserError: there is no GPU to check.
    """
    parser = argparse.ArgumentParser(prog="check_gpu.py", description=__doc__.split("\n")[0])
    parser.add_argument("--framework", default=BOTH, choices=[*FRAMEWORKS, BOTH])
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--output", type=Path, default=ROOT / "log" / "gpu_checks", help="folder of the report")
    options = parser.parse_args(argv)
    if options.device == "cuda" and find_gpu() is None:
        raise UserError("found no GPU that NVIDIA's driver shows; --device cpu runs the checks on the processor")
    frameworks = chosen_frameworks(options.framework)
    precisions = [name for name in PRECISIONS if name != "tf32" or options.device == "cuda"]  # a CPU has none
    data = demo_data(options.device)
    tests, summaries, losses = {}, {}, {}
    with tempfile.TemporaryDirectory() as work, tqdm(total=len(frameworks) * (1 + len(precisions)), unit="run",
                                                     dynamic_ncols=True, disable=None) as bar:
        for framework in frameworks:
            tests[framework] = run_tests(framework, options.device, options.output)
            bar.update()
            for precision in precisions:
                summaries[framework, precision], losses[framework, precision] = train(
                    framework, precision, options.device, data, Path(work))
                bar.update()
    comparisons = compared(frameworks, precisions, losses)
    text = report(tests, summaries, comparisons)
    with atomic_write(options.output / "report.md") as file:
        file.write(text)
    write_json(options.output / "losses.json", {f"{framework} {precision}": found
                                                for (framework, precision), found in losses.items()})
    print(text)
    is_good = all(passed for _, passed in tests.values()) and all(found <= allowed for _, found, allowed in comparisons)
    return 0 if is_good else 1


if __name__ == "__main__":
    run_main(main)
