"""A slow, plain byte-level BPE, written from the GPT-2 paper (section 2.2) and the two vocabulary files alone."""

import functools
import json

import regex

WORDS = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")


def byte_symbols():
    """Each byte as a printable character: itself where it prints, else the next free one from 256 on."""
    printable = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or 174 <= b <= 255]
    others = [b for b in range(256) if b not in printable]
    return {**{b: chr(b) for b in printable}, **{b: chr(256 + i) for i, b in enumerate(others)}}


class PlainBPE:
    """``encode(text)`` and ``decode(ids)``."""

    def __init__(self, folder):
        self.ids = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
        self.tokens = {i: token for token, i in self.ids.items()}
        merges = (folder / "vocab.bpe").read_text(encoding="utf-8").split("\n")[1:-1]
        self.ranks = {tuple(merge.split()): rank for rank, merge in enumerate(merges)}
        self.symbols = byte_symbols()
        self.bytes = {symbol: b for b, symbol in self.symbols.items()}
        self.merged = functools.lru_cache(100000)(self._merged)

    def _merged(self, word):
        parts = [self.symbols[b] for b in word.encode("utf-8")]
        while len(parts) > 1:
            rank, i = min((self.ranks.get(pair, float("inf")), i) for i, pair in enumerate(zip(parts, parts[1:])))
            if rank == float("inf"):
                break
            parts[i:i + 2] = [parts[i] + parts[i + 1]]
        return [self.ids[part] for part in parts]

    def encode(self, text):
        return [i for word in WORDS.findall(text) for i in self.merged(word)]

    def decode(self, ids):
        return bytes(self.bytes[c] for i in ids for c in self.tokens[i]).decode("utf-8", errors="replace")
