"""Predicted ids to text, with the references of each context, in the files that the scorers read.

    python src/gpt2_decode.py --vocab ./vocab --sample_file predict.jsonl \\
        --input_file ./data/e2e/test_formatted.jsonl --output_ref_file e2e_ref.txt --output_pred_file e2e_pred.txt
    python src/gpt2_decode.py --vocab ./vocab --sample_file predict.jsonl --ref_type webnlg --filter unseen \\
        --input_file ./data/webnlg_challenge_2017/test_formatted.jsonl --output_ref_file references_unseen \\
        --output_pred_file hypothesis_unseen --tokenize --lower

``e2e`` writes one references file, with a blank line after each context's; ``webnlg`` and ``dart`` write a folder with
``reference0`` to ``referenceN-1``. Predictions are written one per line, contexts in the order in which they first
appear. ``squad`` writes JSON: the questions with all gold answers in the published layout, and
``{question's id: answer}``.
"""

import argparse
import os
import re
import sys
from collections.abc import Collection, Sequence

from tokenizers import Tokenizer

from common.data.encoding import read_formatted
from common.data.squad import references_document
from common.data.tokenizer import load_tokenizer
from common.errors import UserError
from common.files import atomic_write, read_json_lines, write_json
from common.vocabulary import END_OF_TEXT_TOKEN, EOS_IDS, VOCABULARY_SIZE


def cut_ids(ids: list[int]) -> list[int]:
    """Returns the ids before the first end of sequence.

    A prediction is padded with 0 after its end, and 0 is also the token ``!``: what follows the end is no text. A
    hypothesis that never ended has no padding, so its zeros are text.
    """
    return next((ids[:i] for i, token in enumerate(ids) if token in EOS_IDS), ids)


def cut_text(text: str) -> str:
    """Returns the text up to ``<|endoftext|>`` or the first blank line, stripped, on one line.

    Characters that some programs take for the end of a line (``\\r``, ``\\u2028``, ...) become spaces, because the
    scorers' files have one text per line.
    """
    text = text.split(END_OF_TEXT_TOKEN)[0].split("\n\n")[0].strip()
    return " ".join(text.splitlines())


def finish(text: str, tokenize: bool, lower: bool) -> str:
    """Returns the text, optionally in lower case and with spaces around every non-word character (``\\W``)."""
    if lower:
        text = text.lower()
    if tokenize:
        text = " ".join(" ".join(re.split(r"(\W)", text)).split())
    return text


def read_inputs(path: str | os.PathLike, kept: str = "all") -> tuple[list[str], dict[str, list[str]]]:
    """Reads the formatted file whose rows were the input of the model.

    Args:
        path: the formatted file.
        kept: ``all``, or ``seen`` / ``unseen`` to keep only the references of such rows (by their ``cate``).

    Returns:
        ``(contexts, references)``: the context of each row, and ``{context: [text, ...]}`` of the rows kept.

    Raises:
        UserError: a row is not a formatted row or has no ``cate``, or no row is kept.
    """
    contexts: list[str] = []
    references: dict[str, list[str]] = {}
    for line_number, record in read_formatted(path):
        contexts.append(record["context"])
        if kept != "all":
            if not isinstance(record.get("cate"), bool):
                raise UserError(f"{path}:{line_number}: no true or false 'cate', which --filter {kept} needs; "
                                f"format_converting_webnlg.py writes it")
            if record["cate"] != (kept == "seen"):
                continue
        references.setdefault(record["context"], []).append(cut_text(record["completion"]))
    if not references:
        raise UserError(f"{path}: {'the file is empty' if not contexts else f'no row is {kept}'}")
    return contexts, references


def read_predictions(path: str | os.PathLike, contexts: Sequence[str]) -> dict[str, list[int]]:
    """Reads ``{"id": row, "predict": [ids]}`` lines; the last prediction for a context counts.

    Args:
        path: the file that beam search wrote.
        contexts: the context of each row.

    Returns:
        ``{context: ids}``, each cut at its end of sequence.

    Raises:
        UserError: an id is no row or appears twice, or a prediction is not a list of GPT-2's ids.
    """
    predictions: dict[str, list[int]] = {}
    line_of: dict[int, int] = {}
    for line_number, record in read_json_lines(path, ("id", "predict")):
        where, row, ids = f"{path}:{line_number}", record["id"], record["predict"]
        if type(row) is not int or not 0 <= row < len(contexts):
            raise UserError(f"{where}: id {row!r} is no row of the input file: it has rows 0 to {len(contexts) - 1}; "
                            f"was this prediction made from another file?")
        if row in line_of:
            raise UserError(f"{where}: id {row} appears twice, first in line {line_of[row]}")
        line_of[row] = line_number
        if not isinstance(ids, list):
            raise UserError(f"{where}: 'predict' is a {type(ids).__name__}, expected a list of ids")
        for token in ids:
            if type(token) is not int or not 0 <= token < VOCABULARY_SIZE:
                raise UserError(f"{where}: {token!r} is no id: expected integers from 0 to {VOCABULARY_SIZE - 1}")
        predictions[contexts[row]] = cut_ids(ids)
    return predictions


def check_covered(needed: Collection[str], found: Collection[str], what: str, remedy: str) -> None:
    """Checks that every context of ``needed`` is in ``found``.

    Args:
        what: start of the message, that which is missing.
        remedy: end of the message, what to do.

    Raises:
        UserError: one is not.
    """
    missing = [context for context in needed if context not in found]
    if missing:
        raise UserError(f"{what} for {len(missing)} of {len(needed)} contexts, the first: {missing[0]!r}; {remedy}")


def write_references(path: str | os.PathLike, groups: Sequence[Sequence[str]], ref_type: str, ref_num: int) -> None:
    """Writes the references of each context.

    Args:
        path: file (``e2e``) or folder (``webnlg``, ``dart``).
        groups: the texts of each context.
        ref_type: ``e2e``, ``webnlg`` or ``dart``.
        ref_num: how many files to write into the folder; a context with fewer references repeats its first.

    Raises:
        UserError: ``path`` is a folder instead of a file, or a file instead of a folder.
    """
    if ref_type == "e2e":
        if os.path.isdir(path):
            raise UserError(f"{path}: is a folder; --ref_type e2e writes one file: give a file's name")
        with atomic_write(path) as file:
            file.writelines("\n".join(texts) + "\n\n" for texts in groups)
        return
    if os.path.isfile(path):
        raise UserError(f"{path}: is a file; --ref_type {ref_type} writes a folder: give a folder's name")
    cut = sum(len(texts) > ref_num for texts in groups)
    if cut:
        print(f"note: {cut} contexts have more than {ref_num} references; only the first {ref_num} of each are written",
              file=sys.stderr)
    for number in range(ref_num):
        with atomic_write(os.path.join(path, f"reference{number}")) as file:
            file.writelines((texts[number] if number < len(texts) else texts[0]) + "\n" for texts in groups)


def without_blanks(references: dict[str, list[str]]) -> dict[str, list[str]]:
    """Returns the references without empty ones, which would end a group in E2E's references file early.

    Raises:
        UserError: a context has only empty references.
    """
    kept = {context: [text for text in texts if text] for context, texts in references.items()}
    for context, texts in kept.items():
        if not texts:
            raise UserError(f"context {context!r} has only empty references: E2E's references file cannot hold it")
    dropped = sum(map(len, references.values())) - sum(map(len, kept.values()))
    if dropped:
        print(f"note: {dropped} empty references are left out", file=sys.stderr)
    return kept


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    """Parses and checks the command line; exits with status 2 where it is wrong."""
    parser = argparse.ArgumentParser(prog="gpt2_decode.py", description=__doc__.split("\n")[0])
    parser.add_argument("--vocab", default="vocab", help="folder with encoder.json and vocab.bpe (default: vocab)")
    parser.add_argument("--sample_file", required=True, help="what gpt2_beam.py wrote")
    parser.add_argument("--input_file", required=True, help="formatted file of the rows that were predicted")
    parser.add_argument("--output_ref_file", required=True, help="references: a file (e2e, squad) or a folder "
                                                                  "(webnlg, dart)")
    parser.add_argument("--output_pred_file", required=True, help="predictions, one per line (squad: JSON)")
    parser.add_argument("--reference_file", help="formatted file whose references are written instead of those of "
                                                 "--input_file (predictions on a sample, scored against all of them)")
    parser.add_argument("--ref_type", default="e2e", choices=("e2e", "webnlg", "dart", "squad"))
    parser.add_argument("--ref_num", type=int, default=6, help="reference files for webnlg and dart (default: 6)")
    parser.add_argument("--filter", default="all", choices=("all", "seen", "unseen"), help="WebNLG's categories")
    parser.add_argument("--tokenize", action="store_true", help="put spaces around each non-word character")
    parser.add_argument("--lower", action="store_true", help="lower-case")
    args = parser.parse_args(argv)
    if args.ref_num < 1:
        parser.error(f"--ref_num {args.ref_num}: expected 1 or more")
    if args.ref_type == "squad" and (args.reference_file or args.filter != "all" or args.tokenize or args.lower):
        parser.error("--ref_type squad goes without --reference_file, --filter, --tokenize and --lower: each row holds "
                     "all its answers, and eval/squad/evaluate.py normalizes them")
    return args


def write_answers(args: argparse.Namespace, contexts: Sequence[str], predictions: dict[str, list[int]],
                  tokenizer: Tokenizer) -> None:
    """Writes SQuAD's references and predictions, and prints how many.

    Args:
        args: from ``parse_arguments``.
        contexts: the context of each row.
        predictions: ``{context: ids}``.
        tokenizer: from ``load_tokenizer``.
    """
    records = [(f"{args.input_file}:{line_number}", record) for line_number, record in read_formatted(args.input_file)]
    document = references_document(records)
    decoded = tokenizer.decode_batch([predictions[context] for context in contexts])
    answers = {record["id"]: cut_text(text) for (_, record), text in zip(records, decoded)}
    write_json(args.output_ref_file, document)
    write_json(args.output_pred_file, answers)
    empty = sum(not text for text in answers.values())
    print(f"{args.output_pred_file}: {len(answers)} answers{f', {empty} of them empty' if empty else ''}; "
          f"{args.output_ref_file}: the questions with their gold answers")


def main(argv: list[str]) -> None:
    """Writes the references and the predictions."""
    args = parse_arguments(argv)
    contexts, references = read_inputs(args.input_file, args.filter)
    predictions = read_predictions(args.sample_file, contexts)
    check_covered(references, predictions, f"{args.sample_file}: no prediction",
                  f"predict every row of {args.input_file}")
    tokenizer = load_tokenizer(args.vocab)
    if args.ref_type == "squad":
        write_answers(args, contexts, predictions, tokenizer)
        return
    if args.reference_file:
        _, found = read_inputs(args.reference_file)
        check_covered(references, found, f"{args.reference_file}: no references",
                      f"give the full file that {args.input_file} was sampled from")
        references = {context: found[context] for context in references}
    if args.ref_type == "e2e":
        references = without_blanks(references)
    groups = [[finish(text, args.tokenize, args.lower) for text in texts] for texts in references.values()]
    decoded = tokenizer.decode_batch([predictions[context] for context in references])
    texts = [finish(cut_text(text), args.tokenize, args.lower) for text in decoded]
    write_references(args.output_ref_file, groups, args.ref_type, args.ref_num)
    with atomic_write(args.output_pred_file) as file:
        file.writelines(text + "\n" for text in texts)
    empty = sum(not text for text in texts)
    print(f"{args.output_pred_file}: {len(texts)} predictions{f', {empty} of them empty' if empty else ''}; "
          f"{args.output_ref_file}: {sum(map(len, groups))} references")
