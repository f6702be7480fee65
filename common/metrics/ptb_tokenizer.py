"""Stanford's Penn Treebank tokenizer, as the MS-COCO caption scorer uses it: lower case, no punctuation."""

import os
from collections.abc import Sequence

from pycocoevalcap.tokenizer import ptbtokenizer

from common.errors import UserError
from common.metrics.java import run_java


def ptb_tokenize(segments: Sequence[str]) -> list[str]:
    """Tokenizes segments, in one run of Java.

    The tokenizer looks across line ends (whether "U.S." keeps its full stop depends on the word after it). So the
    results depend on the order: give the references in one call, in their file's order, and the outputs in another.

    Args:
        segments: strings without line separators.

    Returns:
        for each segment its lower-cased tokens joined by spaces, without pycocoevalcap's ``PUNCTUATIONS``.

    Raises:
        UserError: Java is missing or fails, or returns another number of lines.
    """
    folder = os.path.dirname(os.path.abspath(ptbtokenizer.__file__))
    arguments = ["-cp", ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR, "edu.stanford.nlp.process.PTBTokenizer",
                 "-preserveLines", "-lowerCase"]
    lines = run_java("The PTB tokenizer", arguments, folder, "\n".join(segments)).split("\n")
    if len(lines) != len(segments):
        raise UserError(f"The PTB tokenizer returned {len(lines)} lines for {len(segments)} segments: a segment has a "
                        "character that it takes for a line end; remove it")
    return [" ".join(token for token in line.rstrip().split(" ") if token not in ptbtokenizer.PUNCTUATIONS)
            for line in lines]
