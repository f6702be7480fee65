"""Runs a task's stages in one framework or both: data, train, beam, decode, score, report.

    python scripts/run_task.py e2e [--framework pytorch|jittor|both] [--preset demo|sampled|paper] [options]

Any flag of src/gpt2_ft.py or src/gpt2_beam.py may be given too and takes the place of the preset's.
"""

from common.drivers.pipeline import main
from common.errors import run_main

if __name__ == "__main__":
    run_main(main)
