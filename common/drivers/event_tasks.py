"""What run_eae.sh runs: the data, hyper-parameters and model of each preset."""

from dataclasses import dataclass, field

from common.data.event_sets import PHEE, RAMS

# Those with which LoRA reaches its best F1 on PHEE, at a rate that does not amplify rounding (docs/alignment.md).
TRAINING = {"train_batch_size": 32, "lr": 0.0003, "warmup_share": 0.06, "max_epoch": 20, "clip": 1.0, "lora_dim": 16,
            "lora_alpha": 16, "lora_dropout": 0.1, "random_seed": 110, "log_interval": 100}
ALL_WEIGHTS = {"lr": 0.0001}  # of --lora_dim 0: a rate for LoRA is too high for them


@dataclass(frozen=True)
class EventPreset:
    """Data and model of a preset.

    Attributes:
        title: for tables.
        form: of its files, PHEE or RAMS.
        folder: under ``data/``; empty where ``--source`` has to name one.
        files: names of the files of train, dev and test.
        model_card: the default; ``--model_card`` overrides it.
        training: flags that differ from TRAINING.
        all_weights: and those that differ where all weights are trained.
    """

    title: str
    form: str
    folder: str
    files: tuple[str, str, str]
    model_card: str
    training: dict = field(default_factory=dict)
    all_weights: dict = field(default_factory=lambda: ALL_WEIGHTS)


PHEE_FILES = ("train.json", "dev.json", "test.json")
EVENT_PRESETS = {
    "demo": EventPreset("made-up reports from a seeded grammar", PHEE, "demo/events", PHEE_FILES, "bert.minilm",
                        {"max_epoch": 2, "train_batch_size": 16, "lr": 0.002, "log_interval": 25}),
    "phee": EventPreset("PHEE", PHEE, "phee", PHEE_FILES, "bert.minilm", all_weights={
        "lr": 0.000025, "max_epoch": 10, "train_batch_size": 16, "label_smooth": 0.1}),
    "rams": EventPreset("RAMS 1.0c", RAMS, "", ("train.jsonlines", "dev.jsonlines", "test.jsonlines"), "bert.base",
                        {"train_batch_size": 16, "lr": 0.0005, "max_epoch": 8}),
}


def event_training_flags(preset: str, lora_dim: int | None = None) -> dict:
    """Returns the flags of bert_eae_ft.py as ``{name: value}``, data and folders apart.

    Args:
        preset: a name.
        lora_dim: where it is given; 0 for all weights.
    """
    chosen = EVENT_PRESETS[preset]
    return {**TRAINING, **chosen.training, **(chosen.all_weights if lora_dim == 0 else {})}
