"""Stanford's Penn Treebank tokeniser, as the MS-COCO caption scorer uses it: lower case, no punctuation."""

import os

from pycocoevalcap.tokenizer import ptbtokenizer

from common.errors import UserError
from common.metrics.java import run_java


def ptb_tokenize(segments):
    """Tokenises segments, in one run of Java.

    The tokeniser looks across line ends (whether "U.S." keeps its full stop depends on the word after it), so equal
    results need equal neighbours: give the references in one call, in their file's order, and the outputs in another.

    Args:
        segments: list of strings without line separators.

    Returns:
        list of strings: lower-cased tokens joined by spaces, without pycocoevalcap's ``PUNCTUATIONS``.

    Raises:
        UserError: Java is missing or fails, or another number of lines comes back.
    """
    folder = os.path.dirname(os.path.abspath(ptbtokenizer.__file__))
    arguments = ["-cp", ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR, "edu.stanford.nlp.process.PTBTokenizer",
                 "-preserveLines", "-lowerCase"]
    lines = run_java("The PTB tokeniser", arguments, folder, "\n".join(segments)).split("\n")
    if len(lines) != len(segments):
        raise UserError(f"The PTB tokeniser gave {len(lines)} lines for {len(segments)} segments: some segment holds a "
                        "character that it takes for a line end; remove it")
    return [" ".join(token for token in line.rstrip().split(" ") if token not in ptbtokenizer.PUNCTUATIONS)
            for line in lines]
