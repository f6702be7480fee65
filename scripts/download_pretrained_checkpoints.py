"""Downloads pretrained GPT-2 backbones. ``bash scripts/download_pretrained_checkpoints.sh`` finds a Python for it.

    python scripts/download_pretrained_checkpoints.py [gpt2|gpt2-medium|gpt2-large|gpt2-xl]... [--source DIR]
"""

from common.errors import run_main
from common.model.downloading import main

if __name__ == "__main__":
    run_main(main)
