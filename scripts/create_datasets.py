"""The data sets: brought, checked, converted, encoded. ``bash scripts/create_datasets.sh`` finds a Python for it.

    python scripts/create_datasets.py [e2e|webnlg|dart|squad|all] [--source DIR]
"""

from common.data.datasets import main
from common.errors import run_main

if __name__ == "__main__":
    run_main(main)
