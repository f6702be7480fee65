"""Draws the figures and writes the sheets of the logged trainings: python scripts/maintain/plot_showcase.py

``figure/loss/loss_TASK.png``: training and validation loss of the first seed, both frameworks. ``all_loss_TASK.png``:
all seeds as a band, and below it the gap between the frameworks beside the noise floor, on a log axis.
``figure/compare/TASK.png``: scores side by side, with 95 % intervals. ``figure/sheet/TASK.md`` and ``.png``: mean and
standard deviation over the seeds, the difference, and how likely chance makes one as large. All of it is made from
``log/`` alone, so that a second run changes nothing.
"""

import argparse

import numpy as np
from matplotlib.figure import Figure

from common.drivers.report import format_difference, format_number, plot_losses
from common.drivers.showcase import LOG, gap, gaps, mean_and_deviation, read_losses, scores, seeds_of
from common.drivers.tasks import TASKS
from common.errors import UserError, run_main
from common.files import atomic_write, read_json
from common.frameworks import COLOURS, FRAMEWORKS, NAMES
from common.paths import ROOT

FIGURE = ROOT / "figure"
FLOOR_COLOUR = "#777777"


def save(figure, name):
    """Writes a figure without the date that matplotlib would put in."""
    path = FIGURE / name
    with atomic_write(path, "wb") as file:
        figure.savefig(file, format="png", dpi=150, metadata={"Software": None})
    print(path.relative_to(ROOT))


def finish(axes, title="", xlabel="", ylabel=""):
    """Gives axes their words and takes off what is not needed."""
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def draw_band(axes, steps, rows, colour, label, line="-"):
    """Draws the mean of several curves, and their range as a band."""
    axes.plot(steps, rows.mean(axis=0), color=colour, linestyle=line, linewidth=1.3, label=label)
    axes.fill_between(steps, rows.min(axis=0), rows.max(axis=0), color=colour, alpha=0.2, linewidth=0)


def draw_all_losses(task):
    """Draws all seeds of both frameworks, and the gap between them beside the noise floor."""
    steps, between, floor = gaps(task)
    figure = Figure(figsize=(7, 6.4), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    for framework, line in zip(FRAMEWORKS, ("-", (0, (4, 3)))):
        rows = np.stack([read_losses(folder / framework).averages for folder in seeds_of(task)])
        draw_band(upper, steps, rows, COLOURS[framework], NAMES[framework], line)
    finish(upper, f"{TASKS[task].title}, gpt2-nano, seeds: {len(between)}", ylabel="training loss (nats per token)")
    upper.legend(frameon=False)
    # A gap of 0 has no place on a log axis: two averages that are the same float64 number are drawn at its precision.
    smallest = 1e-17
    draw_band(lower, steps, np.maximum(between, smallest), COLOURS["jittor"], "Jittor against PyTorch, same seed")
    lower.plot(steps, np.maximum(floor, smallest), color=FLOOR_COLOUR, linewidth=1.0,
               label="noise floor: PyTorch against itself, one unit in the last place apart")
    lower.set_yscale("log")
    lower.set_ylim(1e-10, max(1e-5, 2 * between.max(), 2 * floor.max()))
    finish(lower, xlabel="training step", ylabel="relative gap of the mean losses")
    lower.legend(frameon=False)
    save(figure, f"loss/all_loss_{task}.png")


def draw_scores(task):
    """Draws the first seed's scores of both frameworks side by side, each in a panel of its own, with intervals."""
    documents = read_json(seeds_of(task)[0] / "results.json")["frameworks"]
    names = list(documents[FRAMEWORKS[0]]["intervals"])
    columns = min(5, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(2.2 * columns, 2.4 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes, name in zip(panels.flat, names):
        for position, framework in enumerate(FRAMEWORKS):
            value = documents[framework]["numbers"][name]
            low, high = documents[framework]["intervals"][name]
            axes.bar(position, value, color=COLOURS[framework], alpha=0.85)
            axes.errorbar(position, value, [[value - low], [high - value]], color="black", capsize=3, linewidth=1)
        finish(axes, name.replace(" (", "\n("))
        axes.title.set_fontsize(8)
        axes.set_xticks(range(len(FRAMEWORKS)), [NAMES[framework] for framework in FRAMEWORKS], fontsize=7)
        axes.tick_params(axis="y", labelsize=7)
    for axes in panels.flat[len(names):]:
        axes.set_visible(False)
    figure.suptitle(f"{TASKS[task].title}, gpt2-nano, seed 110: scores with 95 % intervals")
    save(figure, f"compare/{task}.png")


def paired_p(differences):
    """Returns how likely chance makes a mean difference as large, by turning the sign of each seed's (an exact test).

    With three seeds it is 1/4 at least; 1 where all differences are 0.
    """
    signs = np.array(np.meshgrid(*[(1, -1)] * len(differences))).reshape(len(differences), -1)
    sums = np.abs(np.array(differences) @ signs)
    return float((sums >= abs(sum(differences)) - 1e-12).mean())


def sheet_rows(task):
    """Returns the cells of each score: name, both means with deviations, difference, p."""
    rows = []
    for name, found in scores(task).items():
        cells = [" ± ".join(map(format_number, mean_and_deviation(found[framework]))) for framework in FRAMEWORKS]
        differences = [other - reference for reference, other in zip(*(found[framework] for framework in FRAMEWORKS))]
        mean = sum(differences) / len(differences)
        rows.append([name, *cells, format_difference(mean), f"{paired_p(differences):.2f}"])
    return rows


def write_sheet(task):
    """Writes the table of means over seeds as Markdown and as a picture."""
    heads = ["", *(NAMES[framework] for framework in FRAMEWORKS), "difference", "p"]
    rows = sheet_rows(task)
    title = f"{TASKS[task].title}, gpt2-nano: mean ± standard deviation over the seeds ({len(seeds_of(task))})"
    lines = [f"# {title}", "", "| " + " | ".join(heads) + " |", "| --- |" + " ---: |" * 4,
             *("| " + " | ".join(row) + " |" for row in rows), "",
             "The difference is Jittor's minus PyTorch's; p is that of an exact test that turns the signs of the "
             "seeds' differences."]
    with atomic_write(FIGURE / "sheet" / f"{task}.md") as file:
        file.write("\n".join(lines) + "\n")
    figure = Figure(figsize=(8.5, 0.6 + 0.27 * len(rows)), layout="constrained")
    axes = figure.subplots()
    axes.axis("off")
    axes.set_title(title, fontsize=10)
    table = axes.table(cellText=rows, colLabels=heads, bbox=(0, 0, 1, 1), colWidths=[0.42, 0.2, 0.2, 0.11, 0.07])
    table.auto_set_font_size(False)
    table.set_fontsize(8)
    for (_, column), cell in table.get_celld().items():
        cell.set_linewidth(0.3)
        cell.get_text().set_horizontalalignment("left" if column == 0 else "right")
    save(figure, f"sheet/{task}.png")


def draw_control(name, title, reference, curves):
    """Draws gaps to a reference training: ``curves`` is ``{label: (folder, colour)}``."""
    expected = read_losses(reference)
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    for label, (folder, colour) in curves.items():
        axes.plot(expected.steps, np.maximum(gap(read_losses(folder), expected), 1e-17), color=colour, linewidth=1.2,
                  label=label)
    axes.set_yscale("log")
    axes.set_ylim(bottom=1e-10)
    finish(axes, title, "training step", "relative gap of the mean losses")
    axes.legend(frameon=False)
    save(figure, name)


def main(argv):
    parser = argparse.ArgumentParser(prog="plot_showcase.py", description=__doc__.split("\n")[0])
    parser.parse_args(argv)
    tasks = [task for task in TASKS if (LOG / task).is_dir()]
    if not tasks:
        raise UserError(f"{LOG}: no task's folder in it; scripts/maintain/run_showcase.py --stages keep makes them")
    for task in tasks:
        first = seeds_of(task)[0]
        (FIGURE / "loss").mkdir(parents=True, exist_ok=True)
        plot_losses(FIGURE / "loss" / f"loss_{task}.png", first, FRAMEWORKS,
                    f"{TASKS[task].title}, gpt2-nano, {first.name.replace('seed', 'seed ')}")
        draw_all_losses(task)
        draw_scores(task)
        write_sheet(task)
    floor = {"noise floor: PyTorch against itself": FLOOR_COLOUR}
    for name, title, run in (("loss/past_the_edge.png", "E2E at a rate of 3e-3, without dropout: past the edge",
                              "past_the_edge"),
                             ("loss/medium.png", "GPT-2 medium, random weights, E2E rows, batch 8", "medium")):
        draw_control(name, title, LOG / "e2e" / run / "pytorch", {
            "Jittor against PyTorch": (LOG / "e2e" / run / "jittor", COLOURS["jittor"]),
            **{label: (LOG / "e2e" / f"{run}_noise_floor" / "pytorch", colour) for label, colour in floor.items()}})


if __name__ == "__main__":
    run_main(main)
