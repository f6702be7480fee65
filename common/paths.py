"""The project's root folder and its folder of pretrained weights."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PRETRAINED = ROOT / "pretrained_checkpoints"
