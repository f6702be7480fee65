"""What the drivers run: each task's files, hyper-parameters and scores, and what each preset changes of them.

The hyper-parameters are those of the LoRA paper (Hu et al. 2021, appendix D.3, table 11) except where a preset says
otherwise. SQuAD is not in the paper: its flags are E2E's, with LoRA on attention and feed-forward, and answers are
short.
"""

from dataclasses import dataclass, field

from common.data.sampling import RATIO_TEXT, ROWS

PAPER_TRAINING = {
    "train_batch_size": 8, "valid_batch_size": 4, "seq_len": 512, "lora_dim": 4, "lora_alpha": 32, "lora_dropout": 0.1,
    "label_smooth": 0.1, "lr": 0.0002, "weight_decay": 0.01, "correct_bias": True, "adam_beta2": 0.999,
    "scheduler": "linear", "warmup_step": 500, "max_epoch": 5, "random_seed": 110, "log_interval": 100,
    "eval_interval": 1_000_000, "save_interval": 1_000_000,
}
PAPER_BEAM = {"seq_len": 512, "eval_len": 64, "beam": 10, "length_penalty": 0.8, "no_repeat_ngram_size": 4,
              "repetition_penalty": 1.0, "eos_token_id": 628, "lora_dim": 4, "lora_alpha": 32, "batch_size": 32}

SQUAD_LORA = {"lora_targets": "q,k,v,o,fc,proj"}

# A backbone this small wants a higher rate than the paper's 2e-4. Of the rates at which training does not amplify
# rounding (docs/alignment.md) these have the lowest validation loss.
NANO_TRAINING = {"lr": 0.001, "clip": 1.0}


@dataclass(frozen=True)
class Scoring:
    """How predictions become scores.

    Attributes:
        decode: flags of gpt2_decode.py, data and files apart.
        references: file or folder that it writes references to.
        reference_files: the files that this makes.
        predictions: file that it writes predictions to.
        score: program and arguments; ``{references}`` and ``{predictions}`` stand for the paths.
        metrics: ``{name in the program's JSON: name in tables}``.
        parts: values of ``--filter``, each of which gets scores of its own.
        pooled_references: whether the rows of one context are each other's references, so that a sample of rows has
            fewer of them than the full set.
    """

    decode: dict
    references: str
    reference_files: tuple[str, ...]
    predictions: str
    score: tuple[str, ...]
    metrics: dict[str, str]
    parts: tuple[str, ...] = ("all",)
    pooled_references: bool = True


E2E_SCORING = Scoring(
    {"ref_type": "e2e"}, "references.txt", ("references.txt",), "predictions.txt",
    ("eval/e2e/measure_scores.py", "{references}", "{predictions}", "-p"),
    {metric: metric for metric in ("BLEU", "NIST", "METEOR", "ROUGE_L", "CIDEr")})


def generation_scoring(ref_type, parts=("all",), reference_count=6):
    """Returns the Scoring of WebNLG or DART: texts in lower case and tokenised, six references, as published."""
    return Scoring(
        {"ref_type": ref_type, "ref_num": reference_count, "tokenize": True, "lower": True}, "references",
        tuple(f"references/reference{number}" for number in range(reference_count)), "predictions.txt",
        ("eval/GenerationEval/eval.py", "-R", "{references}/reference", "-H", "{predictions}", "-nr",
         str(reference_count), "-m", "bleu,meteor,chrf++,ter"),
        {"bleu": "BLEU", "meteor": "METEOR", "chrf++": "chrF++", "ter": "TER"}, parts)


SQUAD_SCORING = Scoring(
    {"ref_type": "squad"}, "references.json", ("references.json",), "predictions.json",
    ("eval/squad/evaluate.py", "{references}", "{predictions}"), {"exact_match": "exact match", "f1": "F1"},
    pooled_references=False)


@dataclass(frozen=True)
class Task:
    """A data set and how it is trained and scored.

    Attributes:
        title: for tables.
        folder: under ``data/``.
        data_name: what create_datasets.sh and sample_datasets.py call it.
        demo_folder: of its demo data, under ``data/``.
        scoring: Scoring.
        descriptions: ``{preset: what its data is}``, for tables.
        training, beam: flags that differ from the paper's common ones.
        preset_training, preset_beam: ``{preset: flags that differ under it}``.
        nano_training: flags that differ for gpt2-nano, on top of NANO_TRAINING.
        beam_flags_of_data: flags of gpt2_beam.py that create_datasets.sh takes too, since the rows depend on them.
    """

    title: str
    folder: str
    data_name: str
    demo_folder: str
    scoring: Scoring
    descriptions: dict[str, str]
    training: dict = field(default_factory=dict)
    beam: dict = field(default_factory=dict)
    preset_training: dict = field(default_factory=dict)
    preset_beam: dict = field(default_factory=dict)
    nano_training: dict = field(default_factory=dict)
    beam_flags_of_data: tuple[str, ...] = ()


DESCRIPTIONS = {"sampled": f"stratified {RATIO_TEXT} sample", "paper": "full data set"}
TASKS = {
    "e2e": Task("E2E", "e2e", "e2e", "demo", E2E_SCORING,
                {**DESCRIPTIONS, "demo": "made-up restaurants from a seeded grammar"},
                preset_beam={"paper": {"length_penalty": 0.9}}),
    "webnlg": Task("WebNLG", "webnlg_challenge_2017", "webnlg", "demo/webnlg",
                   generation_scoring("webnlg", ("unseen", "seen", "all")),
                   {**DESCRIPTIONS, "demo": "made-up triples from a seeded grammar"}, nano_training={"lr": 0.0007}),
    "dart": Task("DART", "dart", "dart", "demo/dart", generation_scoring("dart"),
                 {**DESCRIPTIONS, "demo": "made-up triples from a seeded grammar"},
                 {"weight_decay": 0.0, "lora_dropout": 0.0, "label_smooth": 0.0},
                 nano_training={"lora_dropout": 0.1, "label_smooth": 0.1}),
    "squad": Task("SQuAD v1.1", "squad", "squad", "demo/squad", SQUAD_SCORING,
                  {**DESCRIPTIONS, "demo": "made-up passages from a seeded grammar",
                   "sampled": f"{' + '.join(map(str, ROWS['squad']))} questions, stratified"}, SQUAD_LORA,
                  {**SQUAD_LORA, "eval_len": 32, "beam": 4, "no_repeat_ngram_size": 0},
                  nano_training={"lr": 0.0003}, beam_flags_of_data=("seq_len", "eval_len")),
}


@dataclass(frozen=True)
class Preset:
    """Which model is trained, and for how long.

    Attributes:
        model_card: the default; ``--model_card`` overrides it.
        training: flags that differ from the task's.
    """

    model_card: str
    training: dict = field(default_factory=dict)


PRESETS = {
    "demo": Preset("gpt2.nano", {"max_epoch": 3, "warmup_step": 50, "log_interval": 25}),
    "sampled": Preset("gpt2.md", {"train_batch_size": 4}),
    "paper": Preset("gpt2.md"),
}


def training_flags(task: Task, preset: str, model_card: str) -> dict:
    """Returns the flags of gpt2_ft.py as ``{name: value}``, data and folders apart; ``preset`` is a name."""
    nano = {**NANO_TRAINING, **task.nano_training} if model_card == "gpt2.nano" else {}
    return {**PAPER_TRAINING, **task.training, **nano, **PRESETS[preset].training,
            **task.preset_training.get(preset, {})}


def beam_flags(task: Task, preset: str) -> dict:
    """Returns the flags of gpt2_beam.py as ``{name: value}``, data and folders apart; ``preset`` is a name."""
    return {**PAPER_BEAM, **task.beam, **task.preset_beam.get(preset, {})}


def as_words(flags: dict) -> list[str]:
    """Returns ``{"lr": 0.1, "correct_bias": True}`` as ``["--lr", "0.1", "--correct_bias"]``."""
    words = []
    for name, value in flags.items():
        if value is True:
            words.append(f"--{name}")
        elif isinstance(value, list):
            words += [word for item in value for word in (f"--{name}", str(item))]
        elif value is not False and value is not None:
            words += [f"--{name}", str(value)]
    return words
