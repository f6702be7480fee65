"""Trains chatglm2-nano's SentencePiece model: the demo's advertisements in the prompt's form, and common characters."""

import io

import sentencepiece

from common.demo.advertising import make_rows

ROWS, SEED = 6000, 7


def common_characters() -> str:
    """Returns the 3755 most common Chinese characters (GB 2312, level 1), its punctuation, and printable ASCII."""
    characters = [chr(code) for code in range(33, 127)]
    for row in (0xA1, 0xA3, *range(0xB0, 0xD8)):
        for column in range(0xA1, 0xFF):
            characters.append(bytes((row, column)).decode("gb2312", errors="ignore"))
    return "".join(dict.fromkeys("".join(characters).replace("\u3000", "")))


def train_tokenizer(pieces: int) -> bytes:
    """Returns a SentencePiece model (BPE with byte fallback) of so many pieces; the same bytes at every call."""
    characters, model = common_characters(), io.BytesIO()
    rows = make_rows(SEED, {"train": ROWS})["train"]
    sentences = [*(text for row in rows for text in (row["content"], row["summary"])),
                 *["[Round 1]", "问：", "答："] * 500]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences), model_writer=model, model_type="bpe", vocab_size=pieces,
        required_chars=characters, character_coverage=1.0, byte_fallback=True, split_digits=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, unk_id=0, bos_id=1, eos_id=2, pad_id=-1,
        num_threads=1, minloglevel=2)
    return model.getvalue()
