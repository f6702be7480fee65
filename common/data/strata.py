"""The stratum of each row of a data set: samples are stratified by it, and tables of counts have a line for each.

A stratum is a pair ``(part, name)``. WebNLG has the parts ``seen`` and ``unseen``, the other sets one part, ``""``.
"""

import collections
import os
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from common.errors import UserError

# The folder of each data set under data/, and the possible names of a split's files.
FOLDERS = {"e2e": "e2e", "webnlg": "webnlg_challenge_2017", "dart": "dart", "squad": "squad"}
SPLITS = {"train": ("train",), "valid": ("valid", "dev"), "test": ("test",)}


def chosen_sets(names: Sequence[str] | None, data: str | os.PathLike) -> list[str]:
    """Returns the data sets to work on: those named or, if none is named, all in the folder ``data``.

    Raises:
        UserError: none is named, and ``data`` has none.
    """
    present = [name for name, folder in FOLDERS.items() if os.path.isdir(os.path.join(data, folder))]
    if not names and not present:
        raise UserError(f"{data}: none of {', '.join(FOLDERS.values())}; run `bash scripts/create_datasets.sh` first")
    return list(dict.fromkeys(names or present))


def formatted_path(folder: str | os.PathLike, split: str) -> str:
    """Returns the path of a split's formatted file.

    Raises:
        UserError: there is none.
    """
    paths = [os.path.join(folder, name + "_formatted.jsonl") for name in SPLITS[split]]
    for path in paths:
        if os.path.isfile(path):
            return path
    raise UserError(f"{paths[0]}: no such file; run `bash scripts/create_datasets.sh` first")


def e2e_strata(records: Sequence[dict[str, Any]], where: str) -> list[tuple[str, str]]:
    """Returns ``("", Type)`` for each row; the type is ``none`` if the context has none."""
    return [("", slots_of(record["context"]).get("Type", "none")) for record in records]


def slots_of(context: str) -> dict[str, str]:
    """Returns ``{slot: value}`` of an E2E meaning representation."""
    return {slot.strip(): value.strip() for slot, _, value in (part.partition(" : ") for part in context.split(" | "))}


def webnlg_strata(records: Sequence[dict[str, Any]], where: str) -> list[tuple[str, str]]:
    """Returns ``("seen" or "unseen", category)`` for each row.

    Raises:
        UserError: a row lacks ``cate`` or ``category``.
    """
    strata = []
    for number, record in enumerate(records, 1):
        if not isinstance(record.get("cate"), bool) or not isinstance(record.get("category"), str):
            raise UserError(f"{where}:{number}: no 'cate' and 'category'; write the file again with "
                            f"format_converting_webnlg.py (`bash scripts/create_datasets.sh webnlg`)")
        strata.append(("seen" if record["cate"] else "unseen", record["category"]))
    return strata


def predicates_of(context: str) -> list[str]:
    """Returns the predicates of a context ``s : p : o | s : p : o``, in order and with repetitions."""
    return [parts[1].strip() for parts in (triple.split(" : ") for triple in context.split(" | ")) if len(parts) > 1]


def predicate_frequencies(records: Iterable[dict[str, Any]]) -> collections.Counter[str]:
    """Returns for each predicate the number of rows whose context has it."""
    return collections.Counter(predicate for record in records for predicate in set(predicates_of(record["context"])))


def dart_strata(records: Sequence[dict[str, Any]], where: str) -> list[tuple[str, str]]:
    """Returns ``("", predicate)`` for each row: the one of its predicates that most rows of the split have.

    Ties go to the predicate that the row repeats more often, then to the first in alphabetical order.
    """
    frequency = predicate_frequencies(records)

    def stratum(context: str) -> str:
        own = collections.Counter(predicates_of(context))
        return min(own, key=lambda predicate: (-frequency[predicate], -own[predicate], predicate), default="none")

    return [("", stratum(record["context"])) for record in records]


QUESTION_WORD = re.compile(r"\b(how (?:many|much)|what|who|when|which|where|why|how)(?:m|se)?\b")


def question_type(question: str) -> str:
    """Returns the first question word, or ``other``; how much is ``how many``, whom and whose are ``who``."""
    found = QUESTION_WORD.search(question.lower())
    return found[1].replace("much", "many") if found else "other"


def squad_strata(records: Sequence[dict[str, Any]], where: str) -> list[tuple[str, str]]:
    """Returns ``("", question word)`` for each row.

    Raises:
        UserError: a row lacks ``question``.
    """
    for number, record in enumerate(records, 1):
        if not isinstance(record.get("question"), str):
            raise UserError(f"{where}:{number}: no 'question'; write the file again with format_converting_squad.py "
                            f"(`bash scripts/create_datasets.sh squad`)")
    return [("", question_type(record["question"])) for record in records]


def label(stratum: tuple[str, str]) -> str:
    """Returns ``seen / Airport`` or, for a set of one part, only the name."""
    return " / ".join(filter(None, stratum))


STRATA: dict[str, Callable[[Sequence[dict[str, Any]], str], list[tuple[str, str]]]] = {
    "e2e": e2e_strata, "webnlg": webnlg_strata, "dart": dart_strata, "squad": squad_strata}
