"""Puts PHEE's files, which bert_eae_ft.py can be trained with, into data/phee.

    python scripts/create_events.py [--source DIR]
"""

from common.data.event_files import main
from common.errors import run_main

if __name__ == "__main__":
    run_main(main)
