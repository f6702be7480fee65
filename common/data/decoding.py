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
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from tokenizers import Tokenizer

from common.checks import at_least_one, shortened, token_ids
from common.data.rows import read_formatted
from common.data.squad_documents import references_document
from common.data.tokenizer import load_tokenizer
from common.errors import UserError, note
from common.files import atomic_write, check_outputs, read_json_lines, say_written, write_json
from common.vocabulary import END_OF_TEXT_TOKEN, EOS_IDS


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


def references_of(records: Iterable[tuple[int, dict[str, Any]]], path: str | os.PathLike,
                  kept: str = "all") -> dict[str, list[str]]:
    """Collects the references of each context.

    Args:
        records: ``(line_number, record)`` of each row of a formatted file.
        path: of that file, for messages.
        kept: ``all``, or ``seen`` / ``unseen`` to keep only the references of such rows (by their ``cate``).

    Returns:
        ``{context: [text, ...]}`` of the rows kept.

    Raises:
        UserError: a row has no ``cate``, or no row is kept.
    """
    references: dict[str, list[str]] = {}
    for line_number, record in records:
        if kept != "all":
            if not isinstance(record.get("cate"), bool):
                raise UserError(f"{path}:{line_number}: no true or false 'cate', which --filter {kept} needs; "
                                f"format_converting_webnlg.py writes it")
            if record["cate"] != (kept == "seen"):
                continue
        references.setdefault(record["context"], []).append(cut_text(record["completion"]))
    if not references:
        raise UserError(f"{path}: {'the file is empty' if kept == 'all' else f'no row is {kept}'}")
    return references


def read_predictions(path: str | os.PathLike, contexts: Sequence[str]) -> dict[str, list[int]]:
    """Reads ``{"id": row, "predict": [ids]}`` lines; the last prediction for a context counts.

    Says how many rows have no prediction, and how many contexts have rows with different ones.

    Args:
        path: the file that beam search wrote.
        contexts: the context of each row.

    Returns:
        ``{context: ids}``, each cut at its end of sequence.

    Raises:
        UserError: an id is no row or appears twice, or a prediction is not a list of GPT-2's ids.
    """
    predictions: dict[str, list[int]] = {}
    contradicted: set[str] = set()
    line_of: dict[int, int] = {}
    for line_number, record in read_json_lines(path, {"id": int, "predict": list}):
        where, row = f"{path}:{line_number}", record["id"]
        if not 0 <= row < len(contexts):
            raise UserError(f"{where}: id {row!r} is no row of the input file: it has rows 0 to {len(contexts) - 1}; "
                            f"was this prediction made from another file?")
        if row in line_of:
            raise UserError(f"{where}: id {row} appears twice, first in line {line_of[row]}")
        line_of[row] = line_number
        context, ids = contexts[row], cut_ids(token_ids(record["predict"], where, ".predict"))
        if predictions.setdefault(context, ids) != ids:
            contradicted.add(context)
            predictions[context] = ids
    if line_of and len(line_of) < len(contexts):
        note(f"{path}: no prediction for {len(contexts) - len(line_of)} of the {len(contexts)} rows")
    if contradicted:
        note(f"{path}: {len(contradicted)} of {len(predictions)} contexts have rows with different predictions, the "
             f"first {shortened(min(contradicted, key=contexts.index))}; the last of them counts")
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
        raise UserError(f"{what} for {len(missing)} of {len(needed)} contexts, the first: {shortened(missing[0])}; "
                        f"{remedy}")


def write_references(path: str | os.PathLike, groups: Sequence[Sequence[str]], ref_type: str, ref_num: int) -> None:
    """Writes the references of each context.

    Args:
        path: file (``e2e``) or folder (``webnlg``, ``dart``).
        groups: the texts of each context.
        ref_type: ``e2e``, ``webnlg`` or ``dart``.
        ref_num: how many files to write into the folder; a context with fewer references repeats its first.
    """
    paths = reference_paths(path, ref_type, ref_num)
    if ref_type == "e2e":
        with atomic_write(path) as file:
            file.writelines("\n".join(texts) + "\n\n" for texts in groups)
        return
    cut = sum(len(texts) > ref_num for texts in groups)
    if cut:
        note(f"{cut} contexts have more than {ref_num} references; only the first {ref_num} of each are written")
    for number, reference_path in enumerate(paths):
        with atomic_write(reference_path) as file:
            file.writelines((texts[number] if number < len(texts) else texts[0]) + "\n" for texts in groups)


def reference_paths(path: str | os.PathLike, ref_type: str, ref_num: int) -> list[str]:
    """Returns the files that references go to: ``path`` itself, or those in the folder ``path`` for WebNLG and DART.

    Raises:
        UserError: ``path`` is a folder instead of a file, or a file instead of a folder.
    """
    if ref_type in ("e2e", "squad"):
        if os.path.isdir(path):
            raise UserError(f"{path}: is a folder; --ref_type {ref_type} writes one file: give a file's name")
        return [os.fspath(path)]
    if os.path.exists(path) and not os.path.isdir(path):
        raise UserError(f"{path}: is a file; --ref_type {ref_type} writes a folder: give a folder's name")
    return [os.path.join(path, f"reference{number}") for number in range(ref_num)]


def without_blanks(references: dict[str, list[str]]) -> dict[str, list[str]]:
    """Returns the references without empty ones, which would end a group in E2E's references file early.

    Raises:
        UserError: a context has only empty references.
    """
    kept = {context: [text for text in texts if text] for context, texts in references.items()}
    for context, texts in kept.items():
        if not texts:
            raise UserError(f"the context {shortened(context)} has only empty references: E2E's references file cannot "
                            "hold it")
    dropped = sum(map(len, references.values())) - sum(map(len, kept.values()))
    if dropped:
        note(f"{dropped} empty references are left out")
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


def write_answers(args: argparse.Namespace, records: Sequence[tuple[int, dict[str, Any]]],
                  predictions: dict[str, list[int]], tokenizer: Tokenizer) -> None:
    """Writes SQuAD's references and predictions, and prints how many.

    Args:
        args: from ``parse_arguments``.
        records: ``(line_number, record)`` of each row.
        predictions: ``{context: ids}``.
        tokenizer: from ``load_tokenizer``.
    """
    document = references_document((f"{args.input_file}:{line_number}", record) for line_number, record in records)
    decoded = tokenizer.decode_batch([predictions[record["context"]] for _, record in records])
    answers = {record["id"]: cut_text(text) for (_, record), text in zip(records, decoded)}
    write_json(args.output_ref_file, document)
    write_json(args.output_pred_file, answers)
    empty = sum(not text for text in answers.values())
    say_written(args.output_pred_file,
                f"{args.output_pred_file}: {len(answers)} answers{f', {empty} of them empty' if empty else ''}; "
                f"{args.output_ref_file}: the questions with their gold answers")


def main(argv: list[str]) -> None:
    """Writes the references and the predictions."""
    args = parse_arguments(argv)
    check_outputs([*reference_paths(args.output_ref_file, args.ref_type, args.ref_num), args.output_pred_file],
                  [args.sample_file, args.input_file, args.reference_file])
    records = list(at_least_one(read_formatted(args.input_file), args.input_file))
    references = references_of(records, args.input_file, args.filter)
    predictions = read_predictions(args.sample_file, [record["context"] for _, record in records])
    check_covered(references, predictions, f"{args.sample_file}: no prediction",
                  f"predict every row of {args.input_file}")
    tokenizer = load_tokenizer(args.vocab)
    if args.ref_type == "squad":
        write_answers(args, records, predictions, tokenizer)
        return
    if args.reference_file:
        found = references_of(read_formatted(args.reference_file), args.reference_file)
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
    say_written(args.output_pred_file,
                f"{args.output_pred_file}: {len(texts)} predictions{f', {empty} of them empty' if empty else ''}; "
                f"{args.output_ref_file}: {sum(map(len, groups))} references")
