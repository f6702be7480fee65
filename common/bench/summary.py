"""The two tables of README.md and README_zh.md: what the logged runs reached, and how fast the programs are."""

from pathlib import Path

from common.bench.bench_report import groups_of, read_cases, set_seconds, table_of
from common.bench.cases import PADDED_TO_LONGEST, PEFT, PROGRAMS
from common.drivers import showcase
from common.drivers.tasks import TASKS
from common.errors import UserError
from common.files import read_json
from common.frameworks import FRAMEWORKS

# For the title of each task, in the order of the table: the score that stands for all, and the factor that makes it
# one from 0 to 100.
HEADLINES = {"E2E": ("BLEU (all references)", 100), "WebNLG": ("BLEU, all categories (all references)", 1),
             "DART": ("BLEU (all references)", 1), "SQuAD v1.1": ("F1", 1)}
WORDS = {
    "en": {"runs": ["run", "steps, learning rate", "validation loss: PyTorch", "Jittor", "score: PyTorch", "Jittor",
                    "same outputs"],
           "alignment": ["", "largest gap of the training loss", "noise floor", "same outputs", "score: PyTorch",
                         "Jittor"],
           "medium": "GPT-2 medium, {steps} steps from random weights", "seeds": "{}, gpt2-nano, seeds: {}",
           "speed": ["", "precision", "PyTorch", "Jittor", "Hugging Face PEFT"],
           "train": "training step, batch of {batch_size}, ms", "eval": "validation, {rows} rows, s",
           "beam": "beam search, beam {beam}, {contexts} inputs, s", "group": "**{} on {}**, measured on {}"},
    "zh": {"runs": ["运行", "步数、学习率", "验证集 loss：PyTorch", "Jittor", "得分：PyTorch", "Jittor", "输出相同"],
           "alignment": ["", "训练 loss 的最大差距", "噪声底", "输出相同", "得分：PyTorch", "Jittor"],
           "medium": "GPT-2 medium，从随机权重训练 {steps} 步", "seeds": "{}，gpt2-nano，种子数：{}",
           "speed": ["", "精度", "PyTorch", "Jittor", "Hugging Face PEFT"],
           "train": "训练一步，batch 为 {batch_size}，毫秒", "eval": "验证，{rows} 行，秒",
           "beam": "束搜索，beam 为 {beam}，{contexts} 个输入，秒", "group": "**{}，{}**，测于 {}"},
}


def task_of(results):
    """Returns the task's title, with which that of a run begins."""
    return results["title"].split(",")[0]


def short_name(score):
    """Returns a score's name without what it was computed on."""
    return score.split(" (")[0].split(",")[0]


def run_cells(results, path):
    """Returns the cells of one run's line from its results.json; see runs_table."""
    task = task_of(results)
    if task not in HEADLINES:
        raise UserError(f"{path}: the title {results['title']!r} begins with none of {', '.join(HEADLINES)}: say in "
                        "common/bench/summary.py which score stands for this task")
    score, scale = HEADLINES[task]
    try:
        first, second = (results["frameworks"][name] for name in FRAMEWORKS)
        losses = [f"{run['numbers']['validation loss']:.4f}" for run in (first, second)]
        scores = [f"{scale * run['numbers'][score]:.2f}" for run in (first, second)]
        return [f"{first['description']['steps']}, {first['arguments']['lr']:g}", *losses,
                f"{short_name(score)} {scores[0]}", scores[1], f"{results['same_predictions']:.1%}"]
    except KeyError as missing:
        raise UserError(f"{path}: no {missing}, expected a run of both frameworks that has it") from None


def alignment_table(log: Path, language: str) -> str:
    """Returns a Markdown table of how far apart both frameworks' trainings are; a line for each task.

    The gap is the largest relative difference of the mean loss of a logged interval, over all seeds; the noise floor is
    that of PyTorch with itself, one unit in the last place apart. Scores are means over the seeds, ± their standard
    deviation.

    Raises:
        UserError: a log is missing.
    """
    words, lines = WORDS[language], []
    for task in TASKS:
        title = TASKS[task].title
        _, between, floor = showcase.gaps(task, log)
        score, scale = HEADLINES[title]
        found = showcase.scores(task, log)[score]
        cells = [" ± ".join(f"{scale * number:.2f}" for number in showcase.mean_and_deviation(found[framework]))
                 for framework in FRAMEWORKS]
        name = f"[{words['seeds'].format(title, len(between))}](figure/sheet/{task}.md)"
        lines.append([name, *(f"{each.max():.1e}" for each in (between, floor)),
                      f"{showcase.equal_outputs(task, log):.1%}", f"{short_name(score)} {cells[0]}", cells[1]])
    medium = [showcase.read_losses(log / "e2e" / name) for name in
              ("medium/pytorch", "medium/jittor", "medium_noise_floor/pytorch")]
    lines.append([words["medium"].format(steps=int(medium[0].steps[-1])),
                  *(f"{showcase.gap(other, medium[0]).max():.1e}" for other in medium[1:]), "–", "–", "–"])
    return table_of(words["alignment"], lines)


def runs_table(log: Path, language: str) -> str:
    """Returns a Markdown table with a line for each ``log/RUN/results.json`` and the first seed's of each task.

    A run that has a ``note``, ``{language: sentence}``, gets a mark; the sentences follow the table, each once.

    Args:
        log: folder of the logged runs.
        language: ``en`` or ``zh``.

    Raises:
        UserError: a run's title begins with no task of HEADLINES, or it lacks a framework or a number.
    """
    runs = []
    paths = [*Path(log).glob("*/results.json"), *Path(log).glob("*/seed110/results.json")]
    for path in sorted(paths):
        results = read_json(path)
        runs.append((path.parent.relative_to(log), results, run_cells(results, path)))
    runs.sort(key=lambda run: list(HEADLINES).index(task_of(run[1])))
    lines, notes = [], []
    for folder, results, cells in runs:
        label, note = f"[{results['title']}](log/{folder}/table.md)", results.get("note", {}).get(language)
        if note:
            notes += [note] * (note not in notes)
            label += " " + "\\*" * (notes.index(note) + 1)
        lines.append([label, *cells])
    table = table_of(WORDS[language]["runs"], lines)
    return "\n\n".join([table, *("\\*" * number + " " + note for number, note in enumerate(notes, 1))])


def speed_cell(case):
    """Returns a case's time, of a training step the median, and the peak memory of its process."""
    time = {"train": lambda: case["ms_per_step"]["median"], "eval": lambda: case["seconds"],
            "beam": lambda: set_seconds(case)}[case["program"]]()
    return f"{time:.2f} ({case['peak_memory_bytes'] / 1e9:.2f} GB)"


def speed_table(bench: Path, language: str) -> str:
    """Returns a Markdown table for each model and device that ``scripts/bench.sh`` measured; language as above.

    PEFT's training steps are those of batches that are padded to their longest row.

    Raises:
        UserError: the folder holds no benchmark.
    """
    words, parts = WORDS[language], []
    for (model_card, device, _), group in groups_of(read_cases(bench)).items():
        cases = [case for case in group if "error" not in case and case["variant"] in ("", PADDED_TO_LONGEST)]
        rows = {}
        for case in sorted(cases, key=lambda case: PROGRAMS.index(case["program"])):
            contexts = case.get("contexts_of_the_set", case.get("contexts"))
            head = words[case["program"]].format(**{**case, "contexts": contexts})
            rows.setdefault((head, case["precision"]), {})[case["system"]] = speed_cell(case)
        days = sorted({case["when"][:10] for case in cases})
        parts.append(words["group"].format(model_card, device, ", ".join(days)))
        parts.append(table_of(words["speed"], [
            [head, precision, *(cells.get(system, "–") for system in (*FRAMEWORKS, PEFT))]
            for (head, precision), cells in rows.items()]))
    return "\n\n".join(parts)
