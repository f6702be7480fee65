"""Merges LoRA's updates into their backbone and writes a plain Hugging Face GPT-2 folder, tokenizer included.

    python scripts/merge_lora.py CHECKPOINT FOLDER [--init_checkpoint BACKBONE]

transformers loads FOLDER with from_pretrained, and so does --init_checkpoint of our own programs.
"""

from common.files import check_new_folder
from common.model.checkpoint import load_weights
from common.model.huggingface_files import write_model
from common.model.lora_arrays import merge_lora
from common.model.trained_lora import read_trained_lora, trained_lora_parser


def main(argv: list[str]) -> None:
    """Writes the folder."""
    parser = trained_lora_parser("merge_lora.py", __doc__)
    parser.add_argument("--init_checkpoint", help="the backbone, where CHECKPOINT holds LoRA arrays only and the "
                        "backbone that it records is elsewhere")
    arguments = parser.parse_args(argv)
    check_new_folder(arguments.folder)
    trained = read_trained_lora(arguments)
    first, second = (arguments.init_checkpoint, trained.path) if arguments.init_checkpoint else (trained.path, None)
    backbone, _, _ = load_weights(first, second, trained.card, trained.settings)
    write_model(arguments.folder, merge_lora(backbone, trained.lora, trained.settings), trained.card)
    print(f"{arguments.folder}: {trained.card.folder} with the updates of {trained.path} merged into it")
