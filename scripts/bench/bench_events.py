"""Times training steps of event argument extraction: both trees, and transformers with PEFT as a user would write it.

    python scripts/bench/bench_events.py --output log/eae/bench.json [--device auto|cpu|cuda] [--steps 400]

PHEE (data/phee, see scripts/create_events.py), bert.minilm, batches of 32 queries, LoRA of rank 16 on query and value
with trained heads, fp32. Each system trains in a process of its own, one after the other. The time of a step is the
median over intervals of 20 steps; memory is the GPU's, watched from outside, or on a processor the process's peak.
The trees run their own program, bert_eae_ft.py. The user's loop has BertForQuestionAnswering with PEFT's layers, the
same queries in the same order filled up to the batch's longest, BERT's own dropout, torch's AdamW and clipping.
"""

import argparse
import os
import resource
import subprocess
import tempfile
import time
from pathlib import Path

from common.bench.benchmark import parse_before_words
from common.bench.gpu_monitor import Watch, find_gpu
from common.drivers.event_tasks import event_training_flags
from common.drivers.tasks import as_words
from common.errors import UserError, run_main
from common.files import atomic_write, read_json, write_json
from common.frameworks import FRAMEWORKS, NAMES, interpreter
from common.paths import ROOT
from common.run.event_arguments import event_training_arguments
from common.run.event_training import EVENTS
from common.run.training import schedule_of

PEFT = "peft"
SYSTEMS = (*FRAMEWORKS, PEFT)
INTERVAL = 20
FEW = 30  # validation sentences of a run that is timed


def training_words(folder, options):
    """Returns the flags of bert_eae_ft.py; writes few validation events into the folder."""
    data = ROOT / "data" / "phee"
    few = Path(folder) / "few.json"
    with open(data / "dev.json", encoding="utf-8") as read, atomic_write(few) as written:
        written.writelines(line for _, line in zip(range(FEW), read))
    flags = {**event_training_flags("phee"), "max_step": options.steps, "log_interval": INTERVAL, "overwrite": True,
             "device": options.device, "work_dir": Path(folder) / "work"}
    return ["--train_data", str(data / "train.json"), "--valid_data", str(few), "--questions",
            *(str(data / f"arg_queries_stage{stage}.csv") for stage in (1, 2)), *as_words(flags)]


def collated(batch, torch, device):
    """Returns what transformers' model takes of a QueryBatch: padded to its longest query."""
    lengths = (batch.offsets[1:] - batch.offsets[:-1]).tolist()
    padded = {name: torch.zeros(len(lengths), max(lengths), dtype=torch.long)
              for name in ("input_ids", "token_type_ids", "attention_mask")}
    for index, (start, length) in enumerate(zip(batch.offsets.tolist(), lengths)):
        padded["input_ids"][index, :length] = torch.from_numpy(batch.input_ids[start:start + length])
        padded["token_type_ids"][index, :length] = torch.from_numpy(batch.token_type_ids[start:start + length])
        padded["attention_mask"][index, :length] = 1
    starts, ends = torch.from_numpy(batch.targets).long().T
    return {name: tensor.to(device) for name, tensor in
            {**padded, "start_positions": starts, "end_positions": ends}.items()}


def train_with_peft(words):
    """Trains as a user of transformers and PEFT would; returns ``{step_ms, peak_memory_bytes, version, device}``."""
    import peft
    import torch
    import transformers

    arguments = event_training_arguments(words, "")
    plan = EVENTS.plan(arguments)
    device = torch.device("cuda" if arguments.device == "cuda" or (
        arguments.device == "auto" and torch.cuda.is_available()) else "cpu")
    torch.manual_seed(arguments.random_seed)
    model = transformers.BertForQuestionAnswering.from_pretrained(os.path.dirname(arguments.backbone_path))
    model = peft.get_peft_model(model, peft.LoraConfig(
        r=arguments.lora.rank, lora_alpha=arguments.lora.alpha, lora_dropout=arguments.lora.dropout,
        target_modules=list(arguments.lora.targets), modules_to_save=["qa_outputs"])).to(device).train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=arguments.lr, weight_decay=arguments.weight_decay)
    rate = schedule_of(arguments, plan.last_step)
    batches, times, begun = EVENTS.batches(arguments, plan.train_rows, 0), [], time.perf_counter()
    for step in range(1, plan.last_step + 1):
        _, _, batch = next(batches)
        loss = model(**collated(batch, torch, device)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, arguments.clip)
        for group in optimizer.param_groups:
            group["lr"] = rate(step - 1)
        optimizer.step()
        optimizer.zero_grad()
        if step % INTERVAL == 0:
            loss.item()
            times.append(1000 * (time.perf_counter() - begun) / INTERVAL)
            begun = time.perf_counter()
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    return {"step_ms": sorted(times)[len(times) // 2], "device": name, "loss": float(loss), "steps": plan.last_step,
            "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "version": f"{peft.__version__}, transformers {transformers.__version__}, torch {torch.__version__}"}


def measure(system, options, gpu):
    """Runs one system in a process of its own; returns its record.

    Raises:
        UserError: it failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        words = training_words(folder, options)
        result = Path(folder) / "result.json"
        if system == PEFT:
            command = [str(interpreter("pytorch")), __file__, "--output", str(result), "--worker", "--", *words]
        else:
            command = [str(interpreter(system)), str(ROOT / f"NLG_{system}/src/bert_eae_ft.py"), *words]
            result = Path(folder) / "work" / "train_summary.json"
        with Watch(gpu) as watch:
            process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                       stderr=subprocess.STDOUT, text=True, errors="replace")
            output, _ = process.communicate()
        if process.returncode:
            raise UserError(f"{system}: ended with status {process.returncode}; its last words: {output[-2000:]}")
        record = read_json(result, {"step_ms": float, "peak_memory_bytes": int, "version": str, "device": str})
        memory, how = watch.peak_memory(process.pid) if gpu and "CPU" not in record["device"] else (None, None)
        return {"system": system, "step_ms": record["step_ms"], "version": record["version"],
                "device": record["device"], "peak_memory_bytes": memory or record["peak_memory_bytes"],
                "memory_measured_by": how or "the process's peak", "steps": options.steps}


def table(records):
    """Returns the records as a table of Markdown, with how much faster each is than PEFT."""
    by_system = {record["system"]: record for record in records}
    lines = ["| | ms a step | times as fast | peak memory, GB |", "| --- | ---: | ---: | ---: |"]
    for system, record in by_system.items():
        factor = f"{by_system[PEFT]['step_ms'] / record['step_ms']:.2f}" if PEFT in by_system else "–"
        lines.append(f"| {NAMES.get(system, 'transformers + PEFT')} {record['version']} | {record['step_ms']:.1f} | "
                     f"{factor} | {record['peak_memory_bytes'] / 1e9:.2f} |")
    return "\n".join(lines)


def main(argv):
    """Measures every system and writes the result."""
    parser = argparse.ArgumentParser(prog="bench_events.py", description=__doc__.split("\n")[0])
    parser.add_argument("--output", required=True, help="JSON file for the result")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--steps", type=int, default=400, help="training steps of each system")
    parser.add_argument("--systems", default=",".join(SYSTEMS), help="comma-separated")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options, words = parse_before_words(parser, argv)
    if options.worker:
        write_json(options.output, train_with_peft(words))
        return
    unknown = [system for system in options.systems.split(",") if system not in SYSTEMS]
    if unknown or options.steps < 2 * INTERVAL:
        raise UserError(f"--systems {options.systems} --steps {options.steps}: expected some of {','.join(SYSTEMS)}, "
                        f"and at least {2 * INTERVAL} steps")
    gpu = find_gpu() if options.device != "cpu" else None
    records = [measure(system, options, gpu) for system in options.systems.split(",")]
    write_json(options.output, {"data": "PHEE", "model": "bert.minilm", "batch": event_training_flags("phee")
                                ["train_batch_size"], "gpu": gpu.facts if gpu else None, "systems": records})
    print(table(records))


if __name__ == "__main__":
    run_main(main)
