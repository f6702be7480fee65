"""Rows, pieces of a step, memory, and draws of ChatGLM2, without a framework."""

import numpy as np
import pytest

from common.data.chatglm_texts import Example
from common.data.chatglm_tokenizer import ChatGLMTokenizer
from common.model.chatglm_cards import CHATGLM_CARDS
from common.paths import PRETRAINED
from common.run.batching import Row
from common.run.chatglm_arguments import chatglm_training_arguments
from common.run.chatglm_generating import drawn, read_history, sampled
from common.run.chatglm_training import batches_of_chatglm, make_rows, pieces_of_step, tokens_at_once
from common.run.dropout import token_keys

NANO, PUBLISHED = CHATGLM_CARDS["chatglm2.nano"], CHATGLM_CARDS["chatglm2.6b"]


def arguments_of(**members):
    return chatglm_training_arguments([f"--{name}={value}" for name, value in {
        "model_name_or_path": "random", "model_card": "chatglm2.nano", "train_file": "x", "output_dir": "x",
        **members}.items()], "")


def test_rows_are_cut_and_counted(capsys):
    tokenizer = ChatGLMTokenizer(PRETRAINED / NANO.folder / "tokenizer.model", NANO.pieces)
    examples = [Example("问", "答"), Example("问" * 50, "答答答答答答")]
    short, long = make_rows(examples, tokenizer, arguments_of(max_source_length=20, max_target_length=4), "rows.json")
    prompt = tokenizer.prompt_ids("问")
    assert short == Row(prompt, [*tokenizer.encode("答"), 2])
    assert long == Row(tokenizer.prompt_ids("问" * 50)[:20], [*tokenizer.encode("答答答答答答")[:4], 2])
    said = capsys.readouterr().err
    assert "rows.json: 1 of 2 rows have a prompt of more than --max_source_length 20" in said
    assert "1 of 2 rows have an answer of more than --max_target_length 4" in said


ROWS = [Row([1] * context, [2] * completion) for context, completion in ((3, 2), (4, 6), (2, 1), (5, 5))]


@pytest.mark.parametrize("most_tokens, sizes",
                         [(100, [4]), (27, [2, 2]), (15, [2, 2]), (13, [1, 1, 2]), (12, [1] * 4), (1, [1] * 4)])
def test_pieces(most_tokens, sizes):
    """Rows 0 and 1 are one batch of 8 targets, rows 2 and 3 one of 6; the step's loss is the mean of their means."""
    pieces = pieces_of_step(ROWS, 2, 99, most_tokens)
    assert [len(piece.offsets) - 1 for piece in pieces] == sizes
    expected = np.repeat([1 / 16, 1 / 12], [8, 6]).astype(np.float32)
    np.testing.assert_array_equal(np.concatenate([piece.loss_weights for piece in pieces]), expected)
    keys = token_keys(np.repeat(range(4), [5, 10, 3, 10]), np.concatenate([np.arange(each) for each in (5, 10, 3, 10)]))
    np.testing.assert_array_equal(np.concatenate([piece.token_keys for piece in pieces]), keys)
    filled_up = pieces_of_step(ROWS, 2, 99, most_tokens, multiple=16)
    assert all(len(array) % 16 == 0 for piece in filled_up for array in (piece.input_ids, piece.loss_weights))
    for piece, same in zip(pieces, filled_up, strict=True):
        np.testing.assert_array_equal(same.input_ids[:len(piece.input_ids)], piece.input_ids)
        np.testing.assert_array_equal(same.loss_weights[:len(piece.loss_weights)], piece.loss_weights)
        assert not same.loss_weights[len(piece.loss_weights):].any()


def test_a_run_that_goes_on_has_the_same_batches():
    arguments = arguments_of(gradient_accumulation_steps=3)
    arguments.most_tokens, arguments.token_multiple = 100, 1
    rows = [Row([token], [token + 1]) for token in range(10)]
    whole, later = batches_of_chatglm(arguments, rows), batches_of_chatglm(arguments, rows, 6)
    steps = [next(whole) for _ in range(9)]
    assert [step[:2] for step in steps] == [(epoch, index) for epoch in (1, 2, 3) for index in (1, 2, 3, 4)][:9]
    for (epoch, index, pieces), expected in zip((next(later) for _ in range(3)), steps[6:]):
        assert (epoch, index) == expected[:2]
        np.testing.assert_array_equal(pieces[0].input_ids, expected[2][0].input_ids)
        np.testing.assert_array_equal(pieces[0].step_key, expected[2][0].step_key)


def test_memory_decides_the_tokens_of_a_piece():
    counts = [tokens_at_once(PUBLISHED, 32, "bf16", "jittor", gigabytes * 1e9) for gigabytes in (13, 24, 48, 80)]
    assert counts[0] < 193 < counts[1] < counts[2] < counts[3]
    assert tokens_at_once(PUBLISHED, 32, "bf16", "pytorch", 24e9) > counts[1]
    assert tokens_at_once(PUBLISHED, 32, "fp32", "pytorch", 24e9) < 1


def test_sampling_from_the_nucleus():
    logs = np.log(np.array([0.1, 0.5, 0.3, 0.06, 0.04]))
    assert [sampled(logs, 0.7, 1.0, draw) for draw in (0, 0.62, 0.63, 0.99)] == [1, 1, 2, 2]  # of 0.5 and 0.3
    assert [sampled(logs, 0.4, 1.0, draw) for draw in (0, 0.99)] == [1, 1]
    assert [sampled(logs, 1.0, 1.0, draw) for draw in (0, 0.51, 0.81, 0.91, 0.97)] == [1, 2, 0, 3, 4]
    draws = np.array([sampled(logs, 1.0, 0.5, drawn(1, 2, place)) for place in range(4000)])
    sharp = np.exp(2 * logs) / np.exp(2 * logs).sum()
    np.testing.assert_allclose(np.bincount(draws, minlength=5) / 4000, sharp, atol=0.03)


def test_a_draw_depends_on_seed_prompt_and_place_alone():
    draws = {drawn(*key) for key in ((1, 2, 3), (2, 1, 3), (1, 3, 2), (4, 2, 3))}
    assert len(draws) == 4 and drawn(1, 2, 3) in draws


def test_history(tmp_path):
    path = tmp_path / "history.json"
    path.write_text('[["a", "b"]]')
    assert read_history(path) == [("a", "b")] and read_history(None) == []
