"""Writes a trained checkpoint as a Hugging Face PEFT adapter.

    python scripts/export_peft.py CHECKPOINT FOLDER
"""

from common.errors import run_main
from common.model.peft_export import main

if __name__ == "__main__":
    run_main(main)
