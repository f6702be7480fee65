"""Exact match and F1 of SQuAD v1.1.

Rajpurkar et al. (2016), "SQuAD: 100,000+ questions for machine comprehension of text", section 6.1.
Answers are compared without case, punctuation, the articles a, an and the, and superfluous whitespace, as the official
evaluation program does. A question's score is the best over its gold answers; a question without a prediction has 0.
"""

import collections
import os
import re
import string
from collections.abc import Collection, Sequence

from common.data.squad_documents import ANSWERS_SHAPE, read_document
from common.errors import UserError
from common.files import read_json
from common.metrics.bootstrap import Tally, mean_tally

METRICS = ("exact_match", "f1")
ARTICLES = re.compile(r"\b(a|an|the)\b")
WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize(answer: str) -> str:
    """Returns an answer as it is compared; only ASCII punctuation is deleted, as in the official program."""
    return " ".join(ARTICLES.sub(" ", answer.lower().translate(WITHOUT_PUNCTUATION)).split())


def exact_match(prediction: str, gold: str) -> float:
    """Returns 1.0 for equal answers, else 0.0."""
    return float(normalize(prediction) == normalize(gold))


def f1(prediction: str, gold: str) -> float:
    """Returns the harmonic mean of precision and recall of the words, from 0 (no word is shared) to 1."""
    found, expected = normalize(prediction).split(), normalize(gold).split()
    shared = sum((collections.Counter(found) & collections.Counter(expected)).values())
    return 2 * shared / (len(found) + len(expected)) if shared else 0.0


def tally_squad(answers: Collection[Sequence[str]], predictions: Collection[str | None]) -> dict[str, Tally]:
    """Scores predicted answers.

    Args:
        answers: for each question at least one gold answer.
        predictions: for each question a string, or None if there is no prediction.

    Returns:
        the tallies in the order of ``METRICS``, scores from 0 to 100.
    """
    measures = {"exact_match": exact_match, "f1": f1}
    return {name: mean_tally([0.0 if prediction is None else 100 * max(measure(prediction, text) for text in gold)
                              for gold, prediction in zip(answers, predictions)])
            for name, measure in measures.items()}


def read_answers(path: str | os.PathLike) -> dict[str, list[str]]:
    """Reads the gold answers of a file in the layout of the published ones.

    Returns:
        ``{question's id: [answer, ...]}``.

    Raises:
        UserError: the file has another layout, an id appears twice, or a question has no answer.
    """
    answers = {question["id"]: [answer["text"] for answer in question["answers"]]
               for _, _, _, question in read_document(path, ANSWERS_SHAPE)}
    if not answers:
        raise UserError(f"{path}: no questions in it")
    return answers


def read_answer_predictions(path: str | os.PathLike) -> dict[str, str]:
    """Reads predictions, one JSON object ``{question's id: answer}``.

    Raises:
        UserError: the file is something else.
    """
    return read_json(path, {str: str})
