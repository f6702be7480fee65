"""Formatted text to ids: one JSON object ``{"context": [ids], "completion": [ids]}`` per row.

    python src/gpt2_encode.py --vocab vocab --input data/e2e/train_formatted.jsonl --output data/e2e/train.jsonl \\
        --add_bos --add_eos
"""

import argparse
import itertools
import os
from collections.abc import Iterable, Iterator
from typing import Any

from tokenizers import Tokenizer
from tqdm import tqdm

from common.checks import at_least_one
from common.data.rows import read_formatted
from common.data.tokenizer import load_tokenizer
from common.files import check_outputs, read_lines, say_written, write_json_lines
from common.vocabulary import END_OF_TEXT

ROWS_AT_ONCE = 1024


def encode_rows(tokenizer: Tokenizer, records: Iterable[dict[str, Any]], add_bos: bool,
                add_eos: bool) -> Iterator[dict[str, list[int]]]:
    """Yields ``{"context": [ids], "completion": [ids]}`` for each ``{"context": text, "completion": text}``.

    The completion is encoded with a space before it, so that its first word has the same token as inside a text.

    Args:
        tokenizer: from ``load_tokenizer``.
        records: dictionaries with both texts.
        add_bos: whether the context ends in ``<|endoftext|>``.
        add_eos: whether the completion ends in ``<|endoftext|>``.
    """
    end_of_context = [END_OF_TEXT] if add_bos else []
    end_of_completion = [END_OF_TEXT] if add_eos else []
    records = iter(records)
    while batch := list(itertools.islice(records, ROWS_AT_ONCE)):
        contexts = tokenizer.encode_batch_fast([record["context"] for record in batch])
        completions = tokenizer.encode_batch_fast([" " + record["completion"] for record in batch])
        for context, completion in zip(contexts, completions):
            yield {"context": context.ids + end_of_context, "completion": completion.ids + end_of_completion}


def encode_file(tokenizer: Tokenizer, formatted: str | os.PathLike, encoded: str | os.PathLike, add_bos: bool = True,
                add_eos: bool = True) -> int:
    """Encodes a formatted file with a progress bar and returns the number of rows.

    Raises:
        UserError: a line is not a formatted row, or there is none.
    """
    total = sum(1 for _ in read_lines(formatted))
    records = (record for _, record in read_formatted(formatted))
    progress = tqdm(at_least_one(records, formatted), "encode", total, unit=" rows", mininterval=0.5)
    return write_json_lines(encoded, encode_rows(tokenizer, progress, add_bos, add_eos))


def main(argv: list[str]) -> None:
    """Encodes one formatted file."""
    parser = argparse.ArgumentParser(prog="gpt2_encode.py", description=__doc__.split("\n")[0])
    parser.add_argument("--input", required=True, help="formatted JSON lines: context and completion as text")
    parser.add_argument("--vocab", default="vocab", help="folder with encoder.json and vocab.bpe (default: vocab)")
    parser.add_argument("--output", required=True, help="JSON lines of ids to write")
    parser.add_argument("--add_bos", action="store_true", help="end each context with <|endoftext|>")
    parser.add_argument("--add_eos", action="store_true", help="end each completion with <|endoftext|>")
    args = parser.parse_args(argv)
    check_outputs([args.output], [args.input])
    rows = encode_file(load_tokenizer(args.vocab), args.input, args.output, args.add_bos, args.add_eos)
    say_written(args.output, f"{args.output}: {rows} rows")
