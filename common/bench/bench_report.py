"""What benchmarks measured: one line a case while they run, and Markdown tables of all the JSON files in a folder."""

import glob
import os
import statistics

from common.bench.cases import EVERY_ROW_LONG, LONG, NAMES, PADDED_TO_LONG, PADDED_TO_LONGEST, PEFT
from common.errors import UserError
from common.files import atomic_write, read_json
from common.precisions import PRECISIONS

PEFT_NOTE = ("PEFT is Hugging Face's, as a user would write it: LoRA of the same rank on `c_attn`, "
             "`torch.optim.AdamW`, GPT-2's published dropout, `generate` on merged weights; its beam search ran on "
             "some of the contexts and is extrapolated to all of them.")
MEMORY_NOTE = ("Memory is the peak of the whole process, in 10^9 bytes ({how}); \"until warm\" holds "
               "imports, model, first step and compilation or capture of everything that the steps need; kernels that "
               "an earlier run compiled are not compiled again.")


def key_of(case: dict) -> tuple:
    """Returns what makes two cases the same one."""
    return tuple(case[name] for name in ("model_card", "device", "data", "program", "system", "precision", "variant"))


def middle_round(records: list[dict]) -> dict:
    """Returns the round whose median step is the median of all, with every round's median under ``rounds``.

    Args:
        records: the rounds of one case, failed ones among them. With an even count the faster of the middle two is
            taken; where all failed, the last.
    """
    good = sorted((record for record in records if "error" not in record),
                  key=lambda record: record["ms_per_step"]["median"] if record["program"] == "train" else 0.0)
    chosen = good[(len(good) - 1) // 2] if good else records[-1]
    if len(records) == 1:
        return chosen
    rounds = [{"round": record["round"], "error": record["error"]} if "error" in record else numbers_of_round(record)
              for record in records]
    return {**chosen, "rounds": rounds}


def seconds_until_warm(case):
    """Returns the seconds from the start of the process until its first timed step."""
    return case["import_seconds"] + case["build_seconds"] + case["warm_up_seconds"]


def memory(case):
    """Returns the peak memory as text."""
    return "–" if case["peak_memory_bytes"] is None else f"{case['peak_memory_bytes'] / 1e9:.2f} GB"


def busy(case):
    """Returns the GPU's mean utilisation as text."""
    return "–" if case["utilisation"] is None else f"{case['utilisation']:.0f} %"


def label(case: dict) -> str:
    """Returns the program's name for a table."""
    return ", ".join(filter(None, (NAMES[case["system"]], case["variant"])))


def case_line(case: dict) -> str:
    """Returns one line on a case as it ends."""
    head = f"{case['program']} {label(case)} {case['precision']}"
    if case.get("round", 1) > 1:
        head += f" round {case['round']}"
    if "error" in case:
        return f"{head}: FAILED: {case['error']}"
    if case["program"] == "train":
        ms = case["ms_per_step"]
        text = (f"{ms['median']:.2f} ms per step ({ms['p10']:.2f} to {ms['p90']:.2f}; whole run "
                f"{case['ms_per_step_whole_run']:.2f})")
    elif case["program"] == "eval":
        text = f"{case['seconds']:.2f} s for {case['rows']} rows"
    else:
        text = (f"{case['seconds']:.2f} s for {case['contexts']} contexts, {case['decoding_steps']} steps, "
                f"{case['contexts_per_second']:.2f} contexts per second")
    return f"{head}: {text}; {memory(case)}, GPU {busy(case)} busy, warm after {seconds_until_warm(case):.0f} s"


def read_cases(folder: str | os.PathLike) -> list[dict]:
    """Reads the cases of all JSON files in a folder; of equal ones the latest counts.

    Raises:
        UserError: there is none.
    """
    found = {}
    cases = [case for path in sorted(glob.glob(os.path.join(glob.escape(str(folder)), "*.json")))
             for case in read_json(path).get("cases", [])]
    for case in sorted(cases, key=lambda case: case["when"]):
        if "error" not in case or key_of(case) not in found:
            found[key_of(case)] = case
    if not found:
        raise UserError(f"{folder}: no benchmark in its JSON files; bash scripts/bench.sh --output {folder} makes them")
    return list(found.values())


def groups_of(cases: list[dict]) -> dict[tuple, list[dict]]:
    """Returns ``{(model_card, device, data): [case]}``; GPUs first, then by model; the cases sorted for a table."""
    groups = {}
    order = {"variant": ("", PADDED_TO_LONGEST, PADDED_TO_LONG), "system": tuple(NAMES), "precision": PRECISIONS}

    def rank(case):
        variant = order["variant"].index(case["variant"]) if case["variant"] in order["variant"] else 9
        return (case["variant"] == EVERY_ROW_LONG, order["precision"].index(case["precision"]),
                order["system"].index(case["system"]), variant)

    for case in sorted(cases, key=lambda case: (case["on"] != "cuda", case["model_card"], case["device"], rank(case))):
        groups.setdefault((case["model_card"], case["device"], case["data"]), []).append(case)
    return groups


def peft_factor(case, cases, variant, value):
    """Returns PEFT's time over this case's, as text; "–" where there is nothing to compare."""
    if case["system"] == PEFT or case["variant"]:
        return "–"
    for other in cases:
        if other["system"] == PEFT and other["precision"] == case["precision"] and other["variant"] == variant:
            return f"{value(other) / value(case):.1f}"
    return "–"


def table_of(heads, rows):
    """Returns a Markdown table; the first two columns are text, the others numbers."""
    return "\n".join(["| " + " | ".join(heads) + " |", "| --- | --- |" + " ---: |" * (len(heads) - 2),
                      *("| " + " | ".join(row) + " |" for row in rows)])


def step_ms(case: dict) -> float:
    """Returns the milliseconds of a training step in the whole run, host work and fetching of losses included."""
    return case["ms_per_step_whole_run"]


def set_seconds(case: dict) -> float:
    """Returns the seconds of beam search over all contexts, extrapolated where only some were searched."""
    return case.get("seconds_for_the_set", case["seconds"])


def training_table(cases):
    """Returns the table of training steps."""
    heads = ["training, batch of " + str(cases[0]["batch_size"]), "precision", "ms per step, median (10 % to 90 %)",
             "whole run", "steps per second", "tokens per second", "peak memory", "GPU busy", "until warm",
             "PEFT's time / this: longest", str(LONG)]
    return table_of(heads, [[
        label(case), case["precision"],
        "{median:.2f} ({p10:.2f} to {p90:.2f})".format(**case["ms_per_step"]), f"{step_ms(case):.2f}",
        f"{1000 / step_ms(case):.1f}", f"{case['tokens_per_second']:.0f}", memory(case), busy(case),
        f"{seconds_until_warm(case):.0f} s", peft_factor(case, cases, PADDED_TO_LONGEST, step_ms),
        peft_factor(case, cases, PADDED_TO_LONG, step_ms)] for case in cases])


def validation_table(cases):
    """Returns the table of validation passes."""
    heads = [f"validation, batch of {cases[0]['batch_size']}", "precision", "rows", "seconds", "peak memory",
             "GPU busy"]
    return table_of(heads, [[label(case), case["precision"], str(case["rows"]), f"{case['seconds']:.2f}", memory(case),
                             busy(case)] for case in cases])


def beam_table(cases):
    """Returns the table of beam searches."""
    heads = [f"beam search, beam {cases[0]['beam']}, {cases[0]['eval_len']} steps at most", "precision", "contexts",
             "seconds", "contexts per second", "decoding steps", "peak memory", "GPU busy", "PEFT's time / this"]
    most = max(case.get("contexts_of_the_set", case["contexts"]) for case in cases)

    def seconds(case):
        if "seconds_for_the_set" in case:
            return f"{set_seconds(case):.0f}, from {case['contexts']} contexts"
        return f"{case['seconds']:.2f}"

    return table_of(heads, [[
        label(case), case["precision"], str(case.get("contexts_of_the_set", case["contexts"])), seconds(case),
        f"{case['contexts_per_second']:.2f}", str(case["decoding_steps"]), memory(case), busy(case),
        peft_factor(case, cases, "", set_seconds) if case["contexts"] == most else "–"] for case in cases])


def ratio_sentences(cases):
    """Returns a sentence for each pair of equal training cases of both trees: Jittor's step over PyTorch's.

    Only cases of one run are compared, for machines of a kind differ and so does what else they do.
    """
    sentences = []
    for jittor in cases:
        torch = next((case for case in cases if case["system"] == "pytorch" and jittor["system"] == "jittor"
                      and case["precision"] == jittor["precision"] and not case["variant"] and not jittor["variant"]
                      and case.get("bench_command") == jittor.get("bench_command")),
                     None)
        if torch is None:
            continue
        ratios, more = round_ratios(torch, jittor), []
        if len(ratios) > 1:
            more.append(f"{', '.join(f'{ratio:.2f}' for ratio in ratios)} in {len(ratios)} rounds, taking turns")
        if jittor["on"] == "cpu":
            processor = round_ratios(torch, jittor, "processor_ms_per_step")
            more.append(f"{statistics.median(processor):.2f} of its processor time, which other programs disturb less")
        sentences.append(f"A Jittor step takes {statistics.median(ratios):.2f} of PyTorch's time in "
                         f"{jittor['precision']}" + (f" ({'; '.join(more)})" if more else "") + ".")
    return sentences


def numbers_of_round(case):
    """Returns what a round of training keeps of a case."""
    return {"round": case["round"], "ms_per_step": case["ms_per_step"]["median"],
            "processor_ms_per_step": case["processor_ms_per_step"]}


def round_ratios(torch, jittor, name="ms_per_step"):
    """Returns Jittor's step over PyTorch's, round by round; of cases that share no round one ratio."""
    first, second = ({found["round"]: found[name] for found in case.get("rounds", []) if name in found}
                     for case in (torch, jittor))
    shared = sorted(set(first) & set(second))
    return [second[number] / first[number] for number in shared] or [
        numbers_of_round(jittor)[name] / numbers_of_round(torch)[name]]


def markdown(cases):
    """Returns the whole report."""
    parts = ["# Benchmarks"]
    for (model_card, device, data), group in groups_of(cases).items():
        good = [case for case in group if "error" not in case]
        drivers = sorted({case["driver"] for case in good if case["driver"]})
        parts.append(f"**{model_card} on {device}**" + (f", driver {', '.join(drivers)}" if drivers else "")
                     + f"; {data}; " + ", ".join(sorted({case["weights"] for case in good})) + ".")
        for program, make in (("train", training_table), ("eval", validation_table), ("beam", beam_table)):
            chosen = [case for case in good if case["program"] == program]
            if chosen:
                parts.append(make(chosen))
                parts += ratio_sentences(chosen) if program == "train" else []
        parts += [f"Failed: {case['program']} {label(case)} {case['precision']}: {case['error']}" for case in group
                  if "error" in case]
        versions = {NAMES[case["system"]]: case["environment"]["version"] for case in good}
        if versions:
            hows = sorted({case["memory_measured_by"] for case in good if case["memory_measured_by"]})
            parts.append(", ".join(f"{name} {version}" for name, version in versions.items()) + ". "
                         + MEMORY_NOTE.format(how="; ".join(hows)))
    if any(case["system"] == PEFT and "error" not in case for case in cases):
        parts.append(PEFT_NOTE)
    return "\n\n".join(parts) + "\n"


def write_table(folder: str | os.PathLike) -> str:
    """Writes table.md from the JSON files beside it and returns its text.

    Raises:
        UserError: there is no JSON file.
    """
    text = markdown(read_cases(folder))
    with atomic_write(os.path.join(folder, "table.md")) as file:
        file.write(text)
    return text
