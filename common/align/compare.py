"""Two dumps, point by point: forward pass, loss, backward pass, optimiser, training steps, beam search."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from common.align.bounds import EDGE, EDGE_NOTE, FLOOR_FACTOR, SIGNIFICANDS, TIE, Bound, bound_of
from common.align.causes import Cause, check_flags, find_causes
from common.align.differences import Difference, difference, relative_gap
from common.align.dump import Dump
from common.align.trace import LOGITS, operation_title
from common.frameworks import NAMES


@dataclass(frozen=True)
class Point:
    """One point of a comparison.

    Attributes:
        name: for tables.
        what: what was compared, in words.
        measured: the largest difference.
        bound: what it may be.
        at: where it is, in words; empty where all are 0.
        first: the first operation, gradient, weight, step or context beyond the bound, in words; empty where none is.
        note: what else a reader should know.
        differences: of all arrays, in order.
    """

    name: str
    what: str
    measured: float
    bound: float
    at: str = ""
    first: str = ""
    note: str = ""
    differences: list[Difference] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return not self.first


@dataclass(frozen=True)
class Comparison:
    """Two dumps compared.

    Attributes:
        first, second: what the dumps say of themselves.
        causes: list of Cause.
        points: list of Point; "forward, single-step" is among them where one dump has the other one's inputs.
        curves: ``{"gap", "floor", "allowed"}``, each ``(steps,)``: the relative distance of the losses of the two
            dumps, the larger one of either dump's two trainings, and what the gap may be.
    """

    first: dict
    second: dict
    causes: list[Cause]
    points: list[Point]
    curves: dict[str, np.ndarray]

    @property
    def passed(self) -> bool:
        return all(each.passed for each in [*self.causes, *self.points])

    @property
    def first_operation(self) -> str:
        """The first thing beyond its bound, in words; single-step mode, which nothing adds up in, is asked first."""
        order = sorted(self.points, key=lambda point: point.name != SINGLE_STEP)
        return next((f"{point.first} ({point.name})" for point in order if not point.passed), "")


SINGLE_STEP = "forward, single-step"


def compare(first: Dump, second: Dump) -> Comparison:
    """Compares two dumps, the first of which is the reference.

    Raises:
        UserError: they were written with different flags.
    """
    check_flags(first, second.meta["flags"], second.path)
    precision = first.meta["flags"]["precision"]
    points = [forward(first, second, precision), *single_step(first, second, precision), loss(first, second, precision),
              backward(first, second, precision), optimiser(first, second, precision)]
    curves = loss_curves(first, second, precision)
    points += [steps(curves, precision), weights(first, second, precision), beam(first, second, precision)]
    return Comparison(first.meta, second.meta, find_causes(first, second), points, curves)


def point_of(name: str, what: str, differences: list[Difference], bounds: Iterable[Bound], titles: Iterable[str],
             note: str = "") -> Point:
    """Returns the Point of some differences, each with its bound and its title.

    Of differences with several bounds, the one that is largest in terms of its own is the point's.
    """
    measured = [(getattr(each, bound.measure), bound.value, title)
                for each, bound, title in zip(differences, bounds, titles, strict=True)]
    value, bound, at = max(measured, key=lambda entry: entry[0] / entry[1])
    first = next((title for value, bound, title in measured if not value <= bound), "")
    return Point(name, what, value, bound, at if value else "", first, note, differences)


def differences_of(names: Iterable[str], first: Dump, prefix: str, second: Dump,
                   other_prefix: str) -> Iterator[Difference]:
    """Yields the Difference of each array, infinite where one of the dumps has none of that name."""
    for name in names:
        one, other = first.get(prefix + name), second.get(other_prefix + name)
        yield difference(name, np.zeros(0) if one is None else one, np.zeros(1) if other is None else other)


def united(*lists: list[str]) -> list[str]:
    """Returns the names of all lists, each once, in the first list's order."""
    return list(dict.fromkeys(name for names in lists for name in names))


def forward(first: Dump, second: Dump, precision: str) -> Point:
    """Every operation's output in one forward pass of training."""
    names = united(first.names("forward/"), second.names("forward/"))
    differences = list(differences_of(names, first, "forward/", second, "forward/"))
    return point_of("forward", f"{len(names) - 1} operations and the logits", differences,
                    [bound_of("forward", precision)] * len(names), map(operation_title, names))


def single_step(first: Dump, second: Dump, precision: str) -> list[Point]:
    """Every operation's output from the other dump's inputs; no point where neither dump has been made so."""
    for given, made in ((first, second), (second, first)):
        if made.names("single/") and made.meta["inputs"] == given.sha256():
            names = united(given.names("forward/"), made.names("single/"))
            differences = list(differences_of(names, given, "forward/", made, "single/"))
            source = NAMES[given.meta["description"]["framework"]]
            return [point_of(SINGLE_STEP, f"the same, each from {source}'s inputs", differences,
                             [bound_of("single", precision)] * len(names), map(operation_title, names))]
    return []


def loss(first: Dump, second: Dump, precision: str) -> Point:
    """The loss of that forward pass."""
    return point_of("loss", "of that pass", [difference("loss", first["loss/forward"], second["loss/forward"])],
                    [bound_of("loss", precision)], ["the loss"])


def backward(first: Dump, second: Dump, precision: str) -> Point:
    """Gradients of that loss, from the logits down: of every operation's output and of LoRA's weights."""
    names = united(first.names("backward/"), second.names("backward/"))
    passed = set(first.names("forward/"))
    operations, parameters = ([name for name in names if (name in passed) == is_passed] for is_passed in (True, False))
    # The gradient of an array is what the backward pass of the operation behind it gives.
    behind = dict(zip(operations, [*operations[1:], LOGITS]))
    order = [*reversed(operations), *reversed(parameters)]
    titles = [f"the gradient through {operation_title(behind[name])}" if name in behind else f"the gradient of {name}"
              for name in order]
    return point_of("backward", f"{len(operations)} operations, {len(parameters)} LoRA gradients",
                    list(differences_of(order, first, "backward/", second, "backward/")),
                    [bound_of("gradient", precision)] * len(order), titles)


def optimiser(first: Dump, second: Dump, precision: str) -> Point:
    """Moments and weights after one update at the full rate."""
    names = united(first.names("optimiser/"), second.names("optimiser/"))
    kinds = {"first_moment": "first moment", "second_moment": "second moment", "change": "change"}
    parts = [name.split("/") for name in names]
    return point_of("optimiser", "moments and weights after one update",
                    list(differences_of(names, first, "optimiser/", second, "optimiser/")),
                    [bound_of("change" if kind == "change" else "moment", precision) for kind, _ in parts],
                    [f"the {kinds[kind]} of {parameter}" for kind, parameter in parts])


def loss_curves(first: Dump, second: Dump, precision: str) -> dict[str, np.ndarray]:
    """Returns the gap between two dumps' losses, the noise floor and what is allowed, each ``(steps,)``."""
    floor = np.maximum(*(relative_gap(dump["steps/losses"], dump["steps/nudged_losses"]) for dump in (first, second)))
    allowed = np.maximum(bound_of("steps", precision).value, FLOOR_FACTOR * np.maximum.accumulate(floor))
    return {"gap": relative_gap(first["steps/losses"], second["steps/losses"]), "floor": floor, "allowed": allowed}


def times(value: float, floor: float) -> str:
    """Returns a value in terms of the noise floor."""
    return f"{value / floor:.1f} times the noise floor, {floor:.1e}" if floor else "the noise floor is 0"


def steps(curves: dict[str, np.ndarray], precision: str) -> Point:
    """The losses of a training, against what one unit in the last place makes of them."""
    gap, floor, allowed = curves["gap"], curves["floor"], curves["allowed"]
    beyond = np.flatnonzero(~(gap <= allowed))
    edge = max(EDGE, bound_of("steps", precision).value)
    return Point("steps", f"losses of {len(gap)} steps", gap.max(), allowed[-1],
                 f"step {gap.argmax() + 1}" if gap.any() else "", f"step {beyond[0] + 1}" if len(beyond) else "",
                 times(gap.max(), floor.max()) + (f"; {EDGE_NOTE}" if floor.max() > edge else ""))


def weights(first: Dump, second: Dump, precision: str) -> Point:
    """LoRA's weights behind the last step, likewise."""
    names = united(first.names("steps/weights/"), second.names("steps/weights/"))
    differences = list(differences_of(names, first, "steps/weights/", second, "steps/weights/"))
    floor = max(each.rms for dump in (first, second)
                for each in differences_of(names, dump, "steps/weights/", dump, "steps/nudged_weights/"))
    bound = bound_of("weights", precision)
    # What one update differs by is rounding, another one at each step: over n of them it grows as sqrt(n), they as n.
    few_steps = bound_of("change", precision).value / np.sqrt(len(first["steps/losses"]))
    allowed = replace(bound, value=max(bound.value, few_steps, FLOOR_FACTOR * floor))
    largest = max(each.rms for each in differences)
    return point_of("weights", "LoRA's weights behind them", differences, [allowed] * len(names), names,
                    times(largest, floor))


def beam(first: Dump, second: Dump, precision: str) -> Point:
    """Outputs of a beam search and their scores; another output whose score is nearly the same is a tie.

    In 16-bit and tf32 products rounding alone leads to other outputs: they are counted, and the equal ones' scores
    judged.
    """
    one, other = (dump["beam/scores"] for dump in (first, second))
    if one.shape != other.shape:
        return Point("beam", f"outputs of {len(one)} contexts", np.inf, 0.0, "", f"context {len(one) + 1}",
                     f"the other search has {len(other)} contexts")
    is_equal = (first["beam/tokens"] == second["beam/tokens"]).all(axis=1)
    gap = np.abs(one - other)
    is_tie = ~is_equal & (gap < TIE)
    bound = bound_of("scores", precision)
    judged = np.where(is_equal, gap, 0.0) if precision in SIGNIFICANDS else gap
    beyond = np.flatnonzero(~(judged <= bound.value) | ~(is_equal | is_tie | (precision in SIGNIFICANDS)))
    note = f"{is_equal.sum()} outputs are equal" + "".join(
        f"; context {index + 1} is a tie, margin {gap[index]:.1e}" for index in np.flatnonzero(is_tie))
    return Point("beam", f"scores and outputs of {len(gap)} contexts", judged.max(), bound.value,
                 f"context {judged.argmax() + 1}" if judged.any() else "",
                 f"context {beyond[0] + 1}" if len(beyond) else "", note)
