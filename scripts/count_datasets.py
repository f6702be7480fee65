"""Rows of each category of the data sets, as text, JSON and a bar chart.

    python scripts/count_datasets.py [--datasets e2e webnlg dart squad] [--data data] [--counts log] [--output figure]
"""

from common.data.counting import main
from common.errors import run_main

if __name__ == "__main__":
    run_main(main)
