"""The scores of the E2E challenge: BLEU, NIST, METEOR, ROUGE_L and CIDEr.

The numbers are those of the challenge's own program, e2e-metrics (Dusek, Novikova and Rieser, 2020, "Evaluating the
state-of-the-art of end-to-end natural language generation"), with its Python option ``-p``. That program has two bugs.
They change only BLEU and NIST, and ``corrected=True`` computes the scores without them:
- an output of L tokens adds L - n + 1 to the number of n-grams, even if that is negative;
- an output without tokens counts as one token.
"""

import os
from collections.abc import Sequence

import numpy as np
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

from common.errors import UserError, note
from common.metrics.bleu import ORDER, count_bleu, score_counts, score_segments
from common.metrics.bootstrap import Tally, mean_tally
from common.metrics.meteor import meteor
from common.metrics.nist import nist
from common.metrics.ptb_tokenizer import ptb_tokenize
from common.metrics.segments import read_segments

METRICS = ("BLEU", "NIST", "METEOR", "ROUGE_L", "CIDEr")
EMPTY_TOKEN = "<empty>"  # mteval-v13a's tokenization separates < and > from words, so no text has this token

# The official program takes at least MIN_MATCHES matches and MIN_NGRAMS n-grams, so that BLEU's logarithms exist.
MIN_MATCHES = 1e-15
MIN_NGRAMS = 1e-9


def read_references(path: str | os.PathLike) -> list[list[str]]:
    """Reads groups of references: those of one output on consecutive lines, one blank line after each group.

    Further blank lines at the end of the file are ignored, and said.

    Returns:
        list of groups, each a list of at least one string, stripped of surrounding whitespace.

    Raises:
        UserError: the file is missing, empty or not UTF-8, a line holds another line separator, or a group is empty.
    """
    groups: list[list[str]] = [[]]
    surplus: list[int] = []
    for line_number, text in [*read_segments(path), (0, "")]:
        if surplus and (text or len(groups) == 1):
            raise UserError(f"{path}:{surplus[0]}: found a blank line where a reference should be (group {len(groups)} "
                            "has none); one blank line ends a group: remove this one")
        if text:
            groups[-1].append(text)
        elif groups[-1]:
            groups.append([])
        elif line_number:
            surplus.append(line_number)
    if surplus:
        note(f"{path}: {len(surplus)} blank lines at its end, behind the one that ends a group, are ignored")
    return groups[:-1]


def match_outputs(references: list[list[str]], predictions: list[str], reference_path: str | os.PathLike,
                  prediction_path: str | os.PathLike) -> tuple[list[list[str]], list[str]]:
    """Returns the references and the outputs so that there is one output for each group.

    As in the official program, a file without blank lines between references has one reference a line. Blank outputs
    beyond the last group are ignored, and said.

    Raises:
        UserError: the numbers differ; the message names the first line that has no counterpart.
    """
    if len(references) == 1 and 1 < len(references[0]) <= len(predictions):
        references = [[reference] for reference in references[0]]
        note(f"{reference_path}: has no blank line between references, so each line is the only reference of an output")
    shared = min(len(references), len(predictions))
    blanks = len(predictions) - shared
    if blanks and not any(predictions[shared:]):
        note(f"{prediction_path}: {blanks} blank lines at its end, for which there are no references, are ignored")
        predictions = predictions[:shared]
    if len(references) > shared:
        line = 1 + sum(len(group) + 1 for group in references[:shared])
        surplus = f"{reference_path}:{line}: the first group without an output"
    elif len(predictions) > shared:
        surplus = f"{prediction_path}:{shared + 1}: the first output without references"
    else:
        return references, predictions
    raise UserError(f"{surplus}. {reference_path} has {len(references)} groups of references (a blank line ends each), "
                    f"{prediction_path} has {len(predictions)} lines; expected one line per group, REF before PRED")


def tokenize_13a(text: str) -> list[str]:
    """Returns the tokens of mteval-v13a (by sacrebleu's code), each in lower case."""
    # Lower-casing comes last, as in the official program: if it came first, "&AMP;" would become an entity.
    return [token.lower() for token in Tokenizer13a()(text).split()]


def _reference_streams(references: Sequence[Sequence[str]]) -> list[list[str | None]]:
    """Returns sacrebleu's streams of groups of strings: stream k has the k-th reference of each group or None."""
    width = max(map(len, references))
    return [[group[index] if index < len(group) else None for group in references] for index in range(width)]


def bleu(references: Sequence[Sequence[Sequence[str]]], predictions: Sequence[Sequence[str]],
         corrected: bool) -> Tally:
    """Returns the tally of BLEU-4, from 0 to 1 (Papineni et al., 2002), counted by sacrebleu.

    Args:
        references: for each segment a list of at least one list of tokens.
        predictions: for each segment a list of tokens.
        corrected: without the official program's negative numbers of n-grams.

    Returns:
        Tally; the scores of single segments are smoothed.
    """
    streams = _reference_streams([list(map(" ".join, group)) for group in references])
    counts = count_bleu(BLEU(tokenize="none", force=True), list(map(" ".join, predictions)), streams)
    segment_scores = [score / 100 for score in score_segments(counts)]
    if not corrected:
        counts[:, 2 + ORDER:] = counts[:, :1] - np.arange(ORDER)

    def score(sums: np.ndarray) -> list[float]:
        return [score / 100 for score in score_counts(sums, MIN_MATCHES, MIN_NGRAMS, smooth_method="none")]

    return Tally(counts, score, segment_scores)


def bleu_signature(references: Sequence[Sequence[str]]) -> str:
    """Returns sacrebleu's signature of the BLEU that equals the ``corrected`` one if every order has a match."""
    metric = BLEU(lowercase=True, tokenize="13a", smooth_method="none", references=_reference_streams(references))
    return str(metric.get_signature())


def tally_ngrams(references: Sequence[Sequence[str]], predictions: Sequence[str],
                 corrected: bool = False) -> dict[str, Tally]:
    """Returns the tallies of BLEU and NIST; arguments as for ``tally_e2e``. Needs no Java."""
    empty = [] if corrected else [EMPTY_TOKEN]
    prediction_tokens = [tokenize_13a(prediction) or empty for prediction in predictions]
    reference_tokens = [[tokenize_13a(reference) or empty for reference in group] for group in references]
    return {"BLEU": bleu(reference_tokens, prediction_tokens, corrected),
            "NIST": nist(reference_tokens, prediction_tokens, corrected)}


def tally_captions(references: Sequence[Sequence[str]], predictions: Sequence[str]) -> dict[str, Tally]:
    """Returns the tallies of METEOR, ROUGE_L and CIDEr, by pycocoevalcap; arguments as for ``tally_e2e``.

    ROUGE_L: Lin (2004), beta 1.2, best precision and best recall over the references. CIDEr: Vedantam et al. (2015),
    in pycocoevalcap's form (CIDEr-D: clipped, with a length penalty of sigma 6, times 10). Its document frequencies
    are those of all the references, also when segments are resampled.
    """
    tokenized = iter(ptb_tokenize([reference for group in references for reference in group]))
    reference_texts = [[next(tokenized) for _ in group] for group in references]
    prediction_texts = ptb_tokenize(predictions)
    if not any(text for group in reference_texts for text in group):
        raise UserError("No reference holds a word (only punctuation): CIDEr is not defined; check the references")
    gold, outputs = dict(enumerate(reference_texts)), {index: [text] for index, text in enumerate(prediction_texts)}
    return {"METEOR": meteor(reference_texts, prediction_texts),
            "ROUGE_L": mean_tally(Rouge().compute_score(gold, outputs)[1]),
            "CIDEr": mean_tally(Cider().compute_score(gold, outputs)[1])}


def tally_e2e(references: Sequence[Sequence[str]], predictions: Sequence[str],
              corrected: bool = False) -> dict[str, Tally]:
    """Scores outputs against one or several references each, as the E2E challenge does.

    Args:
        references: groups, each of at least one string, none with a line separator.
        predictions: one string per group; an empty one counts.
        corrected: BLEU and NIST without the official program's two bugs (see the module).

    Returns:
        the tallies in the order of ``METRICS``: BLEU, METEOR and ROUGE_L from 0 to 1, NIST and CIDEr from 0 up.

    Raises:
        UserError: Java is missing, METEOR or the tokenizer fails, or no reference holds a word.
        ValueError: the two lists differ in length, are empty, or a group is empty.
    """
    if not predictions or len(references) != len(predictions) or not all(references):
        raise ValueError(f"{len(references)} groups of references ({sum(map(bool, references))} of them not empty) for "
                         f"{len(predictions)} predictions; expected one group, not empty, for each prediction")
    tallies = {**tally_ngrams(references, predictions, corrected), **tally_captions(references, predictions)}
    return {metric: tallies[metric] for metric in METRICS}
