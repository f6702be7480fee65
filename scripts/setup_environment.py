"""Makes the virtual environments and fills vocab/. ``bash scripts/setup.sh`` finds a Python for it.

    python3 scripts/setup_environment.py [pytorch|jittor|both] [--check]
"""

from common.drivers.environments import main
from common.errors import run_main

if __name__ == "__main__":
    run_main(main)
