"""Word pieces and queries: positions, token types, and what is read of a sentence that is too long."""

import pytest

from common.data.events import Event, Ontology, Span
from common.data.word_pieces import MOST_OF_WORD, WordPieces, make_queries, window
from common.errors import UserError
from tests.common.data.event_cases import PIECES, SENTENCE, write_vocab

ONTOLOGY = Ontology({"Agent": "Who acts?", "Thing": "Which thing?"}, {"Break": ("Agent", "Thing")})


@pytest.fixture
def pieces(tmp_path):
    return WordPieces(write_vocab(tmp_path))


def event_of(words=SENTENCE, trigger=(2, 2), arguments=None):
    found = {"Agent": (Span(4, 4), Span(6, 6))} if arguments is None else arguments
    return Event(0, "x:1", tuple(words), Span(*trigger), "Break", found)


def text_of(query):
    return " ".join(PIECES[piece] for piece in query.input_ids)


def test_a_query(pieces):
    agent, thing = make_queries([event_of()], ONTOLOGY, pieces, 64, "x")
    assert text_of(agent) == ("[CLS] who acts ? [SEP] the clock bro ##ke because ada and ben drop ##ped it . [SEP]")
    assert agent.separator == 4 and agent.role == "Agent" and agent.event == 0
    # The question's pieces and the trigger's, "bro ##ke".
    assert [index for index, kind in enumerate(agent.token_types) if kind] == [1, 2, 3, 7, 8]
    assert agent.word_starts == [5, 6, 7, 9, 10, 11, 12, 13, 15, 16]
    assert agent.word_ends == [5, 6, 8, 9, 10, 11, 12, 14, 15, 16]
    assert agent.spans == (Span(4, 4), Span(6, 6)) and agent.positions(Span(2, 7)) == (7, 14)
    assert thing.spans == () and len(thing.token_types) == len(thing.input_ids)


def test_words_without_pieces_are_unknown(pieces):
    assert pieces.of_words(["clock", "\x00", " ", "CLOCK", "zebra", "a,b"]) == [
        [10], [1], [1], [10], [1], [21, 23, 22]]


def test_a_vocabulary_that_is_none(tmp_path):
    with pytest.raises(UserError, match=r"vocab\.txt: no such file"):
        WordPieces(tmp_path / "vocab.txt")
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\nhello\n")
    with pytest.raises(UserError, match=r"vocab\.txt: "):
        WordPieces(tmp_path / "vocab.txt")


def test_pieces_are_those_of_transformers(tmp_path):
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.BertTokenizer(vocab=str(write_vocab(tmp_path)), do_lower_case=True)
    if tokenizer.convert_tokens_to_ids("clock") != PIECES.index("clock"):  # before version 5
        tokenizer = transformers.BertTokenizer(vocab_file=str(write_vocab(tmp_path)), do_lower_case=True)
    sentence = "The clock, dropped by BÉN and a broken thing."
    expected = tokenizer(sentence.split(), is_split_into_words=True, add_special_tokens=False)["input_ids"]
    found = WordPieces(tmp_path / "vocab.txt").of_words(sentence.split())
    assert [piece for word in found for piece in word] == expected


@pytest.mark.parametrize("lengths, trigger, room, expected", [
    ([1] * 5, (2, 2), 5, (0, 5)),
    ([1] * 9, (4, 4), 5, (2, 7)),  # by turns behind and before
    ([1] * 9, (0, 0), 5, (0, 5)),
    ([1] * 9, (8, 8), 4, (5, 9)),
    ([1, 1, 1, 9, 1], (1, 1), 5, (0, 3)),  # the long word does not fit, the other side goes on
    ([3, 3, 3, 3], (0, 3), 7, (0, 2)),  # a trigger that does not fit loses its end
])
def test_which_words_are_read(lengths, trigger, room, expected):
    assert window(lengths, Span(*trigger), room) == expected


def test_a_sentence_that_is_too_long(pieces, capsys):
    words = ["clock"] * 40 + ["broke"] + ["ada"] * 40
    gold = {"Agent": (Span(41, 41), Span(80, 80)), "Thing": (Span(0, 1),)}
    queries = make_queries([event_of(words, (40, 40), gold)], ONTOLOGY, pieces, 24, "x")
    assert [len(query.input_ids) for query in queries] == [24, 24]
    agent = queries[0]
    # 24 - 3 special ones - 3 of the longest question is room for 18: the trigger's two, eight behind and eight before.
    assert agent.first_word == 32 and len(agent.word_starts) == 17 and agent.spans == (Span(41, 41),)
    assert text_of(agent).split()[agent.positions(Span(40, 40))[0]] == "bro"
    assert queries[1].spans == ()
    assert "1 of 1 events are in sentences of more than 18 word pieces" in (said := capsys.readouterr().err)
    assert "2 arguments are outside" in said


def test_a_word_that_is_too_long(pieces, capsys):
    long = ",".join("ab" * 40)
    event = event_of(["broke", long, "."], (0, 0), {"Thing": (Span(1, 1),)})
    queries = make_queries([event], ONTOLOGY, pieces, 512, "x")
    assert queries[1].word_ends[1] - queries[1].word_starts[1] + 1 == MOST_OF_WORD
    assert queries[1].spans == (Span(1, 1),)
    assert f"1 words have more than {MOST_OF_WORD} word pieces and lose their end" in capsys.readouterr().err


def test_what_cannot_be_asked(pieces):
    with pytest.raises(UserError, match="x:1: the event type 'Break' has no roles; expected one of Sale"):
        make_queries([event_of()], Ontology({"Agent": "Who?"}, {"Sale": ("Agent",)}), pieces, 64, "x")
    with pytest.raises(UserError, match="the longest question has 30 word pieces, .* less than half of --seq_len 48"):
        make_queries([event_of()], Ontology({"Agent": "who " * 30}, {"Break": ("Agent",)}), pieces, 48, "x")
