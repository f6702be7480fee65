"""Small data sets in the formats of E2E, WebNLG, DART, SQuAD and AdvertiseGen, made on the spot from seeded grammars.

    python scripts/make_demo_data.py [NAME] [--seed 1] [--output data/demo] [--vocab vocab]

NAME is e2e, webnlg, dart, squad or advertisegen.
"""

from common.demo.rows import main
from common.errors import run_main

if __name__ == "__main__":
    run_main(main)
