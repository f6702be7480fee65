"""DART as published, to one JSON object a line.

    python src/format_converting_dart.py data/dart/dart-v1.1.1-full-train.json data/dart/train_formatted.jsonl
"""

from common.data.converting import main_dart as main
from common.errors import run_main

if __name__ == "__main__":
    run_main(main)
