"""The frameworks that the project is written in, by the names that flags, folders and files use for them."""

import os
from pathlib import Path

from common.paths import ROOT

FRAMEWORKS = ("pytorch", "jittor")
BOTH = "both"  # what --framework says for all of them
NAMES = {"pytorch": "PyTorch", "jittor": "Jittor"}
COLOURS = {"pytorch": "#d1495b", "jittor": "#1b6ca8"}
# Variables that make a Python run other code than its environment's, or run it otherwise.
MISLEADING_VARIABLES = ("PYTHONHOME", "PYTHONINSPECT", "PYTHONOPTIMIZE", "PYTHONPATH", "PYTHONPLATLIBDIR",
                        "PYTHONSAFEPATH", "PYTHONUSERBASE")


def chosen_frameworks(choice: str) -> tuple[str, ...]:
    """Returns the frameworks that ``--framework`` names: one, or all for ``both``."""
    return FRAMEWORKS if choice == BOTH else (choice,)


def interpreter(framework: str) -> str | Path:
    """Returns the Python of a framework's environment: PYTHON_PYTORCH or PYTHON_JITTOR, or the one setup made."""
    chosen = os.environ.get(f"PYTHON_{framework.upper()}")
    return chosen or ROOT / f".venv_{framework}" / "bin" / "python"


def clean_variables() -> dict[str, str]:
    """Returns this process's environment variables without MISLEADING_VARIABLES."""
    return {name: value for name, value in os.environ.items() if name not in MISLEADING_VARIABLES}


def variables_for(python: str | os.PathLike, folder: str | os.PathLike = ".") -> dict[str, str]:
    """Returns the environment variables with which a program is to be run.

    Args:
        python: the interpreter, as seen from ``folder``. In an environment that setup made MISLEADING_VARIABLES can
            only harm; an interpreter of the user's own may find its packages by them.
        folder: where the program will run.
    """
    made_by_setup = [str(ROOT / f".venv_{framework}" / "bin" / "python") for framework in FRAMEWORKS]
    return clean_variables() if os.path.abspath(os.path.join(folder, python)) in made_by_setup else dict(os.environ)
