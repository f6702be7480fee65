"""ROUGE over words and BLEU-4 over characters, against plain counts and nltk."""

import collections
import math

import jieba
import pytest

from common.metrics.chinese import NAMES, chinese_scores, row_scores

PREDICTION, REFERENCE = "简约的牛仔外套，白色的衣身十分百搭。", "简约而不简单的牛仔外套，白色的衣身，百搭。"


def plain_rouge(prediction, reference, n):
    """F1 of the sets of n-grams, as rouge-chinese counts them."""
    grams = [set(zip(*(words[i:] for i in range(n)))) for words in (list(jieba.cut(text)) for text in
                                                                   (prediction, reference))]
    common = len(grams[0] & grams[1])
    precision, recall = common / len(grams[0]), common / len(grams[1])
    return 100 * 2 * precision * recall / (precision + recall)


def plain_bleu(prediction, reference):
    """BLEU-4 over characters where every order has a match, so that nothing is smoothed."""
    logs = 0
    for n in range(1, 5):
        found, expected = (collections.Counter(text[i:i + n] for i in range(len(text) - n + 1))
                           for text in (prediction, reference))
        logs += math.log(sum((found & expected).values()) / found.total()) / 4
    return 100 * math.exp(logs) * min(1, math.exp(1 - len(reference) / len(prediction)))


def test_against_plain_counts():
    scores = row_scores(PREDICTION, REFERENCE)
    assert scores["bleu-4"] == pytest.approx(plain_bleu(PREDICTION, REFERENCE))
    for n in (1, 2):
        assert scores[f"rouge-{n}"] == pytest.approx(plain_rouge(PREDICTION, REFERENCE, n), abs=1e-4)


def test_equal_texts_have_all():
    scores, _ = chinese_scores([REFERENCE], [REFERENCE])
    assert scores == pytest.approx(dict.fromkeys(NAMES, 100), abs=1e-3)


def test_smoothing():
    """Method 3: orders without a match count 1/2, 1/4, 1/8 of one."""
    expected = 100 * math.exp((math.log(1 / 4) + math.log(1 / 2 / 3) + math.log(1 / 4 / 2) + math.log(1 / 8)) / 4)
    assert row_scores("甲乙丙丁", "戊甲己庚")["bleu-4"] == pytest.approx(expected)


def test_means_and_empty_texts():
    scores, rows = chinese_scores(["", REFERENCE], [REFERENCE, REFERENCE])
    assert rows[0] == dict.fromkeys(NAMES, 0.0)
    assert all(scores[name] == pytest.approx(rows[1][name] / 2) for name in NAMES)
    assert row_scores(".", REFERENCE)["rouge-l"] == 0
