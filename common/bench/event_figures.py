"""The figures of LoRA against all weights on PHEE, from what scripts/maintain/run_events.py has kept.

Rows are its TableRows; ``folder`` is ``log/eae``.
"""

import numpy as np

from common.align.differences import relative_gap
from common.bench.event_summary import ROWS_FILE, TITLES
from common.drivers.report import read_log
from common.files import atomic_write, read_json
from common.frameworks import FRAMEWORKS, NAMES


def records_of(folder, row, seed, framework, kind):
    """Returns the log lines of one kind, ``train`` or ``validation``, of a run."""
    path = folder / row.name / f"seed{seed}" / framework / "train_log.jsonl"
    return [record for record in read_log(path) if record["kind"] == kind]


def save(figure, path):
    """Writes a figure as a PNG."""
    with atomic_write(path, "wb") as file:
        figure.savefig(file, format="png", dpi=150)


def plot_rows(path, folder, rows):
    """Draws validation F1 by epoch of every row, the seeds' mean: one panel a framework."""
    from matplotlib import ticker
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.4), layout="constrained")
    panels = figure.subplots(1, len(FRAMEWORKS), sharey=True)
    for axes, framework in zip(panels, FRAMEWORKS):
        for row in rows:
            curves = [[record["scores"]["classification"]["f1"]
                       for record in records_of(folder, row, seed, framework, "validation")] for seed in row.seeds]
            points = np.mean(curves, axis=0)
            axes.plot(range(1, len(points) + 1), points, marker="o", markersize=4, label=TITLES[row.name]["en"])
        axes.set_title(NAMES[framework])
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("validation F1, role and exact span")
    panels[-1].legend(frameon=False, fontsize="small", loc="center right", bbox_to_anchor=(1, 0.6))
    save(figure, path)


def plot_gaps(path, folder, rows):
    """Draws how far both frameworks' losses are apart, by step: a line for each seed; equal losses have no point."""
    from matplotlib.figure import Figure

    rates = {record["row"]: record["rate"] for record in read_json(folder / ROWS_FILE, [{"row": str, "rate": float}])}
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for number, row in enumerate(rows):
        for seed in row.seeds:
            records = [records_of(folder, row, seed, framework, "train") for framework in FRAMEWORKS]
            first, second = (np.array([record["avg_loss"] for record in each]) for each in records)
            gaps = relative_gap(second, first)
            label = f"{TITLES[row.name]['en']}, {rates[row.name]:g}"
            axes.plot([record["step"] for record in records[0]], np.where(gaps > 0, gaps, np.nan), color=f"C{number}",
                      linewidth=0.8, label=label if seed == row.seeds[0] else None)
    axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.set_ylabel(f"relative difference of the losses\nof {NAMES[FRAMEWORKS[0]]} and {NAMES[FRAMEWORKS[1]]}")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize="small")
    save(figure, path)
