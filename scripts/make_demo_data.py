"""Restaurant descriptions in E2E's format, made on the spot from a seeded grammar.

    python scripts/make_demo_data.py [--seed 1] [--output data/demo] [--vocab vocab]
"""

from common.demo_data import main
from common.errors import run_main

if __name__ == "__main__":
    run_main(main)
