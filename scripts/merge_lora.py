"""Merges LoRA's updates into their backbone and writes a plain Hugging Face GPT-2 folder.

    python scripts/merge_lora.py CHECKPOINT FOLDER
"""

from common.errors import run_main
from common.model.merging import main

if __name__ == "__main__":
    run_main(main)
