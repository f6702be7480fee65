"""The E2E scores without Java: reading the files, BLEU and NIST."""

import gzip
import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from common.metrics.e2e import bleu_signature, match_outputs, read_references, tally_e2e, tally_ngrams, tokenize_13a
from common.metrics.segments import read_texts

# All that Python's str.splitlines takes for a line end (its documentation's table), but \n.
SEPARATORS = ["\r", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]
LINES = st.text(st.characters(exclude_characters=["\n", *SEPARATORS], exclude_categories=["Cs"]), max_size=20)
REFERENCES = LINES.filter(str.strip)


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return str(path)


# Reading

@given(st.lists(st.lists(REFERENCES, min_size=1, max_size=4), min_size=1, max_size=5), st.sampled_from(["\n", "\r\n"]),
       st.booleans())
@settings(max_examples=60, deadline=None)
def test_references_come_back_as_written(tmp_path_factory, groups, line_end, last_blank):
    lines = [line for group in groups for line in [*group, ""]]
    text = line_end.join(lines + [""] if last_blank else lines[:-1])
    path = write(tmp_path_factory.mktemp("reader") / "ref.txt", text)
    assert read_references(path) == [[reference.strip() for reference in group] for group in groups]


@given(st.lists(LINES, min_size=1, max_size=8), st.sampled_from(["\n", "\r\n"]))
@settings(max_examples=60, deadline=None)
def test_predictions_come_back_as_written_blank_ones_too(tmp_path_factory, lines, line_end):
    path = write(tmp_path_factory.mktemp("reader") / "pred.txt", "".join(line + line_end for line in lines))
    assert read_texts(path) == [line.strip() for line in lines]


@given(st.text(st.sampled_from("a \n\r\x85\u2028"), max_size=30))
@settings(max_examples=150, deadline=None)
def test_any_text_is_read_whole_or_refused_with_its_line(tmp_path_factory, text):
    path = write(tmp_path_factory.mktemp("reader") / "any.txt", text)
    for read in (read_texts, read_references):
        try:
            result = read(path)
        except UserError as error:
            assert path in str(error)
        else:
            flat = result if read is read_texts else sum(result, [])
            assert "".join("".join(flat).split()) == "".join(text.split())
            if read is read_texts:
                assert len(result) == len(text.splitlines())


@pytest.mark.parametrize("separator", SEPARATORS)
@pytest.mark.parametrize("read", [read_references, read_texts])
def test_a_separator_inside_a_line_is_refused_with_its_place(tmp_path, read, separator):
    path = write(tmp_path / "text.txt", f"first\nsec{separator}ond\n")
    with pytest.raises(UserError, match=rf"text\.txt:2: found U\+{ord(separator):04X} at character 4"):
        read(path)


@pytest.mark.parametrize("text, line", [("\na\n", 1), ("a\n\n\nb\n", 3), ("\n\n", 1), ("a\n \n\t\nb", 3)])
def test_an_empty_group_of_references_is_refused_with_its_line(tmp_path, text, line):
    path = write(tmp_path / "ref.txt", text)
    with pytest.raises(UserError, match=rf"ref\.txt:{line}: found a blank line"):
        read_references(path)


@pytest.mark.parametrize("read", [read_references, read_texts])
def test_files_that_are_empty_missing_or_not_utf8_are_refused(tmp_path, read):
    with pytest.raises(UserError, match="the file is empty"):
        read(write(tmp_path / "empty.txt", ""))
    with pytest.raises(UserError, match="no such file"):
        read(str(tmp_path / "missing.txt"))
    with pytest.raises(UserError, match=r"latin\.txt:2: .*UTF-8"):
        read(write(tmp_path / "latin.txt", "a\ncafé\n", "latin-1"))


def test_gzip_is_read(tmp_path):
    (tmp_path / "ref.txt.gz").write_bytes(gzip.compress(b"a\nb\n\nc\n"))
    assert read_references(tmp_path / "ref.txt") == [["a", "b"], ["c"]]


@pytest.mark.parametrize("groups, outputs, message", [
    ([["a", "b"], ["c"], ["d"]], ["x"], r"REF:4: the first group without an output.*3 groups.*1 line"),
    ([["a"]], ["x", "y"], r"PRED:2: the first output without references\. .*1 group.*2 lines"),
    ([["a"]], ["x", "", "y"], r"PRED:2: the first output without references"),
    ([["a", "b", "c"]], ["x", "y"], r"PRED:2: the first output without references"),
])
def test_counts_that_do_not_match_are_refused_with_the_first_line(groups, outputs, message):
    with pytest.raises(UserError, match=message):
        match_outputs(groups, outputs, "REF", "PRED")


@pytest.mark.parametrize("groups, outputs, expected, said", [
    ([["a", "b"]], ["x"], ([["a", "b"]], ["x"]), None),
    ([["a"], ["b"]], ["x", ""], ([["a"], ["b"]], ["x", ""]), None),
    ([["a"], ["b"]], ["x", "y", "", ""], ([["a"], ["b"]], ["x", "y"]), "2 blank lines at its end"),
    # The official program: "if len(data_ref) == 1" each line is an instance of its own.
    ([["a", "b"]], ["x", "y"], ([["a"], ["b"]], ["x", "y"]), "each line is the only reference"),
    ([["a", "b"]], ["x", "y", ""], ([["a"], ["b"]], ["x", "y"]), "1 blank lines at its end"),
])
def test_outputs_are_matched_with_groups_and_what_is_ignored_is_said(capsys, groups, outputs, expected, said):
    assert match_outputs(groups, outputs, "REF", "PRED") == expected
    error = capsys.readouterr().err
    assert said in error if said else error == ""


def test_blank_lines_behind_the_last_group_are_ignored_and_said(tmp_path, capsys):
    path = write(tmp_path / "ref.txt", "a\nb\n\nc\n\n \n\n")
    assert read_references(path) == [["a", "b"], ["c"]]
    assert "2 blank lines at its end" in capsys.readouterr().err


def test_a_byte_order_mark_is_no_text(tmp_path):
    path = tmp_path / "ref.txt"
    path.write_text("a pub\n\na river\n", encoding="utf-8-sig")
    assert read_references(path) == [["a pub"], ["a river"]]
    assert read_texts(path) == ["a pub", "", "a river"]


@pytest.mark.parametrize("references, predictions", [([], []), ([["a"]], []), ([["a"], []], ["a", "b"])])
def test_tally_e2e_refuses_lists_that_do_not_fit(references, predictions):
    with pytest.raises(ValueError, match="groups of references"):
        tally_e2e(references, predictions)


# Tokens

def score_ngrams(references, predictions, corrected=False):
    return {metric: tally.corpus_score for metric, tally in tally_ngrams(references, predictions, corrected).items()}


@pytest.mark.parametrize("text, tokens", [
    ("It's 3.5, not 1,000 (20-25).", ["it's", "3.5", ",", "not", "1,000", "(", "20", "-", "25", ")", "."]),
    ("a-b &amp; c&QUOT;", ["a-b", "&", "c", "&", "quot", ";"]),  # only the lower-case entity is one
    ("\xa0 CAFÉ\u3000É ", ["café", "é"]),
    ("<skipped>", []),
    ("<empty>", ["<", "empty", ">"]),
])
def test_tokens_follow_mteval_v13a(text, tokens):
    assert tokenize_13a(text) == tokens


# BLEU and NIST by hand

def test_a_copy_of_the_reference():
    # each word's information is log2(6 / 1); longer n-grams add log2(1 / 1) = 0
    assert score_ngrams([["a b c d e f"]], ["A B C D E F"]) == pytest.approx({"BLEU": 1, "NIST": math.log2(6)})


def test_a_short_output_makes_the_official_totals_negative():
    # totals of "a": 1, 0, -1, -2, taken as 1e-9 where not positive, with no match taken as 1e-15; length 1 against 4
    expected = math.exp(1 - 4) * (1 * 1e-6 ** 3) ** 0.25
    assert score_ngrams([["a b c d"]], ["a"])["BLEU"] == pytest.approx(expected, rel=1e-9)
    # beside a whole sentence it takes 0, 1, 2 from the totals of orders 2, 3, 4; and 0, 1, 2, 3 in NIST's 2 to 5
    references, predictions = [["a b c d e f g h"], ["x y z w"]], ["a b c d e f g h", "x"]
    brevity = math.exp(1 - 12 / 9)
    assert score_ngrams(references, predictions)["BLEU"] == pytest.approx(
        brevity * (9 / 9 * 7 / 7 * 6 / 5 * 5 / 3) ** 0.25, rel=1e-12)
    assert score_ngrams(references, predictions, corrected=True)["BLEU"] == pytest.approx(brevity, rel=1e-12)


def test_an_empty_output_counts_as_one_token_unless_corrected():
    references, predictions = [["a b c d e f g h"], ["x", "y z"]], ["a b c d e f g h", ""]
    # official: output length 9, closest reference lengths 8 + 1, totals 9, 7, 5, 3 with 8, 7, 6, 5 matches
    assert score_ngrams(references, predictions)["BLEU"] == pytest.approx(
        (8 / 9 * 7 / 7 * 6 / 5 * 5 / 3) ** 0.25, rel=1e-12)
    # corrected: output length 8 against 8 + 1
    assert score_ngrams(references, predictions, True)["BLEU"] == pytest.approx(math.exp(1 - 9 / 8), rel=1e-12)


def test_nist_clips_by_the_merged_counts_of_all_references():
    # "a a b": two a by the second reference, b and "a b" by the first; reference counts a 3, b 1, c 1 of 5 words
    unigrams = (2 * math.log2(5 / 3) + math.log2(5 / 1)) / 3
    bigrams = (math.log2(3 / 1) + math.log2(3 / 1)) / 2  # "a a" and "a b" once each, after three a
    # one trigram, not matched; orders 4 and 5 have none; length 3 against (2 + 3) / 2
    assert score_ngrams([["a b", "a a c"]], ["a a b"], True)["NIST"] == pytest.approx(unigrams + bigrams, rel=1e-12)


def test_nist_halves_at_two_thirds_of_the_length():
    words = "a b c d e f g h i".split()
    full, short = (score_ngrams([[" ".join(words)]], [" ".join(words[:n])], True)["NIST"] for n in (9, 6))
    assert short == pytest.approx(full / 2, rel=1e-12)


def test_nothing_in_common_gives_nothing_and_no_error():
    for corrected in (False, True):
        for prediction in ("x y z u v w", "x", ""):
            scores = score_ngrams([["a b c d e"]], [prediction], corrected)
            assert scores == pytest.approx({"BLEU": 0, "NIST": 0}, abs=1e-8)
        assert score_ngrams([["<skipped>"]], ["a"], corrected)["NIST"] == 0


# BLEU and NIST against a plain implementation: lists and loops, no shared code

def plain_grams(tokens, n):
    return [tuple(tokens[i:i + n]) for i in range(len(tokens) - n + 1)]


def plain_scores(references, predictions, corrected):
    total, hits, gains = [0] * 6, [0] * 6, [0.0] * 6
    everything = [reference for group in references for reference in group]
    closest = mean_length = 0
    for group, output in zip(references, predictions):
        closest += sorted((abs(len(reference) - len(output)), len(reference)) for reference in group)[0][1]
        mean_length += sum(len(reference) for reference in group) / len(group)
        for n in range(1, 6):
            grams = plain_grams(output, n)
            total[n] += len(grams) if corrected else len(output) - n + 1
            for gram in set(grams):
                hit = min(grams.count(gram), max(plain_grams(reference, n).count(gram) for reference in group))
                hits[n] += hit
                if hit:
                    seen = sum(plain_grams(reference, n).count(gram) for reference in everything)
                    before = sum(plain_grams(reference, n - 1).count(gram[:-1]) if n > 1 else len(reference)
                                 for reference in everything)
                    gains[n] += hit * math.log(before / seen) / math.log(2)
    length = total[1]
    bleu = math.prod(max(hits[n], 1e-15) / max(total[n], 1e-9) for n in range(1, 5)) ** 0.25
    bleu *= min(1.0, math.exp(1 - closest / max(length, 1e-5)))
    nist = sum(gains[n] / total[n] for n in range(1, 6) if total[n])
    if length < mean_length:
        nist *= math.exp(math.log(0.5) * (math.log(length / mean_length) / math.log(1.5)) ** 2) if length else 0
    return {"BLEU": bleu, "NIST": 0.0 if 0 in total[1:] and not corrected else nist}


SENTENCES = st.lists(st.sampled_from("abcde"), min_size=1, max_size=9)
PAIRS = st.lists(st.tuples(st.lists(SENTENCES, min_size=1, max_size=3), st.one_of(SENTENCES, st.just([]))),
                 min_size=1, max_size=5)


@given(PAIRS, st.booleans())
@settings(max_examples=150, deadline=None)
def test_bleu_and_nist_equal_a_plain_implementation(pairs, corrected):
    references, predictions = zip(*pairs)
    empty = [] if corrected else ["(nothing)"]
    expected = plain_scores(references, [prediction or empty for prediction in predictions], corrected)
    texts = [list(map(" ".join, group)) for group in references]
    scores = score_ngrams(texts, list(map(" ".join, predictions)), corrected)
    assert scores == pytest.approx(expected, rel=1e-9, abs=1e-9)


# BLEU and NIST of the official program

@pytest.mark.parametrize("name", ["e2e_edge", "e2e_loo"])
def test_bleu_and_nist_of_the_official_program(metric_case, name):
    folder, expected = metric_case(name)
    references = read_references(folder / expected["references"])
    predictions = read_texts(folder / expected["predictions"])
    official = {metric: expected["scores"][metric] for metric in ("BLEU", "NIST")}
    assert score_ngrams(references, predictions) == pytest.approx(official, abs=1e-6)
    # e2e_loo has no output under five tokens, so that the faults do not show; e2e_edge's value has five decimals
    corrected = expected.get("corrected", expected["scores"])["BLEU"]
    assert score_ngrams(references, predictions, corrected=True)["BLEU"] == pytest.approx(corrected, abs=5e-6)


def test_the_signature_names_the_settings():
    settings_of = bleu_signature([["a", "b"], ["c"]]).split("|")
    assert settings_of[:-1] == ["nrefs:var", "case:lc", "eff:no", "tok:13a", "smooth:none"]
    assert bleu_signature(list(itertools.repeat(["a", "b"], 2))).startswith("nrefs:2|")
