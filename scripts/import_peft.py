"""Makes a LoRA file of a Hugging Face PEFT adapter.

    python scripts/import_peft.py FOLDER OUT.safetensors --model_card gpt2.md
"""

from common.errors import run_main
from common.model.peft_import import main

if __name__ == "__main__":
    run_main(main)
