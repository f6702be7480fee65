"""Bringing, checking and skipping of data sets, with small files and a local stand-in for the network."""

import gzip
import hashlib
import json
import shutil
import subprocess
import sys

import pytest

from common.data import datasets
from common.data.datasets import main
from common.data.raw_files import RAW_FILES, RawFile, judge
from common.errors import UserError


@pytest.fixture
def source(tmp_path):
    """A folder with a small E2E: train gzipped, the others plain."""
    folder = tmp_path / "source" / "e2e"
    folder.mkdir(parents=True)
    with gzip.open(folder / "train.txt.gz", "wt") as file:
        file.write("name : A||A .\nname : B||B .\n")
    for split in ("valid", "test"):
        (folder / f"{split}.txt").write_text("name : C||C .\n")
    return folder.parent


@pytest.fixture
def published(source, monkeypatch):
    """Makes the small files the published ones and their folder the place to download from."""
    with gzip.open(source / "e2e/train.txt.gz") as packed:
        (source / "e2e/train.txt").write_bytes(packed.read())
    files = {split: RawFile(f"{split}.txt", hashlib.sha256((source / f"e2e/{split}.txt").read_bytes()).hexdigest())
             for split in ("train", "valid", "test")}
    monkeypatch.setitem(datasets.RAW_FILES, "e2e", files)
    monkeypatch.setattr(datasets, "UPSTREAM", source.as_uri())
    return source


def create(tmp_path, *flags):
    main(["e2e", "--data", str(tmp_path / "data"), *map(str, flags)])
    return tmp_path / "data" / "e2e"


def times(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_source_is_converted_and_encoded(tmp_path, source, vocab, capsys):
    folder = create(tmp_path, "--source", source)
    assert sorted(times(folder)) == ["created.json"] + sorted(
        split + suffix for split in ("train", "valid", "test") for suffix in (".txt", ".jsonl", "_formatted.jsonl"))
    assert (folder / "train.txt").read_text() == "name : A||A .\nname : B||B .\n"
    second = json.loads((folder / "train_formatted.jsonl").read_text().split("\n")[1])
    assert second == {"context": "name : B", "completion": "B ."}
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    assert len(rows) == 2 and all(row["context"][-1] == row["completion"][-1] == 50256 for row in rows)
    assert "NOT the published file" in capsys.readouterr().err


def test_second_run_leaves_what_is_done(tmp_path, source, vocab, capsys):
    folder = create(tmp_path, "--source", source)
    before = times(folder)
    create(tmp_path, "--source", source)
    create(tmp_path)
    assert times(folder) == before
    assert "train.jsonl: 2 rows, done already" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["valid.jsonl", "valid_formatted.jsonl"])
@pytest.mark.parametrize("spoil", [lambda path: path.write_text(path.read_text()[:-5]), lambda path: path.unlink()])
def test_spoilt_files_are_made_again(tmp_path, source, vocab, name, spoil):
    folder = create(tmp_path, "--source", source)
    before, content = times(folder), (folder / name).read_bytes()
    spoil(folder / name)
    create(tmp_path)
    assert (folder / name).read_bytes() == content
    assert times(folder)["train.jsonl"] == before["train.jsonl"]


def test_changed_source_is_converted_again(tmp_path, source, vocab):
    create(tmp_path, "--source", source)
    (source / "e2e/test.txt").write_text("name : D||D .\nname : E||E .\n")
    folder = create(tmp_path, "--source", source)
    assert len((folder / "test.jsonl").read_text().splitlines()) == 2


def test_download(tmp_path, published, vocab, capsys):
    folder = create(tmp_path)
    assert (folder / "train.txt").read_bytes() == (published / "e2e/train.txt").read_bytes()
    assert "NOT the published file" not in capsys.readouterr().err


def test_spoilt_download_is_refused_and_not_kept(tmp_path, published, vocab):
    (published / "e2e/valid.txt").write_text("name : C||C")
    with pytest.raises(UserError, match="valid.txt: the download is not the published file: sha256 .* expected"):
        create(tmp_path)
    assert not (tmp_path / "data/e2e/valid.txt").exists()


def test_without_network_the_message_says_what_to_do(tmp_path, vocab, monkeypatch):
    monkeypatch.setattr(datasets, "UPSTREAM", (tmp_path / "nowhere").as_uri())
    with pytest.raises(UserError) as error:
        create(tmp_path)
    for words in ("cannot download", "train.txt, valid.txt, test.txt", "DIR/e2e/", "datasets.sh e2e --source DIR"):
        assert words in str(error.value)


def test_missing_and_broken_sources(tmp_path, source, vocab):
    with pytest.raises(UserError, match="no such folder"):
        create(tmp_path, "--source", tmp_path / "none")
    (source / "e2e/valid.txt").unlink()
    with pytest.raises(UserError, match=r"valid\.txt: no such file \(nor \.gz\)"):
        create(tmp_path, "--source", source)
    packed = source / "e2e/train.txt.gz"
    packed.write_bytes(packed.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"train\.txt\.gz: cannot be unpacked"):
        create(tmp_path, "--source", source)


def test_squad_is_split_and_shortened_as_asked(tmp_path, vocab, capsys):
    passage = "word " * 60 + "answer"
    entry = {"question": "What?", "answers": [{"text": "answer", "answer_start": passage.index("answer")}]}
    for name, count in (("train", 3), ("dev", 1)):
        document = {"data": [{"title": f"{name} {i}", "paragraphs": [
            {"context": passage, "qas": [{**entry, "id": f"{i}"}]}]} for i in range(count)]}
        (tmp_path / "source/squad").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"source/squad/{name}-v1.1.json").write_text(json.dumps(document))

    def sizes(*flags):
        main(["squad", "--data", str(tmp_path / "data"), "--source", str(tmp_path / "source"), *flags])
        rows = {split: [json.loads(line) for line in (tmp_path / f"data/squad/{split}.jsonl").read_text().splitlines()]
                for split in ("train", "valid", "test")}
        return {split: [len(row["context"]) for row in found] for split, found in rows.items()}

    whole = sizes()
    assert whole == {"train": [whole["test"][0]] * 2, "valid": whole["test"], "test": whole["test"]}
    assert set(sizes("--seq_len", "64", "--eval_len", "16")["train"]) == {48}
    created = json.loads((tmp_path / "data/squad/created.json").read_text())
    assert created["valid"]["seq_len"] == 64 and created["valid"]["raw"] == "train-v1.1.json"
    capsys.readouterr()
    sizes("--seq_len", "64", "--eval_len", "16")
    assert capsys.readouterr().out.count("done already") == 3
    assert sizes() == whole


def test_squad_comes_from_its_own_pages(tmp_path, vocab, monkeypatch):
    monkeypatch.setattr(datasets, "SQUAD_UPSTREAM", (tmp_path / "nowhere").as_uri())
    with pytest.raises(UserError) as error:
        main(["squad", "--data", str(tmp_path / "data")])
    for words in ("nowhere/train-v1.1.json", "download train-v1.1.json, dev-v1.1.json from", "into DIR/squad/"):
        assert words in str(error.value)


def test_git_ids_know_a_file():
    # The id of an empty file in every git repository: `git hash-object /dev/null`.
    assert judge(RawFile("a", blob="e69de29b"), "a", b"") == ""
    assert judge(RawFile("a", blob="e69de29b"), "a", b"x") is None
    assert judge(RawFile("a", hashlib.sha256(b"x").hexdigest()), "a", b"x") == ""


def test_a_file_that_git_s_id_hardly_tells_is_known_by_its_rows(tmp_path, published, vocab, monkeypatch):
    content = (published / "e2e/valid.txt").read_bytes()
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()[:8]
    rows = hashlib.sha256(b'{"context": "name : C", "completion": "C ."}\n').hexdigest()
    assert datasets.rows_digest("e2e", content) == rows
    for expected, is_right in ((rows, True), (rows[::-1], False)):
        files = {**RAW_FILES["e2e"], "valid": RawFile("valid.txt", blob=blob, rows_sha256=expected)}
        monkeypatch.setitem(datasets.RAW_FILES, "e2e", files)
        if is_right:
            create(tmp_path / "right")
        else:
            with pytest.raises(UserError, match="valid.txt: the download is not the published file"):
                create(tmp_path / "wrong")


def test_a_download_without_end_is_given_up(tmp_path, monkeypatch):
    (tmp_path / "large").write_bytes(bytes(1 << 20))
    monkeypatch.setattr(datasets, "LARGEST_RAW_BYTES", 1 << 19)
    with pytest.raises(OSError, match="received more than 0 MiB"):
        datasets.download((tmp_path / "large").as_uri())


def test_real_files_are_known(shared_data):
    def verdict(name, split, path):
        with gzip.open(shared_data / path) as file:
            return judge(RAW_FILES[name][split], path.split("/")[-1].removesuffix(".gz"), file.read())

    assert [verdict("e2e", split, f"e2e/{split}.txt.gz") for split in ("train", "valid", "test")] == ["", "", ""]
    for split, file in (("train", "train"), ("valid", "dev"), ("test", "test")):
        assert verdict("webnlg", split, f"webnlg_challenge_2017/{file}.json.gz") == ""
    assert verdict("dart", "valid", "dart/dart-v1.1.1-full-dev.json.gz") == ""
    assert "rebuilt copy" in verdict("dart", "test", "dart/dart-v1.1.1-full-test.json.gz")
    with gzip.open(shared_data / "dart/dart-v1.1.1-full-test.json.gz") as file:
        assert datasets.rows_digest("dart", file.read()) == RAW_FILES["dart"]["test"].rows_sha256
    assert verdict("squad", "test", "squad/dev-v1.1.json.gz") == ""
    for split in ("train", "valid"):
        assert "a rebuilt copy: all 87599" in verdict("squad", split, "squad/train-v1.1.rebuilt.json.gz")
    assert "PARTIAL: 54870 of the 62659" in verdict("dart", "train", "dart/dart-v1.1.1-full-train.partial.json.gz")


def test_shell_script_finds_a_python_or_says_what_to_do(tmp_path, project_root):
    for name in ("scripts", "common"):
        (tmp_path / name).mkdir()
    (tmp_path / "scripts" / "common").symlink_to("../common")
    for name in ("project.sh", "any_python.sh", "create_datasets.sh"):
        shutil.copy(project_root / "scripts" / name, tmp_path / "scripts")
    command = ["bash", str(tmp_path / "scripts/create_datasets.sh"), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"})
    assert done.returncode == 2 and "bash scripts/setup.sh" in done.stderr
    command[1] = str(project_root / "scripts/create_datasets.sh")
    environment = {"PATH": "/usr/bin:/bin", "PYTHON": sys.executable}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0 and "usage: create_datasets.sh" in done.stdout
