"""A comparison as text: one line a point, a Markdown report, JSON, and a figure of the gap beside the noise floor."""

import dataclasses
import math
import os
import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from common.align.bounds import BOUNDS, FLOOR_REASON, bound_of
from common.align.causes import Cause
from common.align.compare import Comparison, Point
from common.align.differences import Difference
from common.files import atomic_write, write_json
from common.frameworks import COLOURS, NAMES

NAME_OF_REPORT, NAME_OF_NUMBERS, NAME_OF_FIGURE = "report.md", "comparison.json", "loss_gap.png"
FLOOR_COLOUR = "#8a8d91"


def write_report(folder: str | os.PathLike, comparison: Comparison) -> str:
    """Writes report.md, comparison.json and loss_gap.png into a folder; returns the lines for the terminal.

    Raises:
        UserError: a file cannot be written.
    """
    with atomic_write(os.path.join(folder, NAME_OF_REPORT)) as file:
        file.write(markdown(comparison))
    write_json(os.path.join(folder, NAME_OF_NUMBERS), plain({
        "passed": comparison.passed, "first_operation": comparison.first_operation,
        "dumps": [{key: dump[key] for key in ("description", "versions", "flags")}
                  for dump in (comparison.first, comparison.second)],
        "causes": [{**dataclasses.asdict(cause), "passed": cause.passed} for cause in comparison.causes],
        "points": [{**dataclasses.asdict(point), "passed": point.passed} for point in comparison.points],
        "curves": comparison.curves}))
    draw(os.path.join(folder, NAME_OF_FIGURE), comparison)
    return text(comparison)


def plain(value: Any) -> Any:
    """Returns a value that JSON has: lists for arrays, and a word for what is not finite."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def title(comparison: Comparison) -> str:
    """Returns what was compared, in words."""
    names = [NAMES[dump["description"]["framework"]] for dump in (comparison.first, comparison.second)]
    flags = comparison.first["flags"]
    return f"{names[1]} against {names[0]}: {flags['model_card']}, {flags['steps']} steps, {flags['precision']}"


def verdict(part: Cause | Point) -> str:
    return "passed" if part.passed else "FAILED"


def conclusion(comparison: Comparison) -> str:
    """Returns the result in one sentence, causes first."""
    cause = next((cause for cause in comparison.causes if not cause.passed), None)
    before = "" if cause is None else (f"The runs do not start from the same: {cause.name}, first {cause.first}. "
                                       "What else differs may come of that. ")
    if comparison.first_operation:
        return f"{before}The first that differs beyond its bound: {comparison.first_operation}."
    return before + "All points are within their bounds."


def text(comparison: Comparison) -> str:
    """Returns the lines for the terminal: one a cause, one a point, and the conclusion."""
    lines = [title(comparison)]
    lines += [f"{verdict(cause)}  {cause.name}: {cause.count}" + (f"; first: {cause.first}" if cause.first else "")
              for cause in comparison.causes]
    lines += [f"{verdict(point)}  {point.name}: {point.measured:.1e}, allowed {point.bound:.1e}; {point.what}"
              + (f"; first: {point.first}" if point.first else "") + (f"; {point.note}" if point.note else "")
              for point in comparison.points]
    return "\n".join([*lines, conclusion(comparison)])


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """Returns the lines of a Markdown table, with an empty one behind it."""
    header = list(header)
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)] + [""]


def markdown(comparison: Comparison) -> str:
    """Returns the report's text."""
    dumps = comparison.first, comparison.second
    lines = [f"# {title(comparison)}", "", conclusion(comparison), ""]
    lines += table(["framework", "version", "device", "Python", "numpy"], [
        (NAMES[dump["description"]["framework"]], dump["description"]["version"], dump["description"]["device"],
         dump["versions"]["Python"], dump["versions"]["numpy"]) for dump in dumps])
    lines += ["## What both start from", ""]
    lines += table(["what", "how many", "", "first that differs"],
                   [(cause.name, cause.count, verdict(cause), cause.first) for cause in comparison.causes])
    lines += ["## What both compute", ""]
    lines += table(["point", "what", "largest", "allowed", "", "where", "first beyond its bound", ""], [
        (point.name, point.what, f"{point.measured:.1e}", f"{point.bound:.1e}", verdict(point), point.at, point.first,
         point.note) for point in comparison.points])
    lines += [f"![gap of the losses beside the noise floor]({NAME_OF_FIGURE})", "",
              "The noise floor is how far a framework's losses differ from its own, of a training in which the first "
              "`lora_A` began one unit in the last place higher; the larger one of both frameworks' counts. Lines are "
              "the largest so far; steps with equal losses lie at the bottom.", ""]
    for point in comparison.points:
        if len(point.differences) > 1:
            lines += [f"## Arrays: {point.name}", "", *differences_table(point.differences)]
    lines += ["## Bounds", "", *table(
        ["of", "in float32", "in float64", "else, in units of the factors", "measure", "why, in float32"],
        [(name, f"{bound.value:.1e}", f"{bound_of(name, 'fp64').value:.1e}", str(bound.units), bound.measure,
          bound.reason) for name, bound in BOUNDS.items()])]
    lines += [FLOOR_REASON, "", "## Flags", "", "```"]
    lines += [f"--{name} {value}" for name, value in comparison.first["flags"].items()]
    return "\n".join([*lines, "```"]) + "\n"


def differences_table(differences: list[Difference]) -> list[str]:
    """Returns the lines of a table of the largest differences of each kind of array, over all layers."""
    kinds: dict[str, list[Difference]] = {}
    for each in differences:
        kinds.setdefault(re.sub(r"\.\d+\.", ".*.", each.name), []).append(each)
    return table(["array", "count", "largest", "relative to the largest element", "relative, root mean square",
                  "1 - cosine", "units in the last place"], [
        (f"`{kind}`", str(len(some)), *(f"{max(getattr(each, name) for each in some):.1e}"
                                        for name in ("max_abs", "relative", "rms")),
         f"{max(1 - each.cosine for each in some):.1e}", str(max(each.ulps for each in some)))
        for kind, some in kinds.items()])


def draw(path: str | os.PathLike, comparison: Comparison) -> None:
    """Draws the gap between the losses over the steps beside the noise floor, each with its largest so far; a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    curves = (("gap", COLOURS[comparison.second["description"]["framework"]], "between the dumps"),
              ("floor", FLOOR_COLOUR, "noise floor"))
    smallest = np.concatenate([curve[curve > 0] for curve in comparison.curves.values()]).min(initial=1e-6)
    for name, colour, label in curves:
        curve = comparison.curves[name]
        numbers = np.arange(1, len(curve) + 1)
        # A log axis has no 0: steps with equal losses lie at its bottom.
        axes.plot(numbers, np.maximum(curve, smallest / 2), ".", color=colour, alpha=0.45, markersize=4)
        axes.plot(numbers, np.maximum(np.maximum.accumulate(curve), smallest / 2), color=colour, linewidth=1.6,
                  label=f"{label}: {curve.max():.1e} at most")
    allowed = comparison.curves["allowed"]
    axes.plot(np.arange(1, len(allowed) + 1), allowed, color="black", linewidth=0.9, linestyle=(0, (5, 4)),
              label=f"allowed: {allowed[-1]:.1e} at the end")
    axes.set_yscale("log")
    axes.set_xlabel("training step")
    axes.set_ylabel("relative difference of the loss")
    axes.set_title(title(comparison), fontsize=10)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    with atomic_write(path, "wb") as file:
        figure.savefig(file, format="png", dpi=150)
