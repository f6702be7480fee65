"""Writes data/demo: restaurant MRs with several references each, in E2E's format, from a seeded grammar.

    python scripts/make_demo_data.py [--seed 1] [--output data/demo] [--vocab vocab]

Writes ``{train,valid,test}.txt`` (``MR||text``), ``_formatted.jsonl`` and ``.jsonl`` (ids). The same seed gives the
same bytes on every machine: of Python's random numbers only ``Random.random`` is used, whose sequence is fixed.
"""

import argparse
import os
import random

from common.converting import convert_e2e
from common.demo_grammar import VALUES, pick, reference, shuffled
from common.encoding import encode_file
from common.files import atomic_write, write_json_lines
from common.tokenizer import load_tokenizer

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
MR_COUNTS = {"train": 300, "valid": 40, "test": 40}
REFERENCES = (3, 4, 5)
# How often a slot is there; a name always is.
SLOT_SHARE = {"Type": 0.7, "food": 0.75, "price": 0.6, "customer rating": 0.55, "area": 0.6, "family friendly": 0.5,
              "near": 0.6}


def draw_mr(draw):
    """Returns a random MR: a dictionary of slot to value with a name and two to seven more, in E2E's slot order."""
    while True:
        mr = {"name": pick(draw, VALUES["name"])}
        for slot, share in SLOT_SHARE.items():
            if draw() < share:
                mr[slot] = pick(draw, VALUES[slot])
        if len(mr) - ("Type" in mr) >= 3:
            return mr


def make_splits(seed):
    """Returns ``{split: [(MR, text), ...]}``: no MR in two splits, three to five different texts for each.

    Train is shuffled; in valid and test the texts of one MR lie together.
    """
    draw = random.Random(seed).random
    mrs = {}
    while len(mrs) < sum(MR_COUNTS.values()):
        mr = draw_mr(draw)
        mrs.setdefault(" | ".join(f"{slot} : {value}" for slot, value in mr.items()), mr)
    remaining, splits = iter(mrs.items()), {}
    for split, count in MR_COUNTS.items():
        rows = []
        for _ in range(count):
            written, mr = next(remaining)
            wanted, texts = pick(draw, REFERENCES), {}
            while len(texts) < wanted:
                texts[reference(draw, mr)] = None
            rows += [(written, text) for text in texts]
        splits[split] = shuffled(draw, rows) if split == "train" else rows
    return splits


def make_demo_data(folder, vocab, seed=1):
    """Writes the nine files into ``folder`` and returns ``{split: number of rows}``."""
    tokenizer = load_tokenizer(vocab)
    counts = {}
    for split, rows in make_splits(seed).items():
        path = os.path.join(folder, split)
        with atomic_write(path + ".txt") as file:
            file.writelines(f"{mr}||{text} \n" for mr, text in rows)
        counts[split] = write_json_lines(path + "_formatted.jsonl", convert_e2e(path + ".txt"))
        encode_file(tokenizer, path + "_formatted.jsonl", path + ".jsonl")
    return counts


def main(argv):
    """Makes the demo data."""
    parser = argparse.ArgumentParser(prog="make_demo_data.py", description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=1, help="default: 1")
    parser.add_argument("--output", default=os.path.join(ROOT, "data", "demo"), help="folder (default: data/demo)")
    parser.add_argument("--vocab", default=os.path.join(ROOT, "vocab"), help="folder with encoder.json and vocab.bpe")
    args = parser.parse_args(argv)
    for split, rows in make_demo_data(args.output, args.vocab, args.seed).items():
        print(f"{os.path.join(args.output, split)}.jsonl: {rows} rows of {MR_COUNTS[split]} MRs")
