"""The table of LoRA against all weights on PHEE, from what scripts/maintain/run_events.py has kept."""

import statistics
from collections.abc import Iterable
from pathlib import Path

from common.bench.bench_report import table_of
from common.files import read_json
from common.frameworks import FRAMEWORKS

ROWS_FILE = "rows.json"
HEADS = {
    "en": ["trained", "weights", "rate, epochs, batch", "seeds", "precision / recall / **F1**, PyTorch",
           "the same, Jittor", "ms a step", "peak memory, GiB", "checkpoint, MB", "largest loss gap (noise floor)",
           "equal spans (noise floor)"],
    "zh": ["训练的部分", "权重数", "学习率，轮数，批大小", "种子数", "精确率 / 召回率 / **F1**，PyTorch", "Jittor",
           "每步毫秒", "峰值内存，GiB", "检查点，MB", "loss 的最大差距（噪声底）", "相同的区间（噪声底）"],
}
TITLES = {  # {name of a row: {language: title}}
    "all_weights": {"en": "all weights", "zh": "全部权重"},
    "all_weights_fp64": {"en": "all weights, in float64", "zh": "全部权重，float64"},
    "all_weights_higher": {"en": "all weights, a higher rate", "zh": "全部权重，更高的学习率"},
    "lora16": {"en": "LoRA r 16, heads trained", "zh": "LoRA r 16，训练输出层"},
    "lora16_higher": {"en": "LoRA r 16, heads trained, a higher rate", "zh": "LoRA r 16，训练输出层，更高的学习率"},
    "lora8": {"en": "LoRA r 8, heads trained", "zh": "LoRA r 8，训练输出层"},
    "lora4": {"en": "LoRA r 4, heads trained", "zh": "LoRA r 4，训练输出层"},
    "lora16_frozen": {"en": "LoRA r 16, heads frozen", "zh": "LoRA r 16，冻结输出层"},
    "lora16_slow": {"en": "LoRA r 16, heads trained, full fine-tuning's rate",
                    "zh": "LoRA r 16，训练输出层，全量微调的学习率"},
    "lora16_frozen_slow": {"en": "LoRA r 16, heads frozen, full fine-tuning's rate",
                           "zh": "LoRA r 16，冻结输出层，全量微调的学习率"},
}
SHAPE = [{"row": str, "weights": int, "rate": float, "flags": {"max_epoch": int, "train_batch_size": int},
          "seeds": [int], "scores": {str: [{str: float}]}, "step_ms": {str: (float, None)},
          "peak_memory_gib": {str: (float, None)}, "checkpoint_mb": float, "largest_loss_gap": float,
          "equal_spans": float, "floor_loss_gap": (float, None), "floor_equal_spans": (float, None)}]


def mean_of(values: Iterable[float]) -> str:
    """Returns the mean as text, with the standard deviation where there are several."""
    values = list(values)
    more = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{more}"


def pair_of(numbers: dict[str, float | None], decimals: int) -> str:
    """Returns both frameworks' numbers as text."""
    return " / ".join("–" if numbers[framework] is None else f"{numbers[framework]:.{decimals}f}"
                      for framework in FRAMEWORKS)


def with_floor(number: float, floor: float | None, form: str) -> str:
    """Returns a number as text and, where it was measured, its noise floor in brackets."""
    return f"{number:{form}}" + ("" if floor is None else f" ({floor:{form}})")


def events_table(folder: Path, language: str) -> str:
    """Returns a Markdown table with a line for each way to train, ``language`` is ``en`` or ``zh``.

    Args:
        folder: ``log/eae``.

    Raises:
        UserError: there are no results, or they have another layout.
    """
    lines = []
    for row in read_json(Path(folder) / ROWS_FILE, SHAPE):
        parts = [[mean_of(scores[f"classification_{part}"] for scores in row["scores"][framework])
                  for part in ("precision", "recall", "f1")] for framework in FRAMEWORKS]
        lines.append([TITLES[row["row"]][language], f"{row['weights']:,}",
                      f"{row['rate']:g}, {row['flags']['max_epoch']}, {row['flags']['train_batch_size']}",
                      str(len(row["seeds"])),
                      *(f"{precision} / {recall} / **{f1}**" for precision, recall, f1 in parts),
                      pair_of(row["step_ms"], 1), pair_of(row["peak_memory_gib"], 2), f"{row['checkpoint_mb']:.1f}",
                      with_floor(row["largest_loss_gap"], row["floor_loss_gap"], ".1e"),
                      with_floor(row["equal_spans"], row["floor_equal_spans"], ".2%")])
    return table_of(HEADS[language], lines)
