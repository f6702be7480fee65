"""A beam search that was cut off goes on behind the batches it had finished, to the same bytes."""

import os
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from common.errors import UserError
from common.files import write_json_lines
from common.locks import exclusive
from common.model.initial_weights import RANDOM
from common.run.searching import run_search
from tests.common.run.test_beam_search import table_decoder, table_model


class Cut(Exception):
    """Stands for the end of the process."""


@pytest.fixture
def arguments(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_json_lines("rows.jsonl", ({"context": [1 + index % 9, 1 + index // 9], "completion": []}
                                    for index in [*range(20), 3, 4]))
    return SimpleNamespace(
        data="rows.jsonl", work_dir="work", output_file="out.jsonl", seq_len=16, eval_len=5, beam=3, batch_size=4,
        length_penalty=0.8, no_repeat_ngram_size=2, repetition_penalty=1.0, min_length=0, eos_token_id=[0],
        init_checkpoint=RANDOM, lora_checkpoint=None, lora=None, random_seed=1)


def prepared(batches, cut_in=None):
    """Returns ``prepare`` of a model that counts its batches, and ends the search in one of them."""
    model = table_decoder(table_model(1, eos_bonus=1.0))

    def prompt(packed):
        batches.append(len(packed.offsets) - 1)
        if len(batches) == cut_in:
            raise Cut
        return model.prompt(packed)
    return lambda arguments: replace(model, prompt=prompt, description={"framework": "made up"})


@pytest.fixture
def whole(arguments):
    """The output of a search that was not cut off: 20 contexts in 5 batches."""
    batches = []
    run_search(arguments, prepared(batches))
    assert batches == [4] * 5
    content = Path("work/out.jsonl").read_bytes()
    assert sorted(os.listdir("work")) == ["out.jsonl", "out.jsonl.summary.json"]
    arguments.work_dir = "cut"
    return content


def cut_off(arguments, cut_in):
    with pytest.raises(Cut):
        run_search(arguments, prepared([], cut_in))
    assert sorted(os.listdir("cut")) == ["out.jsonl.partial"]


@pytest.mark.parametrize("cut_in", range(1, 6))
def test_it_goes_on_behind_what_was_finished(arguments, whole, capsys, cut_in):
    cut_off(arguments, cut_in)
    batches = []
    run_search(arguments, prepared(batches))
    assert batches == [4] * (6 - cut_in)
    assert Path("cut/out.jsonl").read_bytes() == whole
    assert sorted(os.listdir("cut")) == ["out.jsonl", "out.jsonl.summary.json"]
    said = f"going on behind {cut_in - 1} of 5 batches of contexts, from cut/out.jsonl.partial"
    assert (said in capsys.readouterr().err) == (cut_in > 1)


@pytest.mark.parametrize("damage, left", [
    (lambda content: content[:-1], 2), (lambda content: content[:-60], 2), (lambda content: content + b'{"ba', 3),
    (lambda content: content.replace(b'"batch": 1', b'"batch": 0', 1), 1), (lambda content: b"\0" * 99, 0),
    (lambda content: content[:len(content) // 2].replace(b"digest", b"disgest"), 0), (lambda content: b"", 0)])
def test_what_is_damaged_is_searched_again(arguments, whole, capsys, damage, left):
    cut_off(arguments, 4)
    partial = Path("cut/out.jsonl.partial")
    damaged = damage(partial.read_bytes())
    partial.write_bytes(damaged)
    batches = []
    run_search(arguments, prepared(batches))
    assert batches == [4] * (5 - left)
    assert ("out.jsonl.partial: what stands behind its first" in capsys.readouterr().err) == bool(damaged)
    assert Path("cut/out.jsonl").read_bytes() == whole


@pytest.mark.parametrize("change", [{"beam": 4}, {"batch_size": 3}, {"length_penalty": 0.7}, {"data": "rows_2.jsonl"},
                                    {"init_checkpoint": "weights.safetensors"}])
def test_another_search_begins_anew(arguments, whole, capsys, change):
    cut_off(arguments, 4)
    Path("weights.safetensors").write_bytes(b"x")
    write_json_lines("rows_2.jsonl", ({"context": [1 + index % 10, 2 + index // 10], "completion": []}
                                      for index in range(20)))
    vars(arguments).update(change)
    batches = []
    run_search(arguments, prepared(batches))
    assert sum(batches) == 20
    assert "out.jsonl.partial: is of a search of other contexts, weights or flags, and is not used" in \
        capsys.readouterr().err


def test_one_search_writes_an_output_at_a_time(arguments):
    Path("work").mkdir()
    with exclusive("work/.out.jsonl.search", "x", "y"):
        with pytest.raises(UserError, match=re.escape("work/out.jsonl: is in use by ")):
            run_search(arguments, prepared([]))
    run_search(arguments, prepared([]))


def test_nothing_is_kept_beside_what_is_no_file(arguments, capfd):
    arguments.output_file = "/dev/stdout"
    run_search(arguments, prepared([]))
    assert len(capfd.readouterr().out.splitlines()) == 22
    assert not Path("work").exists()
