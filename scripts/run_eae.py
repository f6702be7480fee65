"""Runs event argument extraction's stages in one framework or both: data, train, predict, score, report.

    python scripts/run_eae.py [--framework pytorch|jittor|both] [--preset demo|phee|rams] [options]

Any flag of src/bert_eae_ft.py may be given too and takes the place of the preset's.
"""

from common.drivers.event_pipeline import main
from common.errors import run_main

if __name__ == "__main__":
    run_main(main)
