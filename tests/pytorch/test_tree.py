"""The checks that both trees share, on the pytorch tree."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "NLG_pytorch" / "src"))


from tree_checks import *  # noqa: E402,F401,F403
