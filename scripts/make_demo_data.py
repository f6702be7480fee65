"""Small data sets in the formats of several published ones, made on the spot from seeded grammars.

    python scripts/make_demo_data.py [e2e|webnlg|dart|squad|events|advertisegen] [--seed 1] [--output data/demo]
"""

from common.demo.rows import main
from common.errors import run_main

if __name__ == "__main__":
    run_main(main)
