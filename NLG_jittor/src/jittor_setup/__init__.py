"""Imports Jittor so that it simply works; ``import jittor_setup`` before anything imports Jittor."""

from jittor_setup import environment

import os
import sys

from common.errors import UserError
from common.run.launching import speaks_first

try:
    environment.load()
except UserError as missing:
    if speaks_first():
        print(f"{os.path.basename(sys.argv[0])}: error: {missing}", file=sys.stderr)
    sys.exit(missing.status)
