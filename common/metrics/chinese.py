"""Scores of Chinese texts as ChatGLM's fine-tuning has them: ROUGE-1, 2 and L over words, BLEU-4 over characters."""

import logging
import warnings
from collections.abc import Sequence
from typing import Any

NAMES = ("bleu-4", "rouge-1", "rouge-2", "rouge-l")


def chinese_scores(predictions: Sequence[str], references: Sequence[str]) -> tuple[dict[str, float], list[dict]]:
    """Scores texts, each against one reference.

    ROUGE counts jieba's words (F1 as rouge-chinese computes it), BLEU-4 characters with smoothing method 3 of nltk
    (Chen and Cherry 2014). A prediction without a word has scores of 0.

    Returns:
        The means over the rows and each row's scores, ``{name: percent}``.
    """
    rows = [row_scores(prediction, reference) for prediction, reference in zip(predictions, references, strict=True)]
    return {name: sum(row[name] for row in rows) / len(rows) for name in NAMES}, rows


def row_scores(prediction: str, reference: str) -> dict[str, float]:
    """Returns ``{name: percent}`` of one text."""
    jieba, rouge = _libraries()
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

    words = [" ".join(jieba.cut(text)) for text in (prediction, reference)]
    scores = dict.fromkeys(NAMES, 0.0)
    if all(any(character not in " ." for character in text) for text in words):
        found = rouge.get_scores(*words)[0]
        scores.update({name: 100 * found[name]["f"] for name in NAMES[1:]})
    if prediction:
        scores["bleu-4"] = 100 * sentence_bleu([list(reference)], list(prediction),
                                               smoothing_function=SmoothingFunction().method3)
    return scores


def _libraries() -> tuple[Any, Any]:
    """Returns jieba and a Rouge; importing them takes a second, which other scores should not cost."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escape sequences in jieba, its use of pkg_resources
        import jieba
        from rouge_chinese import Rouge
    jieba.setLogLevel(logging.WARNING)
    return jieba, Rouge()
