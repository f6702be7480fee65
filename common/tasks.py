"""What the drivers run: each task's files and hyper-parameters, and what each preset changes of them.

The hyper-parameters are those of the LoRA paper (Hu et al. 2021, appendix D.3, table 11) except where a preset says
otherwise.
"""

from dataclasses import dataclass, field

PAPER_TRAINING = {
    "train_batch_size": 8, "valid_batch_size": 4, "seq_len": 512, "lora_dim": 4, "lora_alpha": 32, "lora_dropout": 0.1,
    "label_smooth": 0.1, "lr": 0.0002, "weight_decay": 0.01, "correct_bias": True, "adam_beta2": 0.999,
    "scheduler": "linear", "warmup_step": 500, "max_epoch": 5, "random_seed": 110, "log_interval": 100,
    "eval_interval": 1_000_000, "save_interval": 1_000_000,
}
PAPER_BEAM = {"seq_len": 512, "eval_len": 64, "beam": 10, "length_penalty": 0.8, "no_repeat_ngram_size": 4,
              "repetition_penalty": 1.0, "eos_token_id": 628, "lora_dim": 4, "lora_alpha": 32, "batch_size": 32}

# Chosen by validation loss, see log/README.md: a backbone this small wants a higher rate than the paper's 2e-4.
NANO_TRAINING = {"lr": 0.003, "clip": 1.0, "lora_dropout": 0.0, "label_smooth": 0.0}


@dataclass(frozen=True)
class Task:
    """A data set and how it is trained and scored.

    Attributes:
        title: for tables.
        folder: under ``data/``.
        data_name: what create_datasets.sh and sample_datasets.py call it.
        training, beam: flags that differ from the paper's common ones.
    """

    title: str
    folder: str
    data_name: str
    training: dict = field(default_factory=dict)
    beam: dict = field(default_factory=dict)


TASKS = {"e2e": Task("E2E", "e2e", "e2e")}


@dataclass(frozen=True)
class Preset:
    """Where the data comes from and which model is trained.

    Attributes:
        model_card: the default; ``--model_card`` overrides it.
        training, beam: flags that differ from the task's.
        description: for tables.
    """

    model_card: str
    description: str
    training: dict = field(default_factory=dict)
    beam: dict = field(default_factory=dict)


PRESETS = {
    "demo": Preset("gpt2.nano", "made-up restaurants from a seeded grammar", {"max_epoch": 3, "warmup_step": 50, "log_interval": 25}),
    "sampled": Preset("gpt2.md", "stratified 18 % sample", {"train_batch_size": 4}),
    "paper": Preset("gpt2.md", "full data set", beam={"length_penalty": 0.9}),
}


def training_flags(task, preset, model_card):
    """Returns the flags of gpt2_ft.py as ``{name: value}``, data and folders apart."""
    nano = NANO_TRAINING if model_card == "gpt2.nano" else {}
    return {**PAPER_TRAINING, **task.training, **nano, **preset.training}


def beam_flags(task, preset):
    """Returns the flags of gpt2_beam.py as ``{name: value}``, data and folders apart."""
    return {**PAPER_BEAM, **task.beam, **preset.beam}


def as_words(flags):
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
