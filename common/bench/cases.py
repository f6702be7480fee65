"""The words of a benchmark's cases: what is measured of which system, and how its rows are made.

They stand in the JSON files and in the tables made from them.
"""

from common import frameworks

PROGRAMS = ("train", "eval", "beam")

PEFT = "peft"  # Hugging Face's, the baseline
PEFT_PRECISIONS = ("fp32", "tf32", "bf16")  # a flag or a line of a user's; fp16 would need a loss scaler too
NAMES = {**frameworks.NAMES, PEFT: "PEFT"}

LONG = 512  # tokens of a long row
EVERY_ROW_LONG = f"every row {LONG} long"
PADDED_TO_LONGEST = "padded to the longest row"
PADDED_TO_LONG = f"padded to {LONG}"
