"""ChatGLM2's tokenizer and prompts, with the small SentencePiece model that ships."""

import pytest
import sentencepiece

from common.data.chatglm_tokenizer import ChatGLMTokenizer, TextStream, prompt_text
from common.errors import UserError
from common.model.chatglm_cards import CHATGLM_CARDS
from common.nano.chatglm_tokenizer_training import train_tokenizer
from common.paths import PRETRAINED

NANO = CHATGLM_CARDS["chatglm2.nano"]
PATH = PRETRAINED / NANO.folder / "tokenizer.model"
TEXTS = ["类型#上衣*材质#牛仔布", "简约而不简单的牛仔外套。", "两行\n\n文字 with  spaces, ½ and 😀", "饕餮", ""]


@pytest.fixture(scope="module")
def tokenizer():
    return ChatGLMTokenizer(PATH, NANO.pieces)


def test_the_one_that_ships_is_what_its_script_makes():
    assert train_tokenizer(NANO.pieces) == PATH.read_bytes()


@pytest.mark.parametrize("text", TEXTS)
def test_texts_come_back(tokenizer, text):
    ids = tokenizer.encode(text)
    assert ids == sentencepiece.SentencePieceProcessor(model_file=str(PATH)).encode(text)
    assert all(3 <= token < NANO.pieces for token in ids) and tokenizer.decode(ids) == text


def test_special_tokens(tokenizer):
    """Their order behind the pieces is the published one: of 64789 pieces the ids are 64789 to 64793."""
    assert tokenizer.special_ids == {"[MASK]": 4600, "[gMASK]": 4601, "[sMASK]": 4602, "sop": 4603, "eop": 4604}
    ids = tokenizer.prompt_ids("你好")
    assert ids[:2] == [4601, 4603] and ids[2:] == tokenizer.encode("[Round 1]\n\n问：你好\n\n答：")
    assert tokenizer.decode([*ids, 2, 0]) == "[Round 1]\n\n问：你好\n\n答："
    assert tokenizer.prompt_ids("好", prefix="请")[2:] == tokenizer.encode("请[Round 1]\n\n问：好\n\n答：")


def test_prompt_with_history():
    assert prompt_text("三", [("一", "二"), ("四", "五")]) == (
        "[Round 1]\n\n问：一\n\n答：二\n\n[Round 2]\n\n问：四\n\n答：五\n\n[Round 3]\n\n问：三\n\n答：")


def test_a_stream_holds_back_what_is_no_whole_character(tokenizer):
    text, stream = "好😀 [x]\n新", TextStream(tokenizer)
    parts = [stream.add(token) for token in tokenizer.encode(text)]
    assert "".join(parts) == text and "" in parts and not any("\ufffd" in part for part in parts)
    broken = TextStream(tokenizer)
    assert "".join(broken.add(token) for token in tokenizer.encode("好😀")[:-1]) == "好"
    assert broken.end().startswith("\ufffd")


@pytest.mark.parametrize("make, sentence", [
    (lambda path: None, "no such file"),
    (lambda path: path.write_bytes(b"no model"), "is no SentencePiece model"),
    (lambda path: path.write_bytes(PATH.read_bytes()), "has 4600 pieces, expected 64789")])
def test_a_wrong_file(tmp_path, make, sentence):
    make(tmp_path / "tokenizer.model")
    with pytest.raises(UserError, match=sentence):
        ChatGLMTokenizer(tmp_path / "tokenizer.model", 64789)
