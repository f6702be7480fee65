"""SQuAD v1.1 as published, to one JSON object a line.

    python src/format_converting_squad.py data/squad/train-v1.1.json data/squad/train_formatted.jsonl --split train
"""

from common.data.squad import main
from common.errors import run_main

if __name__ == "__main__":
    run_main(main)
