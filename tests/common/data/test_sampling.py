"""Stratified samples: sizes, shares, order, and the same bytes everywhere; the counts of the categories."""

import collections
import hashlib
import json
import math
import subprocess
import sys
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.data import counting, sampling
from common.data.converting import convert_dart, convert_e2e, convert_webnlg
from common.data.sampling import allocate, choose, main, sample_rows
from common.data.strata import FOLDERS, chosen_sets, dart_strata, e2e_strata, predicates_of, squad_strata, webnlg_strata
from common.errors import UserError
from common.files import write_json_lines

REAL = {"e2e": (convert_e2e, ("e2e/train.txt", "e2e/valid.txt", "e2e/test.txt")),
        "webnlg": (convert_webnlg, [f"webnlg_challenge_2017/{name}.json" for name in ("train", "dev", "test")]),
        "dart": (convert_dart, [f"dart/dart-v1.1.1-full-{name}.json" for name in ("train.partial", "dev", "test")])}
# Rows of the 18 % sample: 0.18 n rounded down, for WebNLG's test set per seen (2495) and unseen (2433) part. DART's
# train file is 54870 rows of the published 62659, of which 11278 would be taken.
SIZES = {"e2e": (7570, 840, 844), "webnlg": (3244, 406, 886), "dart": (9876, 1256, 2259)}

sizes = st.dictionaries(st.text("abc", min_size=1, max_size=3), st.integers(0, 300), min_size=1, max_size=8)
ratios = st.fractions(Fraction(1, 100), 1, max_denominator=100)


@given(sizes, ratios)
def test_shares_are_exact_to_less_than_a_unit(sizes, ratio):
    taken = allocate(sizes, ratio)
    assert sum(taken.values()) == math.floor(ratio * sum(sizes.values()))
    assert all(abs(taken[name] - ratio * size) < 1 and 0 <= taken[name] <= size for name, size in sizes.items())


def test_largest_remainders_win():
    # Shares of .18: 1.26, 1.44, 0.9, so 3.6 in all: 3 of them, 1 + 1 + 0 and one more for the remainder .9.
    assert allocate({"a": 7, "b": 8, "c": 5}, Fraction("0.18")) == {"a": 1, "b": 1, "c": 1}


def test_published_dart_train_size():
    assert sum(allocate({"all": 62659}, Fraction(".18")).values()) == 11278


def test_rows_with_the_smallest_hashes_are_taken():
    strata = [("", "pub"), ("", "none")] * 10
    key = {row: hashlib.sha256(f"42/e2e/train/{strata[row][1]}/{row}".encode()).hexdigest() for row in range(20)}
    expected = [sorted(range(start, 20, 2), key=key.get)[:3] for start in (0, 1)]
    assert choose(strata, Fraction(3, 10), "42/e2e/train") == sorted(expected[0] + expected[1])


@settings(deadline=None)
@given(st.lists(st.sampled_from("pqrs"), min_size=1, max_size=60), ratios)
def test_whole_contexts_are_sampled(contexts, ratio):
    records = [{"context": context} for context in contexts]
    rows = sample_rows(records, [("", "pq" if context in "pq" else "rs") for context in contexts], ratio, "mr", "key")
    chosen = {contexts[row] for row in rows}
    assert rows == [row for row, context in enumerate(contexts) if context in chosen]
    assert len(chosen) == math.floor(ratio * len(set(contexts)))


def test_strata_of_e2e_and_webnlg():
    contexts = ["name : A | Type : pub", "name : B", "name : The Type | Type : coffee shop | area : x"]
    assert [name for _, name in e2e_strata([{"context": c} for c in contexts], "f")] == ["pub", "none", "coffee shop"]
    rows = [{"cate": True, "category": "Food"}, {"cate": False, "category": "Artist"}]
    assert webnlg_strata(rows, "f") == [("seen", "Food"), ("unseen", "Artist")]
    with pytest.raises(UserError, match="f:2: no 'cate' and 'category'"):
        webnlg_strata([rows[0], {"cate": True}], "f")


def test_stratum_of_dart_is_the_predicate_that_most_rows_have():
    contexts = ["a : p : b", "a : p : b | a : q : c", "a : q : x | a : r : y | a : q : z", "a : r : 2-10 : 0-14",
                "a : s : b", "a : t : b | a : u : c | a : u : d"]
    assert predicates_of(contexts[3]) == ["r"]
    # p, q and r stand in two rows each, s, t and u in one; of q and r the third row repeats q, of t and u the last u.
    assert [name for _, name in dart_strata([{"context": c} for c in contexts], "f")] == ["p", "p", "q", "r", "s", "u"]


def test_strata_of_squad():
    rows = [{"question": "In what year?"}, {"question": "Whose is it?"}]
    assert squad_strata(rows, "f") == [("", "what"), ("", "who")]
    with pytest.raises(UserError, match="f:2: no 'question'"):
        squad_strata([rows[0], {}], "f")


@pytest.fixture
def small(tmp_path):
    """A folder of data sets: E2E with 50 rows a split, 10 contexts, half of them pubs."""
    folder = tmp_path / "e2e"
    for split in ("train", "dev", "test"):
        rows = [{"context": f"name : {i % 10}" + " | Type : pub" * (i % 2), "completion": f"\u2028{i}"}
                for i in range(50)]
        write_json_lines(folder / f"{split}_formatted.jsonl", rows)
        write_json_lines(folder / f"{split}.jsonl", ({"context": [i], "completion": []} for i in range(50)))
    return tmp_path


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def test_both_files_have_the_same_rows_in_file_order(small):
    main(["--datasets", "e2e", "--data", str(small), "--ratio", ".3"])
    for split in ("train", "valid", "test"):
        texts = [int(row["completion"].strip()) for row in read(small / f"e2e/sampled/{split}_formatted.jsonl")]
        assert texts == sorted(texts) and len(set(texts)) == 15
        assert [row["context"] for row in read(small / f"e2e/sampled/{split}.jsonl")] == [[i] for i in texts]
    report = json.loads((small / "e2e/sampled/strata.json").read_text())
    assert report["splits"]["valid"]["strata"] == {"none": [25, 8], "pub": [25, 7]}
    assert (report["ratio"], report["seed"], report["unit"]) == (0.3, 42, "line")


def test_seed_and_split_change_the_sample_and_a_second_run_does_not(small):
    def rows(split="train", *flags):
        main(["--datasets", "e2e", "--data", str(small), *flags])
        return (small / f"e2e/sampled/{split}.jsonl").read_bytes()
    assert rows() == rows() != rows("train", "--seed", "1")
    assert rows() != rows("test")


def test_unit_mr(small):
    main(["--datasets", "e2e", "--data", str(small), "--unit", "mr", "--ratio", ".5"])
    counts = collections.Counter(row["context"] for row in read(small / "e2e/sampled/test_formatted.jsonl"))
    assert len(counts) == 5 and set(counts.values()) == {5}


def test_a_number_of_rows_is_taken_exactly_and_shared_among_the_strata(small):
    main(["--datasets", "e2e", "--data", str(small), "--rows", "31", "7", "50"])
    report = json.loads((small / "e2e/sampled/strata.json").read_text())
    assert [split["rows"] for split in report["splits"].values()] == [[50, 31], [50, 7], [50, 50]]
    assert report["splits"]["train"]["strata"] == {"none": [25, 16], "pub": [25, 15]} and report["rows"] == [31, 7, 50]
    with pytest.raises(UserError, match="has 50 rows, fewer than the 51 asked for"):
        main(["--datasets", "e2e", "--data", str(small), "--rows", "31", "7", "51"])
    with pytest.raises(SystemExit):
        main(["--datasets", "e2e", "--data", str(small), "--rows", "31", "7", "5", "--ratio", ".5"])


def test_squad_has_a_size_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setitem(sampling.ROWS, "squad", (8, 4, 2))
    for split in ("train", "valid", "test"):
        write_json_lines(tmp_path / f"squad/{split}_formatted.jsonl", [
            {"context": str(i), "completion": "x", "question": ("Who?", "When?")[i % 2]} for i in range(20)])
        write_json_lines(tmp_path / f"squad/{split}.jsonl", ({"context": [i], "completion": []} for i in range(20)))
    main(["--data", str(tmp_path)])
    report = json.loads((tmp_path / "squad/sampled/strata.json").read_text())
    assert [split["strata"] for split in report["splits"].values()] == [
        {"when": [10, 4], "who": [10, 4]}, {"when": [10, 2], "who": [10, 2]}, {"when": [10, 1], "who": [10, 1]}]
    main(["--data", str(tmp_path), "--ratio", "1"])
    assert read(tmp_path / "squad/sampled/test.jsonl") == read(tmp_path / "squad/test.jsonl")


def test_without_names_the_sets_that_are_there_are_taken(small, tmp_path):
    (tmp_path / "empty").mkdir()
    assert chosen_sets(None, str(small)) == ["e2e"] and chosen_sets(["dart"], str(small)) == ["dart"]
    with pytest.raises(UserError, match="none of e2e, webnlg_challenge_2017, dart, squad; run"):
        chosen_sets(None, str(tmp_path / "empty"))


def test_mistakes_are_named(small, tmp_path):
    run = ["--datasets", "e2e", "--data", str(small)]
    with pytest.raises(UserError, match="0.001 of its 50 rows is no row"):
        main([*run, "--ratio", ".001"])
    (small / "e2e/dev.jsonl").write_text("garbage\n" * 50)
    with pytest.raises(UserError, match=r"dev\.jsonl:1: cannot be read as JSON"):
        main(run)
    (small / "e2e/dev.jsonl").write_text('{"context": [1], "completion": [50257]}\n' * 50)
    with pytest.raises(UserError, match=r"dev\.jsonl:1: \.completion holds 50257, expected ids from 0 to 50256"):
        main(run)
    (small / "e2e/dev.jsonl").write_text('{"context": [1], "completion": [2]}\n')
    with pytest.raises(UserError, match=r"dev\.jsonl: 1 rows, but .*dev_formatted\.jsonl has 50"):
        main(run)
    (small / "e2e/dev.jsonl").unlink()
    with pytest.raises(UserError, match=r"dev\.jsonl: no such file"):
        main(run)
    with pytest.raises(UserError, match=r"train_formatted\.jsonl: no such file; run `bash scripts/create_datasets"):
        main(["--datasets", "dart", "--data", str(small)])


@pytest.mark.parametrize("ratio", ["0", "1.1", "-1", "x", "1/0", "nan"])
def test_impossible_ratios_are_refused(ratio, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([f"--ratio={ratio}"])
    assert stopped.value.code == 2 and ratio in capsys.readouterr().err


def test_runs_inside_the_scripts_folder(small, project_root):
    command = [sys.executable, "sample_datasets.py", "--datasets", "e2e", "--data", str(small)]
    done = subprocess.run(command, cwd=project_root / "scripts", capture_output=True, text=True)
    assert done.returncode == 0 and "e2e test: 9 of 50 rows" in done.stdout, done.stderr


@pytest.fixture(scope="module")
def real(shared_data, tmp_path_factory):
    """The three real data sets, converted; each encoded file only numbers the rows."""
    folder = tmp_path_factory.mktemp("real")
    for name, (convert, files) in REAL.items():
        for split, file in zip(("train", "valid", "test"), files):
            path = folder / FOLDERS[name] / split
            count = write_json_lines(f"{path}_formatted.jsonl", convert(shared_data / file))
            numbered = ({"context": [i // 50_000, i % 50_000], "completion": []} for i in range(count))
            write_json_lines(f"{path}.jsonl", numbered)
    return folder


def test_sizes_and_shares_of_the_real_sets(real):
    main(["--data", str(real)])
    for name, expected in SIZES.items():
        report = json.loads((real / FOLDERS[name] / "sampled/strata.json").read_text())
        assert tuple(split["rows"][1] for split in report["splits"].values()) == expected
        for split in report["splits"].values():
            assert all(abs(after - .18 * before) < 1 for before, after in split["strata"].values())
            assert [sum(column) for column in zip(*split["strata"].values())] == split["rows"]
    strata = json.loads((real / FOLDERS["webnlg"] / "sampled/strata.json").read_text())["splits"]["test"]["strata"]
    by_part = collections.Counter()
    for stratum, (_, after) in strata.items():
        by_part[stratum.split(" / ")[0]] += after
    assert by_part == {"seen": 449, "unseen": 437}  # .18 of 2495 and of 2433, rounded down
    # This program's own sample, so that a change of the choice or of Python cannot go unseen.
    content = (real / "e2e/sampled/test_formatted.jsonl").read_bytes()
    assert hashlib.sha256(content).hexdigest() == "24d30bacca93cb3890ba719caab396069b645bc3554427cf8664e7e9eb48e417"


def test_real_contexts_keep_all_references(real):
    main(["--data", str(real), "--datasets", "e2e", "--unit", "mr"])
    full = collections.Counter(row["context"] for row in read(real / "e2e/test_formatted.jsonl"))
    sampled = collections.Counter(row["context"] for row in read(real / "e2e/sampled/test_formatted.jsonl"))
    assert len(sampled) == 113  # .18 of 630, rounded down
    assert all(full[context] == count for context, count in sampled.items())


def test_counts_of_the_real_categories(real, tmp_path, capsys):
    counting.main(["--data", str(real), "--output", str(tmp_path), "--counts", str(tmp_path)])
    report = json.loads((tmp_path / "dataset_counts.json").read_text())
    # The README beside the data counts E2E's types.
    assert report["e2e"]["categories"] == {
        "none": {"train": 21950, "valid": 1191, "test": 0}, "coffee shop": {"train": 10396, "valid": 3481, "test": 287},
        "pub": {"train": 6531, "valid": 0, "test": 2225}, "restaurant": {"train": 3184, "valid": 0, "test": 2181}}
    assert sum(counts["test"] for name, counts in report["webnlg"]["categories"].items() if "unseen" in name) == 2433
    assert len(report["dart"]["categories"]) == 20
    assert (tmp_path / "dataset_counts.png").read_bytes().startswith(b"\x89PNG")
    assert "restaurant" in capsys.readouterr().out
