"""Formatted text to ids.

    python src/gpt2_encode.py --vocab vocab --input data/e2e/train_formatted.jsonl --output data/e2e/train.jsonl \\
        --add_bos --add_eos
"""

from common.data.encoding import main
from common.errors import run_main

if __name__ == "__main__":
    run_main(main)
