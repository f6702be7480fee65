"""SQuAD's conversion: rows, articles held out, and windows that fit, whose choice does not look at a test answer."""

import hashlib
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.data import decoding
from common.data.rows import read_formatted
from common.data.squad import Windows, best_window, context_of, convert_squad, held_out, main
from common.data.squad_documents import references_document
from common.data.strata import question_type
from common.errors import UserError
from common.files import read_json, write_json, write_json_lines

PASSAGE = "The mill was built in 1804. Ann Orme bought it."
# Words with what may change how GPT-2 cuts them: punctuation, digits, other scripts, a line end, a no-break space.
word = st.sampled_from(["mill", "the", "1804.", "Orme's", "(river)", "naïve", "数学", "–", "£15,", "a-b-c",
                        "antidisestablishment", "😀", "x\u00a0y", "l1\nl2", "  "])


def document(articles):
    """The published layout of ``[(title, [(passage, [(id, question, [answer, ...]), ...]), ...]), ...]``."""
    return {"version": "1.1", "data": [{"title": title, "paragraphs": [
        {"context": passage, "qas": [
            {"id": identity, "question": question,
             "answers": [{"text": text, "answer_start": passage.index(text)} for text in answers]}
            for identity, question, answers in questions]} for passage, questions in paragraphs]}
        for title, paragraphs in articles]}


def tokens(tokenizer, text):
    return len(tokenizer.encode(text).ids)


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "squad.json"
    write_json(path, document([(f"article {number}", [(PASSAGE, [
        (f"{number}-0", "When was the  mill built?", ["1804", "in 1804"]),
        (f"{number}-1", "Who bought it?", ["Ann Orme"])])]) for number in range(45)]))
    return path


def test_rows_of_the_test_set(small, tokenizer):
    rows = list(convert_squad(small, "test", tokenizer))
    assert len(rows) == 90
    assert rows[0] == {"context": f"Passage: {PASSAGE}\nQuestion: When was the mill built?\nAnswer:",
                       "completion": "1804", "id": "0-0", "title": "article 0", "question": "When was the  mill built?",
                       "answers": ["1804", "in 1804"]}


def test_whole_articles_are_held_out_of_train(small, tokenizer):
    train, valid = (list(convert_squad(small, split, tokenizer)) for split in ("train", "valid"))
    titles = [{row["title"] for row in rows} for rows in (train, valid)]
    # A twentieth of 45, rounded up, by the smallest SHA-256 of the title.
    by_hash = sorted((f"article {number}" for number in range(45)),
                     key=lambda title: hashlib.sha256(title.encode()).hexdigest())
    assert titles[1] == set(by_hash[:3]) == held_out(titles[0] | titles[1]) and not titles[0] & titles[1]
    assert len(train) + len(valid) == 90 and len(valid) == 6


@settings(deadline=None, max_examples=60)
@given(st.lists(word, min_size=30, max_size=150), st.integers(0, 140), st.integers(1, 6), st.integers(40, 90),
       st.booleans())
def test_windows_fit_and_are_the_longest_that_fit(tokenizer, words, first, count, seq_len, is_training):
    passage = " ".join(words)
    spans = [match.span() for match in re.finditer(r"\S+", passage)]
    inside = spans[min(first, len(spans) - 1):][:count]
    answer = (passage[inside[0][0]:inside[-1][1]], inside[0][0])
    question = "Who bought the mill?"
    windows = Windows(tokenizer, seq_len, 8)
    try:
        kept = windows.shorten(passage, question, answer if is_training else None)
    except UserError as error:  # an answer as long as the window
        assert is_training and re.search("does not fit|no tokens", str(error))
        return
    whole, part = passage.split(), kept.split()
    starts = [start for start in range(len(whole) - len(part) + 1) if whole[start:start + len(part)] == part]
    assert starts  # a run of the passage's words
    completion = tokens(tokenizer, " " + " ".join(answer[0].split())) + 1 if is_training else 0
    room = seq_len - max(8, completion)
    assert tokens(tokenizer, context_of(kept, question)) + 1 <= room
    if is_training:
        assert " ".join(answer[0].split()) in " ".join(part)
    if kept != passage:
        longer = [whole[start:start + len(part) + 1] for start in starts if start + len(part) < len(whole)]
        assert all(tokens(tokenizer, context_of(" ".join(one), question)) + 1 > room for one in longer)


def test_the_window_shares_most_words_with_the_question():
    words = "a b c d e Mill, g h i j k the n the river. q r s t the".split()
    # "river" (14) counts 1, "the" 1/3 (11, 13 and 19). In (9, 19) their places' mean, (14 + 12 / 3) / (1 + 1 / 3), is
    # the middle, 13.5.
    assert best_window(words, [1] * 20, "Where is the river?", 10) == (9, 19)
    assert best_window(words, [1] * 20, "Which mill?", 5) == (3, 8)  # in the middle
    assert best_window(words, [1] * 20, "Which mill?", 5, kept=(14, 15)) == (10, 15)
    assert best_window(words, [1] * 20, "Nothing shared", 5) == (0, 5)
    assert best_window(words, [9] + [1] * 19, "Which mill?", 5, kept=(0, 1)) == (0, 0)


def test_a_test_window_does_not_depend_on_the_answers(tmp_path, tokenizer):
    passage = " ".join([*(f"word{number}" for number in range(300)), "the mill", *(f"more{n}" for n in range(300))])
    contexts = set()
    for answers in (["word3"], ["the mill"], ["more299", "word0"]):
        path = tmp_path / "squad.json"
        write_json(path, document([("a", [(passage, [("1", "Where is the mill?", answers)])])]))
        (row,) = convert_squad(path, "test", tokenizer)
        contexts.add(row["context"])
        assert row["answers"] == answers
    assert len(contexts) == 1 and " the mill " in contexts.pop()


def test_it_says_how_many_were_shortened(tmp_path, tokenizer, capsys):
    long = "start " + " ".join(f"w{number}" for number in range(600)) + " end"
    path = tmp_path / "squad.json"
    write_json(path, document([("a", [(long, [("1", "What is at the start?", ["end"]), ("2", "w3?", ["w3"])]),
                                      ("short", [("3", "What?", ["short"])])])]))
    assert len(list(convert_squad(path, "test", tokenizer))) == 3
    said = capsys.readouterr().err
    assert "2 of 3 passages shortened to fit 512 tokens with 32 for the answer; in 1 of them no answer" in said


def test_mistakes_are_named(tmp_path, tokenizer):
    broken = document([("a", [(PASSAGE, [("1", "Who?", ["Ann Orme"])])])])
    entry = broken["data"][0]["paragraphs"][0]["qas"][0]
    path = tmp_path / "broken.json"

    def fails(sentence, split="test", **window):
        write_json(path, broken)
        with pytest.raises(UserError, match=sentence):
            list(convert_squad(path, split, tokenizer, **window))

    fails("question 1: question and answer leave no tokens .* give a larger --seq_len", seq_len=40)
    entry["answers"][0]["answer_start"] = 0
    fails("found 'The mill' at character 0 of the passage, expected the answer 'Ann Orme'")
    entry["answers"][0]["answer_start"] = -len(PASSAGE)
    fails(f"question 1: found '' at character -{len(PASSAGE)} of the passage, expected the answer 'Ann Orme'")
    entry["answers"][0]["answer_start"] = True
    fails(r"answer_start is true, expected an integer")
    broken["data"][0]["paragraphs"][0]["qas"].append({**entry, "answers": [{"text": "The mill", "answer_start": 0}]})
    entry["answers"] = [{"text": "The mill", "answer_start": 0}]
    fails("question 1: appears twice")
    entry["answers"] = []
    fails("question 1: no answers; SQuAD v1.1")
    entry["id"] = 7
    fails(r"\.data\[0\]\.paragraphs\[0\]\.qas\[0\]\.id is 7, expected a string")
    broken["data"][0]["paragraphs"] = {}
    fails(r"\.data\[0\]\.paragraphs is an object, expected a list")


def test_one_article_leaves_nothing_to_train_on(tmp_path, vocab):
    write_json(tmp_path / "one.json", document([("a", [(PASSAGE, [("1", "Who?", ["Ann Orme"])])])]))
    with pytest.raises(UserError, match="holds no rows"):
        main([str(tmp_path / "one.json"), str(tmp_path / "out.jsonl"), "--split", "train", "--vocab", str(vocab)])


def test_program(small, tmp_path, vocab, capsys):
    main([str(small), str(tmp_path / "valid.jsonl"), "--split", "valid", "--vocab", str(vocab)])
    assert "valid.jsonl: 6 rows" in capsys.readouterr().out
    assert all(record["answers"] for _, record in read_formatted(tmp_path / "valid.jsonl"))


@pytest.mark.parametrize("question, word", [
    ("In what year?", "what"), ("How many floors, and why?", "how many"), ("How much is it?", "how many"),
    ("To whom?", "who"), ("Whose mill?", "who"), ("How tall is it?", "how"), ("The whole of it is where?", "where"),
    ("Name it.", "other"), ("Somewhat?", "other")])
def test_question_types(question, word):
    assert question_type(question) == word


# Decoding

def test_predictions_and_references_by_question(small, tokenizer, vocab, tmp_path, capsys):
    formatted, predictions = tmp_path / "formatted.jsonl", tmp_path / "predict.jsonl"
    rows = list(convert_squad(small, "test", tokenizer))[:2]
    write_json_lines(formatted, rows)
    write_json_lines(predictions, [{"id": row, "predict": [*tokenizer.encode(text).ids, 50256, 0, 0]}
                                   for row, text in enumerate([" 1804", " Ann"])])
    flags = ["--vocab", vocab, "--sample_file", predictions, "--input_file", formatted, "--output_ref_file",
             tmp_path / "refs.json", "--output_pred_file", tmp_path / "answers.json", "--ref_type", "squad"]
    decoding.main([str(flag) for flag in flags])
    assert "2 answers" in capsys.readouterr().out
    assert read_json(tmp_path / "answers.json") == {"0-0": "1804", "0-1": "Ann"}
    questions = read_json(tmp_path / "refs.json")["data"][0]["paragraphs"][0]["qas"]
    assert [(entry["id"], [answer["text"] for answer in entry["answers"]]) for entry in questions] == [
        ("0-0", ["1804", "in 1804"]), ("0-1", ["Ann Orme"])]
    with pytest.raises(SystemExit):
        decoding.main([*map(str, flags), "--lower"])
    assert "--ref_type squad goes without" in capsys.readouterr().err


def test_rows_without_answers_are_refused():
    row = {"context": "c", "completion": "d", "id": "1", "answers": ["d"]}
    with pytest.raises(UserError, match="f:2: the id '1' appears twice"):
        references_document([("f:1", row), ("f:2", row)])
    with pytest.raises(UserError, match="f:1: the JSON has no 'answers'"):
        references_document([("f:1", {"context": "c", "completion": "d", "id": "1"})])


# Real data

def test_the_published_dev_set(shared_data, tokenizer, capsys):
    rows = list(convert_squad(shared_data / "squad/dev-v1.1.json", "test", tokenizer))
    # The README beside the data counts the questions.
    assert len(rows) == len({row["id"] for row in rows}) == 10570
    longest = sorted((row["context"] for row in rows), key=len)[-600:]
    lengths = [len(encoding.ids) for encoding in tokenizer.encode_batch_fast(longest)]
    assert max(lengths) + 1 == 512 - 32
    said = re.search(r"test: (\d+) of 10570 passages shortened .* in (\d+) of them no answer", capsys.readouterr().err)
    raw = read_json(shared_data / "squad/dev-v1.1.json")
    whole = {entry["id"]: " ".join(paragraph["context"].split()) for article in raw["data"]
             for paragraph in article["paragraphs"] for entry in paragraph["qas"]}
    shortened = [row for row in rows if whole[row["id"]] not in row["context"]]
    lost = [row for row in shortened if not any(" ".join(text.split()) in row["context"].rpartition("\nQuestion: ")[0]
                                                for text in row["answers"])]
    assert (len(shortened), len(lost)) == tuple(map(int, said.groups())) and shortened
