"""The frameworks that the project is written in, by the names that flags, folders and files use for them."""

import os
from pathlib import Path

from common.paths import ROOT

FRAMEWORKS = ("pytorch", "jittor")
BOTH = "both"  # what --framework says for all of them
NAMES = {"pytorch": "PyTorch", "jittor": "Jittor"}
COLOURS = {"pytorch": "#d1495b", "jittor": "#1b6ca8"}


def chosen_frameworks(choice: str) -> tuple[str, ...]:
    """Returns the frameworks that ``--framework`` names: one, or all for ``both``."""
    return FRAMEWORKS if choice == BOTH else (choice,)


def interpreter(framework: str) -> str | Path:
    """Returns the Python of a framework's environment: PYTHON_PYTORCH or PYTHON_JITTOR, or the one setup made."""
    chosen = os.environ.get(f"PYTHON_{framework.upper()}")
    return chosen or ROOT / f".venv_{framework}" / "bin" / "python"
