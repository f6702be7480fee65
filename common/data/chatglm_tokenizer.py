"""ChatGLM2's tokenizer: SentencePiece pieces, the special tokens behind them, and the prompt of a dialogue."""

import os
from collections.abc import Sequence

import sentencepiece

from common.errors import UserError

FILE = "tokenizer.model"
UNKNOWN, END_OF_TEXT = 0, 2
SPECIAL_TOKENS = ("[MASK]", "[gMASK]", "[sMASK]", "sop", "eop")  # their ids follow those of the pieces, in this order
INCOMPLETE = "\ufffd"  # what a text ends with where only some bytes of a character are there

Turn = Sequence[str]  # a question and its answer


class ChatGLMTokenizer:
    """Text to ids and back.

    Args:
        path: a SentencePiece model.
        pieces: how many pieces it must have, as the model's embedding was made for.

    Raises:
        UserError: the file is missing, is no SentencePiece model, or has another number of pieces.
    """

    def __init__(self, path: str | os.PathLike, pieces: int) -> None:
        if not os.path.isfile(path):
            raise UserError(f"{path}: no such file; expected the SentencePiece model that belongs to the weights")
        try:
            self.processor = sentencepiece.SentencePieceProcessor(model_file=os.fspath(path))
        except RuntimeError as error:
            raise UserError(f"{path}: is no SentencePiece model; copy the tokenizer.model that belongs to the weights"
                            ) from error
        found = self.processor.get_piece_size()
        if found != pieces:
            raise UserError(f"{path}: has {found} pieces, expected {pieces}: it is the tokenizer of another model; "
                            "take the tokenizer.model that belongs to the weights")
        self.pieces = pieces
        self.special_ids = {token: pieces + index for index, token in enumerate(SPECIAL_TOKENS)}

    def encode(self, text: str) -> list[int]:
        """Returns the ids of a text, without special tokens."""
        return self.processor.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text of ids; special tokens, padding and the end of text have none."""
        return self.processor.decode([token for token in map(int, ids)
                                      if token < self.pieces and token not in (UNKNOWN, END_OF_TEXT)])

    def prompt_ids(self, question: str, history: Sequence[Turn] = (), prefix: str = "") -> list[int]:
        """Returns the ids of ``[gMASK] sop`` and of the prompt that asks a question.

        Args:
            question: the text.
            history: earlier turns, oldest first.
            prefix: what is put before the prompt.
        """
        return [self.special_ids["[gMASK]"], self.special_ids["sop"],
                *self.encode(prefix + prompt_text(question, history))]


def prompt_text(question: str, history: Sequence[Turn] = ()) -> str:
    """Returns the prompt of a dialogue's next turn, in the form that ChatGLM2 was trained with."""
    turns = [f"[Round {number}]\n\n问：{asked}\n\n答：{answered}\n\n" for number, (asked, answered) in
             enumerate(history, 1)]
    return "".join(turns) + f"[Round {len(history) + 1}]\n\n问：{question}\n\n答："


class TextStream:
    """Makes text of ids that come one by one, and holds back a character of which only some bytes are there."""

    def __init__(self, tokenizer: ChatGLMTokenizer) -> None:
        self.tokenizer, self.ids, self.written = tokenizer, [], 0

    def add(self, token: int) -> str:
        """Takes in an id; returns the text that is new."""
        self.ids.append(token)
        text = self.tokenizer.decode(self.ids)
        return "" if text.endswith(INCOMPLETE) else self._new(text)

    def end(self) -> str:
        """Returns what was held back."""
        return self._new(self.tokenizer.decode(self.ids))

    def _new(self, text):
        new, self.written = text[self.written:], len(text)
        return new
