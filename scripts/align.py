"""Shows that both frameworks compute the same, or names the first operation that differs.

    python scripts/align.py [--task e2e] [--preset demo] [--model_card gpt2.nano] [--steps 100] [--precision fp32]
    python scripts/align.py --dump pytorch --output a.npz
    python scripts/align.py --dump jittor --inputs a.npz --output b.npz
    python scripts/align.py --compare a.npz b.npz

Any flag of src/gpt2_ft.py, or of the search in src/gpt2_beam.py, may be given too.
"""

from common.drivers.aligning import main
from common.errors import run_main

if __name__ == "__main__":
    run_main(main)
