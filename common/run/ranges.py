"""The range of every flag that is a number, in one place."""

from dataclasses import dataclass

from common.checks import shortened
from common.errors import UserError
from common.run.dropout import ROW_BITS

MOST = 2**31 - 1  # what both frameworks' integers hold
LARGEST = 3e38  # below float32's largest number


@dataclass(frozen=True)
class Range:
    """The numbers that a flag may have; NaN and the infinite ones are in no range.

    Attributes:
        low, high: the bounds.
        is_above, is_below: whether a number has to be more than ``low``, or less than ``high``.
        remark: what else there is to say to someone whose number is outside.
    """

    low: float
    high: float = MOST
    is_above: bool = False
    is_below: bool = False
    remark: str = ""

    def __contains__(self, value: float) -> bool:
        return (self.low < value if self.is_above else self.low <= value) and (
            value < self.high if self.is_below else value <= self.high)

    def __str__(self) -> str:
        low, high = (str(bound) if isinstance(bound, int) else f"{bound:g}" for bound in (self.low, self.high))
        return f"{'more than' if self.is_above else 'at least'} {low} and " \
               f"{'less than' if self.is_below else 'at most'} {high}"


COUNT, NOT_NEGATIVE, SHARE = Range(1), Range(0, LARGEST), Range(0, 1, is_below=True)
# Of every flag that is a number. What depends on a second flag or on the model is checked where both are known.
RANGES = {
    "seq_len": Range(2), "lora_dim": Range(0),
    "lora_alpha": Range(0, LARGEST, is_above=True), "random_seed": Range(0),
    # A row's index in its batch has so many bits where dropout is decided.
    "train_batch_size": Range(1, 1 << ROW_BITS), "valid_batch_size": Range(1, 1 << ROW_BITS), "grad_acc": COUNT,
    "clip": NOT_NEGATIVE, "label_smooth": SHARE, "lora_dropout": SHARE,
    "backbone_dropout": SHARE, "head_dropout": SHARE, "warmup_share": SHARE, "lr": NOT_NEGATIVE,
    "weight_decay": NOT_NEGATIVE,
    # Without it the first update of a weight whose gradient is 0 would be 0 / 0; a smaller one is 0 on some devices.
    "adam_epislon": Range(1e-30, LARGEST),
    "adam_beta1": SHARE, "adam_beta2": SHARE, "warmup_step": Range(0), "max_epoch": COUNT, "max_step": COUNT,
    "i_steps": Range(0), "i_lrs": NOT_NEGATIVE, "log_interval": COUNT, "eval_interval": COUNT, "save_interval": COUNT,
    "eval_epoch": COUNT, "state_minutes": NOT_NEGATIVE, "keep_last": COUNT,
    "batch_size": COUNT, "eval_len": COUNT, "min_length": Range(0), "beam": COUNT,
    # Any length to this power is a number that float64 holds.
    "length_penalty": Range(-100, 100), "no_repeat_ngram_size": Range(0),
    # Any logit times or over this is a number that float32 holds.
    "repetition_penalty": Range(1e-6, 1e6), "eos_token_id": Range(0),
    "steps": COUNT, "contexts": COUNT,
}
CHATGLM_RANGES = {
    "lora_r": COUNT, "max_source_length": Range(3), "max_target_length": COUNT, "seed": Range(0),
    "per_device_train_batch_size": COUNT, "per_device_eval_batch_size": Range(1, 1 << ROW_BITS),
    "gradient_accumulation_steps": COUNT, "memory_gb": Range(0, LARGEST, is_above=True),
    "learning_rate": NOT_NEGATIVE, "warmup_steps": Range(0), "adam_epsilon": Range(1e-30, LARGEST),
    "max_grad_norm": NOT_NEGATIVE, "max_steps": COUNT, "num_train_epochs": COUNT, "logging_steps": COUNT,
    "save_steps": COUNT, "eval_steps": COUNT, "max_train_samples": COUNT, "max_eval_samples": COUNT,
    "max_predict_samples": COUNT, "num_beams": COUNT, "top_p": Range(0, 1, is_above=True),
    "temperature": Range(0, LARGEST, is_above=True),
}


RANGES_OF_ALL = {**RANGES, **CHATGLM_RANGES}


def check_ranges(values):
    """Checks flags one by one: a number lies in its range, and a text is not empty.

    Args:
        values: ``{name: value}``, some of the flags of the programs here; a list's elements count one by one.

    Raises:
        UserError: one does not; the message has the range.
    """
    for name, value in values.items():
        if isinstance(value, str) and not value.strip():
            raise UserError(f"--{name} {value!r}: is empty; was it a variable without a value?")
        for number in (value if isinstance(value, list) else [value]):
            if isinstance(number, (int, float)) and name in RANGES_OF_ALL and number not in RANGES_OF_ALL[name]:
                remark = RANGES_OF_ALL[name].remark and f" ({RANGES_OF_ALL[name].remark})"
                raise UserError(f"--{name} {shortened(number)}: expected {RANGES_OF_ALL[name]}{remark}")
