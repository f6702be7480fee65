"""Rows of each category of the data sets, as text, JSON and a bar chart.

    python scripts/count_datasets.py [--datasets e2e webnlg dart] [--data data] [--output figure]
"""

from common.counting import main
from common.errors import run_main

if __name__ == "__main__":
    run_main(main)
