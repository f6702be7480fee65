"""GPT-2's tokenizer against a plain BPE, transformers and known ids."""

import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.data.tokenizer import load_tokenizer
from common.errors import UserError
from common.vocabulary import BLANK_LINE, END_OF_TEXT, END_OF_TEXT_TOKEN, VOCABULARY_SIZE

TEXTS = ["", " ", "Hello world", " it's  we'll\tI'D", "\n\n\n", "name : Café Brazil | price : £ 20 - 25",
         "naïve 東京 😀 e\u0301", "a\u2028b\x85c\r\n", "<|endoftext|>", "1234567 3.14", "\x00\x7f\xa0\u3000x"]


def test_known_ids(tokenizer):
    # "Hello world" is the example of Hugging Face's GPT-2 documentation: [15496, 995].
    assert tokenizer.encode("Hello world").ids == [15496, 995]
    assert tokenizer.get_vocab_size() == VOCABULARY_SIZE
    assert tokenizer.encode("\n\n").ids == [BLANK_LINE]
    assert tokenizer.decode([0]) == "!"


@pytest.mark.parametrize("text", TEXTS)
def test_equals_plain_bpe(tokenizer, plain, text):
    assert tokenizer.encode(text).ids == plain.encode(text)


@settings(max_examples=150, deadline=None)
@given(text=st.text(max_size=40))
def test_any_text_equals_plain_bpe_and_comes_back(tokenizer, plain, text):
    ids = tokenizer.encode(text).ids
    assert ids == plain.encode(text)
    assert tokenizer.decode(ids) == text


@settings(max_examples=150, deadline=None)
@given(ids=st.lists(st.integers(0, VOCABULARY_SIZE - 1), max_size=20))
def test_any_ids_decode_as_plain_bpe(tokenizer, plain, ids):
    assert tokenizer.decode(ids) == plain.decode(ids)


def test_end_of_text_is_text_when_decoded_and_never_encoded(tokenizer):
    assert tokenizer.decode([15496, END_OF_TEXT, 0]) == "Hello<|endoftext|>!"
    assert END_OF_TEXT not in tokenizer.encode("a <|endoftext|> b").ids
    assert tokenizer.decode([END_OF_TEXT]) == END_OF_TEXT_TOKEN


@pytest.mark.slow
def test_equals_transformers(tokenizer, vocab):
    transformers = pytest.importorskip("transformers", reason="an oracle of the PyTorch environment")
    oracle = transformers.GPT2Tokenizer(vocab=str(vocab / "encoder.json"), merges=str(vocab / "vocab.bpe"))
    for text in TEXTS:
        if text != END_OF_TEXT_TOKEN:
            assert tokenizer.encode(text).ids == oracle(text)["input_ids"], text


def test_missing_files_name_the_remedy(tmp_path):
    with pytest.raises(UserError, match=r"encoder\.json: no such file.*scripts/setup\.sh"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("name", ["encoder.json", "vocab.bpe"])
def test_changed_files_are_refused(tmp_path, vocab, name):
    for file in ("encoder.json", "vocab.bpe"):
        shutil.copy(vocab / file, tmp_path)
    with open(tmp_path / name, "a") as file:
        file.write("\n")
    with pytest.raises(UserError, match=f"{name}: not GPT-2's vocabulary.*expected"):
        load_tokenizer(tmp_path)
