"""Whatever a file holds, each parser reads it or refuses it with a sentence that names it."""

import json

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.data.converting import convert_dart, convert_e2e, convert_webnlg
from common.data.decoding import read_predictions, references_of
from common.data.events import read_phee, read_questions
from common.data.rams import read_rams, read_roles
from common.data.rows import read_encoded, read_formatted
from common.data.squad import read_questions as read_squad
from common.errors import UserError
from common.metrics.e2e import read_references
from common.metrics.segments import read_texts
from common.metrics.squad import read_answer_predictions, read_answers
from common.model.lora_file import read_trained
from common.model.weight_files import read_arrays
from tests.common.any_input import changed, damaged
from tests.common.data.event_cases import EVENT, QUESTIONS, ROLES, SENTENCE, rams_record

FORMATTED = [{"context": "name : Aé | food : B", "completion": "A serves B .", "cate": True},
             {"context": "name : C", "completion": "", "cate": False}]
ENCODED = [{"context": [5, 50256], "completion": [3, 4]}, {"context": [7], "completion": []}]
PREDICTED = [{"id": 1, "predict": [5, 50256, 0]}, {"id": 0, "predict": []}]
WEBNLG = {"entries": [{"1": {
    "category": "Airport", "modifiedtripleset": [{"subject": "A", "property": "in", "object": "B"}],
    "lexicalisations": [{"lex": "A is in B.", "comment": "good"}, {"lex": "B.", "comment": "toFix"}]}}]}
DART = [{"tripleset": [["A", "IN", "B"], ["B", "OF", "C"]], "annotations": [{"text": "A in B."}]}]
SQUAD = {"data": [{"title": "T", "paragraphs": [{"context": "Ada wrote it.", "qas": [
    {"id": "1", "question": "Who?", "answers": [{"text": "Ada", "answer_start": 0}]}]}]}]}
PHEE = {"sentence": SENTENCE, "event": [EVENT], "id": "s1", "s_start": 0}
KNOWN = {"Agent": "Who acts?", "Thing": "Which thing?"}


def rams(path):
    roles = path.with_name("roles.txt")
    roles.write_text(ROLES)
    return read_rams(path, read_roles(roles))


LINES = {  # JSON lines
    "formatted": (read_formatted, FORMATTED), "encoded": (read_encoded, ENCODED),
    "references": (lambda path: references_of(read_formatted(path), path, "seen"), FORMATTED),
    "predictions": (lambda path: read_predictions(path, ["a", "b"]), PREDICTED),
    "phee": (lambda path: read_phee(path, KNOWN), [PHEE]), "rams": (rams, [rams_record()]),
}
DOCUMENTS = {"webnlg": (convert_webnlg, WEBNLG), "dart": (convert_dart, DART), "squad": (read_squad, SQUAD),
             "answers": (read_answers, SQUAD), "answer predictions": (read_answer_predictions, {"1": "Ada"})}
TEXTS = {"e2e": (convert_e2e, "name : A||A .\nname : B | food : C||B has C .\n"),
         "e2e references": (read_references, "a b\nc\n\nd\n\n"), "texts": (read_texts, "a\n\nb c\n"),
         "questions": (lambda path: read_questions([path]), QUESTIONS),
         "roles": (lambda path: read_roles(path).roles, ROLES)}
PARSERS = {**{name: (read, "".join(json.dumps(record) + "\n" for record in records))
              for name, (read, records) in LINES.items()},
           **{name: (read, json.dumps(document)) for name, (read, document) in DOCUMENTS.items()}, **TEXTS}
OFTEN = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def assert_read_or_refused(read, path):
    """Reads a file to its end; a UserError has to name it."""
    try:
        list(read(path))
    except UserError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize("name", PARSERS)
def test_what_they_are_made_for_is_read(name, tmp_path):
    read, content = PARSERS[name]
    (tmp_path / "file").write_text(content)
    assert len(list(read(tmp_path / "file"))) > 0


@pytest.mark.parametrize("name", PARSERS)
@given(data=st.data())
@OFTEN
def test_damaged_bytes(name, data, tmp_path):
    read, content = PARSERS[name]
    (tmp_path / "file").write_bytes(data.draw(damaged(content.encode())))
    assert_read_or_refused(read, tmp_path / "file")


@pytest.mark.parametrize("name", [*LINES, *DOCUMENTS])
@given(data=st.data())
@OFTEN
def test_other_values(name, data, tmp_path):
    read, document = {**LINES, **DOCUMENTS}[name]
    made = data.draw(changed(document))
    (tmp_path / "file").write_text("".join(json.dumps(record) + "\n" for record in made)
                                   if name in LINES and isinstance(made, list) else json.dumps(made))
    assert_read_or_refused(read, tmp_path / "file")


ARRAYS = {"transformer.h.0.attn.c_attn.lora_A": np.arange(6, dtype=np.float32).reshape(2, 3),
          "wte.weight": np.ones((2, 2), np.float16)}


@pytest.mark.parametrize("read", [read_arrays, read_trained], ids=["arrays", "lora"])
@given(data=st.data())
@OFTEN
def test_damaged_weights(read, data, tmp_path):
    """Damage in a number cannot be seen; damage of the header has to end in a sentence, not in the library's error."""
    path = tmp_path / "file.safetensors"
    path.write_bytes(data.draw(damaged(safetensors.numpy.save(ARRAYS, {"format": "pt"}))))
    assert_read_or_refused(read, path)
