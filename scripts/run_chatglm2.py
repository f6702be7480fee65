"""Runs ChatGLM2's stages in one framework or both: data, train, generate, report.

    python scripts/run_chatglm2.py [--framework pytorch|jittor|both] [--preset demo|adgen] [options]

Any flag of src/chatglm2_ft.py or src/chatglm2_generate.py may be given too and takes the place of the preset's.
"""

from common.drivers.chatglm_pipeline import main
from common.errors import run_main

if __name__ == "__main__":
    run_main(main)
