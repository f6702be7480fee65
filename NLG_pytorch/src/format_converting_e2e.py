"""E2E as published, to one JSON object a line.

    python src/format_converting_e2e.py data/e2e/train.txt data/e2e/train_formatted.jsonl
"""

from common.data.converting import main_e2e as main
from common.errors import run_main

if __name__ == "__main__":
    run_main(main)
