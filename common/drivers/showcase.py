"""What the logged trainings of both frameworks show: how far apart they are, beside the noise floor, and their scores.

``log/TASK/seed<K>/`` holds a run of both frameworks, ``log/TASK/noise_floor/`` PyTorch alone with the first values of
the first ``lora_A`` one unit in the last place up (scripts/maintain/run_showcase.py makes them).
"""

import os
import statistics
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.errors import UserError
from common.files import read_json, read_json_lines
from common.frameworks import FRAMEWORKS
from common.paths import ROOT

LOG = ROOT / "log"
REFERENCE, OTHER = FRAMEWORKS


@dataclass(frozen=True)
class Losses:
    """One training's log.

    Attributes:
        steps: ``(intervals,)`` the last step of each logged interval.
        averages: ``(intervals,)`` the mean training loss over each.
        lasts: ``(intervals,)`` the loss of each interval's last batch.
        valid_steps, valid: ``(passes,)`` the steps of the validation passes, and their losses.
    """

    steps: np.ndarray
    averages: np.ndarray
    lasts: np.ndarray
    valid_steps: np.ndarray
    valid: np.ndarray


def read_losses(folder: str | os.PathLike) -> Losses:
    """Reads ``train_log.jsonl`` of a folder.

    Raises:
        UserError: there is none.
    """
    records = [record for _, record in read_json_lines(Path(folder) / "train_log.jsonl")]
    train, valid = ([record for record in records if record["kind"] == kind] for kind in ("train", "validation"))
    return Losses(*(np.array([record[key] for record in train]) for key in ("step", "avg_loss", "loss")),
                  *(np.array([record[key] for record in valid]) for key in ("step", "loss")))


def gap(found: Losses, expected: Losses) -> np.ndarray:
    """Returns ``(intervals,)``: the relative difference of the mean training losses.

    Raises:
        UserError: the two trainings have not logged the same steps.
    """
    if not np.array_equal(found.steps, expected.steps):
        raise UserError(f"two trainings logged {len(found.steps)} and {len(expected.steps)} intervals; expected the "
                        "same steps")
    return np.abs(found.averages / expected.averages - 1.0)


def seeds_of(task: str, log: Path = LOG) -> list[Path]:
    """Returns the folders of a task's seeds.

    Raises:
        UserError: there is none.
    """
    folders = sorted((log / task).glob("seed*"))
    if not folders:
        raise UserError(f"{log / task}: no run of a seed in it; scripts/maintain/run_showcase.py makes them")
    return folders


def gaps(task: str, log: Path = LOG) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the steps ``(intervals,)``, the gap between the frameworks ``(seeds, intervals)``, and the noise floor
    ``(intervals,)``, that of PyTorch with itself."""
    pairs = [[read_losses(folder / framework) for framework in FRAMEWORKS] for folder in seeds_of(task, log)]
    floor = gap(read_losses(log / task / "noise_floor" / REFERENCE), read_losses(seeds_of(task, log)[0] / REFERENCE))
    return pairs[0][0].steps, np.stack([gap(other, reference) for reference, other in pairs]), floor


def scores(task: str, log: Path = LOG) -> dict[str, dict[str, list[float]]]:
    """Returns ``{score: {framework: [value of each seed]}}`` of the scores that results.json has intervals for."""
    documents = [read_json(folder / "results.json")["frameworks"] for folder in seeds_of(task, log)]
    return {name: {framework: [document[framework]["numbers"][name] for document in documents]
                   for framework in FRAMEWORKS} for name in documents[0][REFERENCE]["intervals"]}


def mean_and_deviation(values: list[float]) -> tuple[float, float]:
    """Returns the mean and the sample's standard deviation, 0 for one value."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def equal_outputs(task: str, log: Path = LOG) -> float:
    """Returns the smallest share, over the seeds, of test rows for which both frameworks predict the same tokens."""
    return min(read_json(folder / "results.json")["same_predictions"] for folder in seeds_of(task, log))
