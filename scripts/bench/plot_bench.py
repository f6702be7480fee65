"""Draws what the benchmarks measured, from their JSON files: memory, utilisation, run times, steps per second.

    python scripts/bench/plot_bench.py [--input log/bench] [--output figure/compare]

For each model and device: ``MODEL_run_times.png``, ``MODEL_steps_per_second.png`` and ``MODEL_memory_utilisation.png``,
one bar for each program and precision; a panel without measurements is left out.
"""

import argparse
import os

from common.bench.bench_report import groups_of, label, read_cases, set_seconds, step_ms
from common.bench.cases import EVERY_ROW_LONG, LONG, NAMES, PADDED_TO_LONG, PADDED_TO_LONGEST, PEFT, PROGRAMS
from common.errors import run_main
from common.files import atomic_write
from common.frameworks import COLOURS
from common.model.model_cards import MODEL_CARDS

PEFT_COLOURS = {PADDED_TO_LONGEST: "#8a8d91", PADDED_TO_LONG: "#bfc2c6", "": "#8a8d91"}


def colour(case):
    """Returns the colour of a case's bar: one for each framework, greys for the baseline."""
    return COLOURS.get(case["system"]) or PEFT_COLOURS[case["variant"]]


def panels_of(cases):
    """Returns ``{figure: [(title, unit, [(case, value)])]}``; panels without a value are left out."""
    normal = {program: [case for case in cases if case["program"] == program and "error" not in case
                        and case["variant"] != EVERY_ROW_LONG] for program in PROGRAMS}
    long = [case for case in cases if case["variant"] == EVERY_ROW_LONG and "error" not in case]
    beam_rows = max((case.get("contexts_of_the_set", case["contexts"]) for case in normal["beam"]), default=0)

    def panel(title, unit, some, value):
        return title, unit, [(case, value(case)) for case in some if value(case) is not None]

    def gigabytes(case):
        return None if case["peak_memory_bytes"] is None else case["peak_memory_bytes"] / 1e9

    whole = [case for case in normal["beam"] if case.get("contexts_of_the_set", case["contexts"]) == beam_rows]
    figures = {
        "run_times": [
            panel("One training step", "ms", normal["train"], step_ms),
            panel("One validation pass", "s", normal["eval"], lambda case: case["seconds"]),
            panel(f"Beam search, {beam_rows} contexts", "s", whole, set_seconds)],
        "steps_per_second": [
            panel("Training", "steps per second", normal["train"], lambda case: 1000 / step_ms(case)),
            panel("Beam search", "contexts per second", normal["beam"], lambda case: case["contexts_per_second"])],
        "memory_utilisation": [
            panel("Peak memory, training", "GB", normal["train"], gigabytes),
            panel(f"Peak memory, {EVERY_ROW_LONG}", "GB", long, gigabytes),
            panel("Peak memory, beam search", "GB", normal["beam"], gigabytes),
            panel("GPU utilisation, training", "%", normal["train"], lambda case: case["utilisation"]),
            panel("GPU utilisation, beam search", "%", normal["beam"], lambda case: case["utilisation"])],
    }
    return {name: [panel for panel in panels if panel[2]] for name, panels in figures.items()}


def number(value):
    """Three digits where there are that many."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def draw_panel(axes, title, unit, bars):
    """Draws horizontal bars with their values, grouped by precision, the first on top."""
    places, precision, place = [], None, 0.0
    for case, _ in bars:
        if precision not in (None, case["precision"]):
            place += 0.6
        precision = case["precision"]
        places.append(place)
        place += 1.0
    values = [value for _, value in bars]
    drawn = axes.barh(places, values, height=0.78, color=[colour(case) for case, _ in bars])
    axes.bar_label(drawn, [number(value) for value in values], padding=3, fontsize=8)
    axes.set_yticks(places, [f"{bar_label(case)}, {case['precision']}" for case, _ in bars], fontsize=8)
    axes.set_ylim(place - 0.4, -0.6)
    axes.set_xlim(0, max(values) * 1.16 or 1.0)
    axes.set_xlabel(unit)
    axes.set_title(title, fontsize=10, loc="left")
    axes.grid(axis="x", alpha=0.25)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)


def bar_label(case):
    """Returns a short name for a bar."""
    short = {PADDED_TO_LONGEST: "longest", PADDED_TO_LONG: str(LONG)}
    if case["system"] == PEFT and case["variant"]:
        return f"{NAMES[PEFT]} ({short[case['variant']]})"
    return NAMES[case["system"]] if case["variant"] == EVERY_ROW_LONG else label(case)


def draw(path, title, panels):
    """Writes a figure of some panels, one below the other."""
    from matplotlib.figure import Figure

    heights = [0.9 + 0.26 * len(bars) for _, _, bars in panels]
    figure = Figure(figsize=(7, 0.5 + sum(heights)), layout="constrained")
    all_axes = figure.subplots(len(panels), squeeze=False, height_ratios=heights)
    for (axes,), panel in zip(all_axes, panels):
        draw_panel(axes, *panel)
    figure.suptitle(title, fontsize=11)
    with atomic_write(path, "wb") as file:
        figure.savefig(file, format="png", dpi=150)


def main(argv):
    """Draws the figures of every group of cases."""
    parser = argparse.ArgumentParser(prog="plot_bench.py", description=__doc__.split("\n")[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--input", default="log/bench", help="folder with the JSON files")
    parser.add_argument("--output", default="figure/compare", help="folder for the PNG files")
    options = parser.parse_args(argv)
    taken = {}
    for (model_card, device, data), cases in groups_of(read_cases(options.input)).items():
        name = MODEL_CARDS[model_card].folder + ("" if cases[0]["on"] == "cuda" else "_cpu")
        taken[name] = taken.get(name, 0) + 1
        suffix = f"_{taken[name]}" if taken[name] > 1 else ""
        for figure, panels in panels_of(cases).items():
            if panels:
                path = os.path.join(options.output, f"{name}{suffix}_{figure}.png")
                draw(path, f"{model_card} on {device}; {data}", panels)
                print(path)


if __name__ == "__main__":
    run_main(main)
