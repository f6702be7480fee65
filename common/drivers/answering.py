"""Answers one question about a passage from a checkpoint that was trained on SQuAD.

    python scripts/answer.py --framework pytorch --checkpoint work/squad/demo-gpt2-nano/pytorch/model.369.safetensors \\
        "Tallow Hall stands in Carrow." "Where does Tallow Hall stand?"

The chosen framework's own gpt2_beam.py decodes, in that framework's environment; the answer alone is printed, and
whatever else there is to say goes to standard error.
"""

import argparse
import os
import subprocess
import sys
import tempfile

from common.checks import shortened
from common.data.decoding import cut_text, read_predictions
from common.data.encoding import encode_rows
from common.data.squad import Windows, context_of
from common.data.tokenizer import load_tokenizer
from common.drivers.tasks import TASKS, as_words, beam_flags
from common.errors import UserError, status_after
from common.files import write_json_lines
from common.frameworks import FRAMEWORKS, interpreter, variables_for
from common.model.lora_file import read_record
from common.model.weight_files import resolve_checkpoint
from common.paths import ROOT


def flags_of(checkpoint):
    """Returns the flags of gpt2_beam.py for a checkpoint: SQuAD's, with the model that the file records.

    Raises:
        UserError: there is no such file, or it records no model.
    """
    record = read_record(checkpoint)
    if record is None:
        raise UserError(f"{checkpoint}: does not say which model it belongs to; expected a file model.STEP.safetensors "
                        "that src/gpt2_ft.py wrote, such as those of `bash scripts/run_squad.sh`")
    return {**beam_flags(TASKS["squad"], "sampled"), "model_card": record.model_card, "lora_dim": record.lora_dim,
            "lora_alpha": record.lora_alpha, "lora_targets": ",".join(record.lora_targets)}


def search(framework, words):
    """Runs gpt2_beam.py with ``words``; what it prints goes to standard error.

    Raises:
        UserError: the framework's environment is missing, or the program failed.
    """
    python = str(interpreter(framework))
    try:
        status = subprocess.run([python, "src/gpt2_beam.py", *words], cwd=ROOT / f"NLG_{framework}", stdout=sys.stderr,
                                env=variables_for(python), check=False).returncode
    except OSError as error:
        raise UserError(f"{python}: cannot be run: {error.strerror}; `bash scripts/setup.sh {framework}` makes "
                        "it") from error
    if status:
        raise UserError(f"NLG_{framework}/src/gpt2_beam.py ended with exit status {status}; it says why above",
                        status_after(status))


def answer(framework: str, checkpoint: str | os.PathLike, passage: str, question: str, device: str = "auto") -> str:
    """Returns the answer, a string.

    Args:
        framework: ``pytorch`` or ``jittor``.
        checkpoint: LoRA file of a training on SQuAD.
        passage, question: strings; a passage that is too long is shortened as the test set's are.
        device: as for gpt2_beam.py.

    Raises:
        UserError: passage or question is blank, or the checkpoint or the environment cannot be used.
    """
    if not passage.strip() or not question.strip():
        raise UserError(f"the {'question' if passage.strip() else 'passage'} is blank")
    checkpoint = os.path.abspath(resolve_checkpoint(checkpoint))
    flags = flags_of(checkpoint)
    tokenizer = load_tokenizer(ROOT / "vocab")
    kept = Windows(tokenizer, flags["seq_len"], flags["eval_len"]).shorten(passage, question, where="the question")
    if kept != passage:
        print(f"note: the passage is shortened to {len(kept.split())} of its {len(passage.split())} words",
              file=sys.stderr)
    context = context_of(kept, question)
    with tempfile.TemporaryDirectory() as folder:
        data = os.path.join(folder, "question.jsonl")
        write_json_lines(data, encode_rows(tokenizer, [{"context": context, "completion": ""}], True, True))
        search(framework, ["--data", data, "--init_checkpoint", checkpoint, "--work_dir", folder, "--device", device,
                           *as_words(flags)])
        predictions = read_predictions(os.path.join(folder, "predict.jsonl"), [context])
    return cut_text(tokenizer.decode(predictions[context]))


def text_of(argument: str) -> str:
    """Returns a word of the command line as the text that its bytes are in UTF-8, whatever the locale.

    Raises:
        argparse.ArgumentTypeError: they are none.
    """
    try:
        return os.fsencode(argument).decode("utf-8")
    except UnicodeDecodeError as error:
        raise argparse.ArgumentTypeError(f"{shortened(argument)} is not UTF-8 text: {error}") from None


def main(argv: list[str]) -> None:
    """Prints the answer."""
    parser = argparse.ArgumentParser(prog="answer.py", description=__doc__.split("\n")[0])
    parser.add_argument("--framework", default="pytorch", choices=FRAMEWORKS, help="default: pytorch")
    parser.add_argument("--checkpoint", required=True, help="model.STEP.safetensors of a run of scripts/run_squad.sh")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="auto: a GPU if there is one")
    parser.add_argument("passage", type=text_of, help="text that holds the answer")
    parser.add_argument("question", type=text_of)
    args = parser.parse_args(argv)
    print(answer(args.framework, args.checkpoint, args.passage, args.question, args.device))
