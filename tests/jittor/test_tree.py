"""The checks that both trees share, on the jittor tree."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "NLG_jittor" / "src"))

import jittor_setup  # noqa: E402,F401  decides the environment before Jittor is imported

from tree_checks import *  # noqa: E402,F401,F403
