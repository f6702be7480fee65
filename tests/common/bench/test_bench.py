"""The benchmarks' clock, watch, table and driver; the programs they time have tests of their own."""

import itertools
import json
import math
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

from common.bench import benchmark, gpu_monitor
from common.bench.bench_report import (
    case_line,
    key_of,
    markdown,
    middle_round,
    read_cases,
    round_ratios,
    write_table,
)
from common.errors import UserError
from common.files import read_json, write_json, write_json_lines
from common.run.batching import Row, make_batch, training_batches
from scripts.bench import bench, bench_worker, plot_bench
from tests import FRAMEWORK
from tests.common.bench.bench_cases import full_set, made_up

ROWS = [Row([index + 1] * (3 + index % 4), [9] * (2 + index % 3)) for index in range(10)]


def arguments():
    return SimpleNamespace(train_batch_size=4, random_seed=1, no_shuffle=False, seq_len=16, obj="clm", grad_acc=2,
                           scheduler="linear", lr=1.0, warmup_step=2, i_steps=[0], i_lrs=[0.0])


def test_statistics_are_those_of_numbers_known_by_heart():
    found = benchmark.summarise([5.0, 1.0, 2.0, 3.0, 4.0, 11.0, 6.0, 7.0, 8.0, 9.0, 10.0])
    assert found == {"median": 6.0, "p10": 2.0, "p90": 10.0, "mean": 6.0, "count": 11}


def test_batches_are_those_of_training():
    chosen = benchmark.rows_of_batches(ROWS, arguments(), 5)
    expected = itertools.islice(training_batches(ROWS, 4, 16, "clm", 1), 5)
    for rows, (_, _, batch) in zip(chosen, expected, strict=True):
        assert np.array_equal(make_batch(rows, 16).input_ids, batch.input_ids)


def test_long_rows_are_long_and_keep_their_context():
    for rows in benchmark.rows_of_batches(ROWS, arguments(), 2, is_long=True):
        batch = make_batch(rows, 512)
        assert np.diff(batch.offsets).tolist() == [512] * 4
        assert len(batch.loss_positions) == sum(512 - len(row.context) for row in rows)
        assert all(row.context in [short.context for short in ROWS] for row in rows)


def test_tokens_are_counted_without_padding():
    found = benchmark.token_counts([[Row([1, 2], [3]), Row([1], [2, 3, 4, 5])]], seq_len=4, ms_per_step=10.0)
    assert found == {"tokens_per_second": 700.0, "tokens_per_step": 7.0, "padded_tokens_per_step": 8.0}


def test_work_that_runs_behind_is_timed():
    """Steps that return at once and are done 10 ms later each: only a synchronisation can see that."""
    done_at = [0.0]

    def step(rows):
        done_at[0] = max(done_at[0], time.perf_counter()) + 0.01
        return 1.5

    def synchronise():
        time.sleep(max(0.0, done_at[0] - time.perf_counter()))

    started = time.time()
    found = benchmark.measure_training(step, synchronise, [ROWS[:4]] * 10)
    start, end = found["window"]
    assert found["ms_per_step"]["count"] == 2
    assert found["ms_per_step"]["p10"] >= 9.9 and found["ms_per_step_whole_run"] >= 9.9
    # The warm-up ends before the window starts; a millisecond for the difference of the two clocks.
    assert 0.099 <= found["warm_up_seconds"] <= start - started + 0.001
    assert 0.199 <= end - start <= time.time() - start


def test_compilation_is_what_the_warm_up_takes_longer():
    seconds = iter([0.2] + [0.0] * 100)
    found = benchmark.measure_training(lambda rows: time.sleep(next(seconds)) or 1.5, lambda: None, [ROWS[:4]] * 6)
    assert 0.2 <= found["first_step_seconds"] <= found["warm_up_seconds"]
    assert found["compile_seconds"] == pytest.approx(0.2, abs=0.1)
    assert found["ms_per_step_whole_run"] < 20


def test_a_loss_that_is_no_number_is_refused():
    with pytest.raises(UserError, match="loss is nan"):
        benchmark.measure_training(lambda rows: math.nan, lambda: None, [ROWS[:4]])


def test_the_step_follows_schedule_and_accumulation():
    seen = []
    step = benchmark.training_step(lambda *inputs: seen.append(inputs[1:]) or 0.0, arguments(), 10)
    for _ in range(4):
        step(ROWS[:4])
    assert seen == [(0.0, False), (0.5, True), (1.0, False), (0.875, True)]


def test_first_contexts_bring_all_their_rows(tmp_path):
    rows = [Row([1], [5]), Row([2], [6]), Row([1], [7]), Row([3], [8])]
    benchmark.write_first_contexts(rows, 2, tmp_path / "some.jsonl")
    kept = [json.loads(line)["completion"] for line in (tmp_path / "some.jsonl").read_text().splitlines()]
    assert kept == [[5], [6], [7]]


def watch_of(readings):
    """Runs a Watch over a made-up GPU that gives these readings one after the other."""
    rest = iter(readings)
    gpu = gpu_monitor.Gpu({}, lambda: next(rest), "a test", 0.001)
    with gpu_monitor.Watch(gpu) as watch:
        deadline = time.time() + 10
        while len(watch.readings) < len(readings) and time.time() < deadline:
            time.sleep(0.001)
    return watch


def test_the_watch_takes_the_process_where_it_is_told():
    watch = watch_of([(100, 0, {}), (900, 50, {7: 300, 8: 500}), (950, 100, {7: 400}), (500, 90, {7: 200})])
    assert watch.peak_memory(7) == (400, "a test, the process's own")
    assert watch.peak_memory(9)[0] == 850 and "less what was used before" in watch.peak_memory(9)[1]
    start, end = watch.readings[1][0], watch.readings[2][0]
    assert watch.utilisation(start, end) == 75
    assert watch.utilisation(end + 100, end + 200) is None


def test_nothing_is_watched_without_a_gpu():
    with gpu_monitor.Watch(None) as watch:
        pass
    assert watch.peak_memory(1) == (None, None) and watch.utilisation(0, 1) is None


def test_nvidia_smi_stands_in_for_the_library(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text("""#!/bin/sh
case "$*" in
    *name,driver_version*) echo "Some GPU, 580.1, 81559" ;;
    *memory.used*) echo "1000, 42" ;;
    *compute-apps*) echo "7, 600"; echo "8, [N/A]" ;;
esac
""")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    gpu = gpu_monitor.by_nvidia_smi(0)
    assert gpu.facts == {"name": "Some GPU", "driver": "580.1", "memory_bytes": 81559 * 2**20}
    assert gpu.read() == (1000 * 2**20, 42, {7: 600 * 2**20})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpu_monitor.find_gpu() is None


def test_the_library_is_asked_first(monkeypatch):
    class NVMLError(Exception):
        pass

    def refuse(handle):
        raise NVMLError

    processes = [SimpleNamespace(pid=7, usedGpuMemory=600), SimpleNamespace(pid=8, usedGpuMemory=None)]
    library = SimpleNamespace(
        NVMLError=NVMLError, nvmlInit=lambda: None, nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetName=lambda handle: b"Some GPU", nvmlSystemGetDriverVersion=lambda: "580.1",
        nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(total=900, used=700),
        nvmlDeviceGetComputeRunningProcesses=lambda handle: processes, nvmlDeviceGetUtilizationRates=refuse)
    monkeypatch.setitem(sys.modules, "pynvml", library)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    gpu = gpu_monitor.find_gpu()
    assert gpu.facts["name"] == "Some GPU" and gpu.read() == (700, None, {7: 600})


def test_the_table_has_ratios_and_says_what_it_is():
    text = markdown(full_set())
    lines = {tuple(cell.strip() for cell in line.split("|")[1:3]): line for line in text.splitlines()
             if line.startswith("| ")}
    assert lines["PyTorch", "tf32"].endswith("| 12.0 |")  # the last table's: PEFT's 600 s over 50 s of beam search
    training = [line for line in text.splitlines() if line.startswith("| Jittor | tf32 | 25.00 (22.50 to 27.50)")]
    assert len(training) == 1 and training[0].endswith("| 40.0 | 1000 | 3.00 GB | 90 % | 6 s | 1.6 | 3.6 |")
    assert "A Jittor step takes 2.50 of PyTorch's time in fp32." in text
    assert "**gpt2.md on Some GPU**, driver 580.1; E2E; random weights." in text
    assert "600, from 32 contexts" in text and "12.00 GB" in lines["Jittor, every row 512 long", "fp32"]


def test_a_group_without_a_baseline_has_no_ratio_to_it():
    text = markdown([made_up("train", "pytorch", "fp32", 10.0), made_up("beam", "jittor", "fp32", 10.0, contexts=8)])
    assert "PEFT is" not in text and "| – | – |" in text


def test_failures_stand_in_the_table():
    failed = {**made_up("eval", "jittor", "bf16", 1.0), "error": "no bf16 here"}
    text = markdown([made_up("train", "pytorch", "fp32", 10.0), failed])
    assert "Failed: eval Jittor bf16: no bf16 here" in text
    assert case_line(failed) == "eval Jittor bf16: FAILED: no bf16 here"


def test_rounds_give_a_middle_one_and_ratios_round_by_round():
    def rounds(system, values):
        return middle_round([{**made_up("train", system, "fp32", value), "round": number}
                             for number, value in enumerate(values, 1)])

    torch, jittor = rounds("pytorch", [10.0, 30.0, 20.0]), rounds("jittor", [5.0, 15.0, 12.0])
    assert torch["ms_per_step"]["median"] == 20.0 and torch["round"] == 3
    assert round_ratios(torch, jittor) == [0.5, 0.5, 0.6]
    sentence = "takes 0.50 of PyTorch's time in fp32 (0.50, 0.50, 0.60 in 3 rounds, taking turns)"
    assert sentence in markdown([torch, jittor])
    on_cpu = [{**case, "on": "cpu"} for case in (torch, jittor)]
    assert "taking turns; 0.50 of its processor time" in markdown(on_cpu)
    broken = {**made_up("train", "jittor", "fp32", 1.0), "error": "out of memory", "round": 2}
    mixed = middle_round([made_up("train", "jittor", "fp32", 7.0), broken])
    assert mixed["ms_per_step"]["median"] == 7.0 and mixed["rounds"][1] == {"round": 2, "error": "out of memory"}


def test_the_latest_of_equal_cases_counts(tmp_path):
    write_json(tmp_path / "a.json", {"cases": [made_up("train", "pytorch", "fp32", 9.0, when="2026-02-02")]})
    write_json(tmp_path / "b.json", {"cases": [made_up("train", "pytorch", "fp32", 1.0, when="2026-01-01"),
                                               {**made_up("train", "pytorch", "fp32", 1.0, when="2026-03-03"),
                                                "error": "interrupted"}]})
    [case] = read_cases(tmp_path)
    assert case["ms_per_step"]["median"] == 9.0
    assert write_table(tmp_path) == (tmp_path / "table.md").read_text(encoding="utf-8")
    with pytest.raises(UserError, match="no benchmark"):
        read_cases(tmp_path / "nowhere")


def test_figures_are_drawn(tmp_path):
    write_json(tmp_path / "made_up.json", {"cases": full_set()})
    plot_bench.main(["--input", str(tmp_path), "--output", str(tmp_path / "figures")])
    figures = {path.name for path in (tmp_path / "figures").glob("*.png")}
    assert figures == {f"gpt2-medium_{name}.png" for name in ("run_times", "steps_per_second", "memory_utilisation")}


@pytest.mark.parametrize("words, sentence", [
    (["--precision", "fp8"], "'fp8' is none of fp32"),
    (["--steps", "0"], "--steps 0: expected more than 0"),
    (["--name", "a/b"], "without folders"),
    (["train", "--device", "cuda"], "found no GPU"),
    (["all", "--train_data", "rows.jsonl"], "--valid_data is missing"),
])
def test_wrong_values_are_refused_with_sentences(words, sentence, monkeypatch, tmp_path):
    monkeypatch.setattr(bench, "find_gpu", lambda: None)
    with pytest.raises(UserError, match=sentence):
        bench.main([*words, "--output", str(tmp_path)])


def test_an_unknown_flag_is_refused(capsys):
    with pytest.raises(SystemExit):
        bench.parse(["train", "--no_such_flag", "1"])
    assert "no such flag: --no_such_flag" in capsys.readouterr().err


def test_the_cases_of_a_full_run(monkeypatch):
    options, train, beam = bench.parse(["--precision", "fp32,bf16,fp16,fp64", "--rounds", "2", "--framework", "all"])
    monkeypatch.setattr(bench, "find_gpu", lambda: None)
    bench.check(options, train, beam)
    found = [(case["program"], case["system"], case["precision"], case["variant"], case["round"])
             for case in bench.cases(options)]
    assert found[:4] == [("train", "pytorch", "fp32", "", 1), ("train", "jittor", "fp32", "", 1),
                         ("train", "pytorch", "fp32", "", 2), ("train", "jittor", "fp32", "", 2)]
    assert ("train", "peft", "bf16", "padded to 512", 1) in found and ("beam", "peft", "bf16", "", 1) in found
    assert ("train", "jittor", "bf16", "every row 512 long", 1) in found
    assert ("train", "jittor", "fp64", "", 1) in found and ("beam", "pytorch", "fp16", "", 1) in found
    assert {case[2] for case in found if case[1] == "peft"} == {"fp32", "bf16"}, "what its loop has"
    assert not any(case[:2] == ("eval", "peft") for case in found) and len(found) == len(set(found))


@pytest.fixture
def few_rows(tmp_path):
    write_json_lines(tmp_path / "rows.jsonl", ({"context": [50256, 5, index + 7], "completion": [3, 4, 50256]}
                                               for index in range(8)))
    return str(tmp_path / "rows.jsonl")


@pytest.mark.slow
def test_the_driver_records_what_worked_and_what_failed(few_rows, tmp_path, monkeypatch, capsys):
    """The framework of the running Python really trains three steps; the other one's interpreter does not start."""
    here, broken = FRAMEWORK, "pytorch" if FRAMEWORK == "jittor" else "jittor"
    monkeypatch.setenv(f"PYTHON_{here.upper()}", sys.executable)
    monkeypatch.setenv(f"PYTHON_{broken.upper()}", "/bin/false")
    monkeypatch.setattr(bench, "find_gpu", lambda: None)
    words = ["train", "--steps", "3", "--rounds", "1", "--train_data", few_rows, "--device", "cpu", "--seq_len", "16",
             "--train_batch_size", "2", "--output", str(tmp_path / "results"), "--name", "tiny"]
    assert bench.main(words) == 1
    found = {case["system"]: case for case in read_json(tmp_path / "results" / "tiny.json")["cases"]}
    assert found[here]["steps"] == 3 and found[here]["ms_per_step"]["median"] > 0
    assert found[here]["peak_memory_bytes"] > 50e6 and found[here]["environment"]["framework"] == here
    assert found[here]["tokens_per_step"] == 12.0 and found[here]["data"] == "rows of rows.jsonl"
    assert found[broken]["error"] == "exit status 1"
    assert sys.executable not in json.dumps(found)
    assert not any("--output" in found[here][name] for name in ("command", "bench_command"))
    table = (tmp_path / "results" / "table.md").read_text(encoding="utf-8")
    assert "gpt2.nano" in table and "Failed: train" in table
    assert "FAILED" in capsys.readouterr().out
    assert len({key_of(case) for case in found.values()}) == 2


def test_help_lists_the_options(project_root):
    ended = subprocess.run(["bash", "scripts/bench.sh", "--help"], cwd=project_root, capture_output=True, text=True,
                           env={"PATH": "/usr/bin:/bin", "PYTHON_PYTORCH": sys.executable})
    assert ended.returncode == 0 and "--rows_512" in ended.stdout


def test_a_recorded_command_has_no_paths_and_keeps_what_follows_a_flag_without_value():
    words = ["/some/python", "scripts/bench/bench.py", "train", "--profile", "--output", "/some/folder", "--steps", "3"]
    assert (bench.for_the_record(words, "--output", "--source")
            == "python scripts/bench/bench.py train --profile --steps 3")
    worker = ["/some/python", "scripts/bench/bench_worker.py", "--profile", "/some/file", "--output", "/some/file",
              "--", "x"]
    assert bench.for_the_record(worker, "--output", "--profile") == "python scripts/bench/bench_worker.py -- x"


@pytest.mark.parametrize("key, name", [
    ("code«IN_SIZE:2«HEADER:// 93f8\n#include \"/some/cpu.h\"\n«CODE:\nconst int64_t rows = in0->num / from;\n"
     "fill_rows(in2_p, out0_p, rows, to);\nweight_product(in0_p, in1_p, out0_p);\n«JIT:1«JIT_cpu:1",
     "fill_rows, weight_product"),
    ("«opkey0:array«T:int32«opkey1:binary«Tx:float32«OP:add«opkey2:reduce«OP:add«DIM=2«JIT:1",
     "array, binary add, reduce add"),
    ("getitem«Ti:float32«IDIM=2", "getitem")])
def test_a_profile_names_kernels_by_what_they_do(key, name):
    assert bench_worker.readable_kernel(key) == name
