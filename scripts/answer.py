"""Answers one question about a passage from a checkpoint that was trained on SQuAD.

    python scripts/answer.py --framework pytorch|jittor --checkpoint FILE "passage" "question"
"""

from common.drivers.answering import main
from common.errors import run_main

if __name__ == "__main__":
    run_main(main)
