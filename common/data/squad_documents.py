"""SQuAD v1.1's published layout: a document of articles, paragraphs and questions."""

import os
from collections.abc import Iterable, Iterator
from typing import Any

from common.checks import check_shape
from common.errors import UserError
from common.files import read_json

DOCUMENT_SHAPE = {"data": [{"title": str, "paragraphs": [{"context": str, "qas": [
    {"id": str, "question": str, "answers": [{"text": str, "answer_start": int}]}]}]}]}
# All that scoring needs.
ANSWERS_SHAPE = {"data": [{"paragraphs": [{"qas": [{"id": str, "answers": [{"text": str}]}]}]}]}


def read_document(path: str | os.PathLike, shape: dict) -> Iterator[
        tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]]:
    """Yields ``(where, article, paragraph, question)`` for each question of a document, each as the document has it.

    Args:
        path: the document, gzipped or not.
        shape: ``DOCUMENT_SHAPE`` or ``ANSWERS_SHAPE``.

    Raises:
        UserError: the file has another shape, an id appears twice, or a question has no answer.
    """
    identities: set[str] = set()
    for article in read_json(path, shape)["data"]:
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                where = f"{path}: question {question['id']}"
                if question["id"] in identities:
                    raise UserError(f"{where}: appears twice")
                identities.add(question["id"])
                if not question["answers"]:
                    raise UserError(f"{where}: no answers; SQuAD v1.1 has one for every question (v2.0 is not read)")
                yield where, article, paragraph, question


def references_document(records: Iterable[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """Returns formatted rows in the layout of the published files, with what scoring needs: ids and answers.

    Args:
        records: ``(where, formatted row)`` of each row.

    Raises:
        UserError: a row lacks its id or answers, or an id appears twice.
    """
    entries: dict[str, dict[str, Any]] = {}
    for where, record in records:
        check_shape(record, {"id": str, "answers": [str]}, where)
        identity = record["id"]
        if identity in entries:
            raise UserError(f"{where}: the id {identity!r} appears twice")
        entries[identity] = {"id": identity, "question": record.get("question", ""),
                             "answers": [{"text": text} for text in record["answers"]]}
    return {"version": "1.1", "data": [{"title": "", "paragraphs": [{"context": "", "qas": list(entries.values())}]}]}
