"""Where the project lies, and its folders of data and weights."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PRETRAINED = ROOT / "pretrained_checkpoints"
