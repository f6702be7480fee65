"""Imports Jittor so that it simply works; ``import jittor_setup`` before anything imports Jittor."""

from jittor_setup import environment

import os
import sys

from common.errors import UserError
from common.run.launching import say_once

try:
    environment.load()
except UserError as missing:
    say_once(f"{os.path.basename(sys.argv[0])}: error: {missing}")
    sys.exit(missing.status)
