"""Predicted ids to text, with the references in the scorers' format.

    python src/gpt2_decode.py --vocab ./vocab --sample_file predict.jsonl \\
        --input_file ./data/e2e/test_formatted.jsonl --output_ref_file e2e_ref.txt --output_pred_file e2e_pred.txt
"""

from common.data.decoding import main
from common.errors import run_main

if __name__ == "__main__":
    run_main(main)
