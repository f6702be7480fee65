"""Stratified samples of the data sets.

    python scripts/sample_datasets.py [--ratio .18] [--seed 42] [--unit line|mr] [--datasets e2e webnlg dart squad]
"""

from common.data.sampling import main
from common.errors import run_main

if __name__ == "__main__":
    run_main(main)
