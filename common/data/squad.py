"""Converts SQuAD v1.1 to lines of ``{"context", "completion"}``: passage and question, then the answer.

    python src/format_converting_squad.py data/squad/train-v1.1.json data/squad/train_formatted.jsonl --split train
    python src/format_converting_squad.py data/squad/dev-v1.1.json data/squad/test_formatted.jsonl

A context is three lines, ``Passage: ...``, ``Question: ...`` and ``Answer:``. The published dev set is the test set
here, so the validation set is held out of train: complete articles, namely the twentieth of them whose titles have the
smallest SHA-256. A row also has the question's ``id``, ``title`` and ``question``, and all ``answers``.

``--seq_len`` tokens must suffice for the passage, the question and ``--eval_len`` tokens of answer. A passage that is
too long is replaced by a window: consecutive words of it, as many as fit. The window with most of the question's words
is taken; rare words weigh more. For training and validation it must also contain the answer; for the test set the
answer does not influence the choice.
"""

import argparse
import bisect
import collections
import hashlib
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tokenizers import Tokenizer
from tqdm import tqdm

from common.checks import at_least_one, shortened
from common.data.squad_documents import DOCUMENT_SHAPE, read_document
from common.data.tokenizer import load_tokenizer
from common.errors import UserError
from common.files import check_outputs, say_written, write_json_lines

SEQ_LEN, EVAL_LEN = 512, 32
SPLITS = ("train", "valid", "test")
HELD_OUT = 20  # one of so many articles is for validation
WORD = re.compile(r"\S+")


def context_of(passage: str, question: str) -> str:
    """Returns the text that the model reads before an answer; each run of whitespace becomes one space."""
    return f"Passage: {' '.join(passage.split())}\nQuestion: {' '.join(question.split())}\nAnswer:"


def plain_word(word: str) -> str:
    """Returns a word's letters and digits in lower case."""
    return "".join(filter(str.isalnum, word.lower()))


class Windows:
    """Shortens passages to windows that fit.

    Args:
        tokenizer: from ``load_tokenizer``.
        seq_len: maximum number of tokens of context, ``<|endoftext|>`` and answer.
        eval_len: minimum number of tokens left for the answer.
    """

    def __init__(self, tokenizer: Tokenizer, seq_len: int = SEQ_LEN, eval_len: int = EVAL_LEN) -> None:
        self.tokenizer, self.seq_len, self.eval_len = tokenizer, seq_len, eval_len
        self.lengths: dict[str, int] = {}  # tokens of the words counted so far

    def count_tokens(self, words: Sequence[str]) -> list[int]:
        """Returns the number of tokens of each word inside a text: GPT-2's BPE never merges across a space."""
        unknown = [word for word in dict.fromkeys(words) if word not in self.lengths]
        for word, encoding in zip(unknown, self.tokenizer.encode_batch_fast([" " + word for word in unknown])):
            self.lengths[word] = len(encoding.ids)
        return [self.lengths[word] for word in words]

    def token_budget(self, question: str, answer: str, where: str) -> int:
        """Returns how many tokens are left for the passage beside the question and the answer (``""`` if unknown).

        Context and answer end in one ``<|endoftext|>`` each.

        Raises:
            UserError: none is left.
        """
        probe = "a"  # an empty passage would be encoded with a space of its own
        fixed = len(self.tokenizer.encode(context_of(probe, question)).ids) - sum(self.count_tokens([probe])) + 1
        completion = len(self.tokenizer.encode(" " + answer).ids) + 1 if answer else 0
        budget = self.seq_len - fixed - max(self.eval_len, completion)
        if budget < 1:
            raise UserError(f"{where}: question and answer leave no tokens for a passage: they need {fixed} and "
                            f"{max(self.eval_len, completion)} of {self.seq_len}; give a larger --seq_len")
        return budget

    def shorten(self, passage: str, question: str, answer: tuple[str, int] | None = None,
                where: str = "the passage") -> str:
        """Chooses the words to keep.

        Args:
            passage, question: the published texts.
            answer: ``(text, index of its first character in the passage)`` of what must be kept, or None.
            where: start of the message of an error.

        Returns:
            The passage or, if it does not fit, a window of it.

        Raises:
            UserError: question and answer leave too few tokens.
        """
        spans = [match.span() for match in WORD.finditer(passage)]
        words = [passage[start:end] for start, end in spans]
        lengths = self.count_tokens(words)
        budget = self.token_budget(question, " ".join(answer[0].split()) if answer else "", where)
        if sum(lengths) <= budget:
            return passage
        kept = None
        if answer:
            first, last = answer[1], answer[1] + len(answer[0])
            inside = [index for index, (start, end) in enumerate(spans) if start < last and end > first]
            kept = (inside[0], inside[-1] + 1)
        start, end = best_window(words, lengths, question, budget, kept)
        if start == end:
            raise UserError(f"{where}: the answer does not fit into the {budget} tokens that --seq_len {self.seq_len} "
                            "leaves for the passage; give a larger --seq_len")
        return " ".join(words[start:end])


def best_window(words: Sequence[str], lengths: Sequence[int], question: str, budget: int,
                kept: tuple[int, int] | None = None) -> tuple[int, int]:
    """Returns the window of words, ``(start, end)``, that shares most words with the question.

    A word's weight is 1 / how often the passage has it. Of equally good windows the one is taken whose middle is
    nearest to the shared words, then the first.

    Args:
        words: of the passage.
        lengths: tokens of each.
        question: the question.
        budget: maximum number of tokens of the window; windows are as long as they can be.
        kept: range of words that the window must contain, or None.

    Returns:
        ``(0, 0)`` if no window can contain ``kept``.
    """
    asked = set(filter(None, map(plain_word, question.split())))
    positions = collections.defaultdict(list)
    for index, word in enumerate(map(plain_word, words)):
        if word in asked:
            positions[word].append(index)
    best, chosen = None, (0, 0)
    end = total = 0
    for start in range(len(words)):
        while end < len(words) and total + lengths[end] <= budget:
            total += lengths[end]
            end += 1
        if end > start:
            if kept is None or start <= kept[0] and kept[1] <= end:
                quality = window_quality(positions, start, end)
                if best is None or quality > best:
                    best, chosen = quality, (start, end)
            total -= lengths[start]
        else:
            end = start + 1  # a word longer than the budget is in no window
        if end == len(words) and chosen != (0, 0):
            break
    return chosen


def window_quality(positions: Mapping[str, Sequence[int]], start: int, end: int) -> tuple[float, float]:
    """Returns ``(weight of the question's words in the window, minus their mean position's distance from its middle)``.

    Args:
        positions: of each of the question's words in the passage, sorted.
        start, end: the window.
    """
    weight = centre = 0.0
    for indices in positions.values():
        first, last = bisect.bisect_left(indices, start), bisect.bisect_left(indices, end)
        if first < last:
            weight += 1 / len(indices)
            centre += sum(indices[first:last]) / (last - first) / len(indices)
    return weight, -abs(centre / weight - (start + end - 1) / 2) if weight else 0.0


def read_questions(path: str | os.PathLike) -> Iterator[tuple[str, str, str, str, str, list[tuple[str, int]]]]:
    """Yields ``(where, title, passage, question's id, question, [(answer, index of its first character), ...])``.

    Raises:
        UserError: as ``common.data.squad_documents.read_document``, or an answer is not at its index in the passage.
    """
    for where, article, paragraph, question in read_document(path, DOCUMENT_SHAPE):
        answers = [(answer["text"], answer["answer_start"]) for answer in question["answers"]]
        passage = paragraph["context"]
        for text, start in answers:
            found = passage[start:start + len(text)] if start >= 0 else ""
            if not text.strip() or found != text:
                raise UserError(f"{where}: found {shortened(found)} at character {start} of the passage, expected the "
                                f"answer {shortened(text)}")
        yield where, article["title"], passage, question["id"], question["question"], answers


def held_out(titles: Iterable[str]) -> set[str]:
    """Returns the titles whose articles are for validation."""
    ordered = sorted(set(titles), key=lambda title: hashlib.sha256(title.encode()).digest())
    return set(ordered[:-(-len(ordered) // HELD_OUT)])


def convert_squad(path: str | os.PathLike, split: str, tokenizer: Tokenizer, seq_len: int = SEQ_LEN,
                  eval_len: int = EVAL_LEN) -> Iterator[dict[str, Any]]:
    """Yields one record for each question of a split; prints at the end how many passages were shortened.

    Args:
        path: the published train file for ``train`` and ``valid``, dev for ``test``.
        split: ``train``, ``valid`` or ``test``; it decides the articles and how windows are chosen.
        tokenizer: from ``load_tokenizer``.
        seq_len, eval_len: see the module.

    Raises:
        UserError: as ``read_questions`` and ``Windows``.
    """
    questions = list(read_questions(path))
    if split != "test":
        validation = held_out(title for _, title, *_ in questions)
        questions = [row for row in questions if (row[1] in validation) == (split == "valid")]
    windows = Windows(tokenizer, seq_len, eval_len)
    shortened_rows = without_answer = 0
    for where, title, passage, identity, question, answers in questions:
        kept = windows.shorten(passage, question, None if split == "test" else answers[0], where)
        if kept != passage:
            shortened_rows += 1
            without_answer += not any(" ".join(text.split()) in kept for text, _ in answers)
        yield {"context": context_of(kept, question), "completion": " ".join(answers[0][0].split()), "id": identity,
               "title": title, "question": question, "answers": [text for text, _ in answers]}
    tqdm.write(f"{path}, {split}: {shortened_rows} of {len(questions)} passages shortened to fit {seq_len} tokens with "
               f"{eval_len} for the answer; in {without_answer} of them no answer is left", file=sys.stderr)


def main(argv: list[str]) -> None:
    """Converts one split."""
    parser = argparse.ArgumentParser(prog="format_converting_squad.py", description=__doc__.split("\n")[0])
    parser.add_argument("input", help="the published file, gzipped (`.gz`) or not")
    parser.add_argument("output", help="the JSON-lines file to write")
    parser.add_argument("--split", default="test", choices=SPLITS,
                        help="train, valid: of the published train file; test: all of dev (default: test)")
    parser.add_argument("--vocab", default="vocab", help="folder with encoder.json and vocab.bpe (default: vocab)")
    parser.add_argument("--seq_len", type=int, default=SEQ_LEN, help=f"longest row in tokens (default: {SEQ_LEN})")
    parser.add_argument("--eval_len", type=int, default=EVAL_LEN,
                        help=f"tokens that are left for an answer (default: {EVAL_LEN})")
    args = parser.parse_args(argv)
    check_outputs([args.output], [args.input])
    records = tqdm(convert_squad(args.input, args.split, load_tokenizer(args.vocab), args.seq_len, args.eval_len),
                   "squad", unit=" rows", mininterval=0.5)
    rows = write_json_lines(args.output, at_least_one(records, args.input))
    say_written(args.output, f"{args.output}: {rows} rows")
