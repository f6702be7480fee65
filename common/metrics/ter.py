"""Translation edit rate of the package pyter, which the WebNLG challenge's scorer uses; sacrebleu's is another number.

Snover et al. (2006), "A study of translation edit rate with targeted human annotation", section 2. pyter's search for
shifts differs from the paper's: it has no limits, and of equally good shifts it takes the one whose result is the
greatest list of words.
"""

from collections.abc import Sequence

from rapidfuzz.distance import Levenshtein


def translation_edit_rate(hypothesis: Sequence[str], reference: Sequence[str]) -> float:
    """Returns (shifts + insertions + deletions + substitutions) / words of the reference, from 0 (equal texts) up.

    Args:
        hypothesis: list of words.
        reference: list of words, not empty.
    """
    # One character per word, in the order of the words, so that strings compare as pyter's lists do.
    characters = {word: chr(rank) for rank, word in enumerate(sorted({*hypothesis, *reference}))}
    output, target = ("".join(map(characters.__getitem__, words)) for words in (hypothesis, reference))
    shifts, edits = 0, Levenshtein.distance(output, target)
    while edits:
        gain, shifted = _best_shift(output, target, edits)
        if not gain:
            break
        shifts, edits, output = shifts + 1, edits - gain, shifted
    return (shifts + edits) / len(target)


def _best_shift(output, target, edits):
    """Returns the greatest saving of edits by one shift and the output after it; (0, "") if no shift saves any."""
    best = (0, "")
    for length, start, goal in sorted(_matching_blocks(output, target), reverse=True):
        if 2 * length < best[0]:  # a shift saves at most the deletion and the insertion of each of its words
            break
        rest = output[:start] + output[start + length:]
        shifted = rest[:goal] + output[start:start + length] + rest[goal:]
        cutoff = edits - max(best[0], 1)
        saving = edits - Levenshtein.distance(shifted, target, score_cutoff=cutoff)
        if saving > 0:
            best = max(best, (saving, shifted))
    return best


def _matching_blocks(output, target):
    """Yields (length, start in output, start in target) of each longest equal block whose two starts differ."""
    for start, character in enumerate(output):
        goal = target.find(character)
        while goal >= 0:
            if goal != start:
                length = 1
                while output[start + length:start + length + 1] == target[goal + length:goal + length + 1] != "":
                    length += 1
                yield length, start, goal
            goal = target.find(character, goal + 1)


def segment_ter(hypothesis: str, references: Sequence[str]) -> float:
    """Returns the smallest edit rate over the references, each distinct one scored once; a blank one counts as 1.

    Args:
        hypothesis: tokens joined by spaces.
        references: at least one such string.
    """
    words = hypothesis.split()
    return min(translation_edit_rate(words, reference.split()) if reference.strip() else 1.0
               for reference in dict.fromkeys(references))
