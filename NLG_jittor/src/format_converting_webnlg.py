"""WebNLG as published, to one JSON object a line.

    python src/format_converting_webnlg.py data/webnlg_challenge_2017/train.json \\
        data/webnlg_challenge_2017/train_formatted.jsonl
"""

from common.data.converting import main_webnlg as main
from common.errors import run_main

if __name__ == "__main__":
    run_main(main)
