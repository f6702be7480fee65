"""The download script, on models of a few kilobytes: from a folder, from a hub on this machine, and with no hub."""

import hashlib
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest
import safetensors.numpy

from common.errors import UserError
from common.model import downloading as download
from common.model import weight_files
from common.model.downloading import PUBLISHED, Published
from common.model.model_cards import ModelCard, backbone_shapes
from common.model.weight_files import read_arrays

CARD = ModelCard("gpt2.sm", width=8, layers=1, heads=2, folder="gpt2", positions=8, vocabulary=16)
ARRAYS = {name: np.random.default_rng(0).standard_normal(shape, np.float32)
          for name, shape in backbone_shapes(CARD).items()}


CONTENT = safetensors.numpy.save(ARRAYS)
CONTENT_SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def pretrained(tmp_path, monkeypatch):
    folder = tmp_path / "pretrained_checkpoints"
    folder.mkdir()
    monkeypatch.setattr(download, "PRETRAINED", folder)
    monkeypatch.setattr(weight_files, "PRETRAINED", folder)
    monkeypatch.setattr(download, "CARDS", {"gpt2": CARD})
    monkeypatch.setattr(download, "PUBLISHED", {"gpt2": Published("0" * 40, CONTENT_SHA256)})
    return folder


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    (folder / "gpt2").mkdir(parents=True)
    (folder / "gpt2" / "model.safetensors").write_bytes(CONTENT)
    (folder / "gpt2" / "config.json").write_text('{"model_type": "gpt2", "from": "source"}')
    return folder


def assert_valid(folder):
    for name, array in read_arrays(folder).items():
        np.testing.assert_array_equal(array, ARRAYS[name])


def test_copy_then_skip(pretrained, source, capsys):
    download.main(["gpt2", "--source", str(source)])
    target = pretrained / "gpt2"
    assert sorted(os.listdir(target)) == ["SHA256SUMS", "config.json", "model.safetensors"]
    assert (target / "SHA256SUMS").read_text() == f"{CONTENT_SHA256}  model.safetensors\n"
    assert (target / "model.safetensors").read_bytes() == (source / "gpt2" / "model.safetensors").read_bytes()
    assert json.loads((target / "config.json").read_text())["from"] == "source"
    assert "copied and valid" in capsys.readouterr().out
    before = os.stat(target / "model.safetensors")
    shutil.rmtree(source / "gpt2")
    download.main(["gpt2", "--source", str(source)])
    assert os.stat(target / "model.safetensors") == before
    assert "there and valid" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gpt2/pytorch_model.bin", "gpt2-pytorch_model.bin"])
def test_copy_a_torch_file_and_write_its_config(pretrained, tmp_path, name):
    torch = pytest.importorskip("torch")
    path = tmp_path / "source" / name
    path.parent.mkdir(parents=True)
    torch.save({key: torch.tensor(array) for key, array in ARRAYS.items()}, path)
    (tmp_path / "source" / "config.json").write_text("{}")  # of something else
    download.main(["gpt2", "--source", str(tmp_path / "source")])
    assert sorted(os.listdir(pretrained / "gpt2")) == ["SHA256SUMS", "config.json", "pytorch_model.bin"]
    assert_valid(pretrained / "gpt2")
    transformers = pytest.importorskip("transformers")
    config = transformers.AutoConfig.from_pretrained(pretrained / "gpt2")
    assert (config.n_embd, config.n_layer, config.n_head, config.n_positions, config.vocab_size) == (8, 1, 2, 8, 16)


def test_copy_parts(pretrained, source):
    (source / "gpt2" / "model.safetensors").unlink()
    names = list(ARRAYS)
    for part in range(2):
        safetensors.numpy.save_file({name: ARRAYS[name] for name in names[part::2]},
                                    source / "gpt2" / f"model-{part}.safetensors")
    weight_map = {name: f"model-{number % 2}.safetensors" for number, name in enumerate(names)}
    (source / "gpt2" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    download.main(["gpt2", "--source", str(source)])
    assert_valid(pretrained / "gpt2")
    lines = (pretrained / "gpt2" / "SHA256SUMS").read_text().splitlines()
    assert [line.split()[1] for line in lines] == ["model-0.safetensors", "model-1.safetensors",
                                                   "model.safetensors.index.json"]
    for line in lines:
        digest, name = line.split()
        assert digest == hashlib.sha256((pretrained / "gpt2" / name).read_bytes()).hexdigest()


@pytest.mark.parametrize("name", ["model.safetensors", "model-1.safetensors"])
def test_weights_that_changed_after_they_were_checked_are_noticed(pretrained, source, name):
    """One bit of a weight: the shapes stay right."""
    if name != "model.safetensors":
        test_copy_parts(pretrained, source)
    else:
        download.main(["gpt2", "--source", str(source)])
    path = pretrained / "gpt2" / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"{name}: has changed since it was checked: .* delete it and run this again"):
        download.main(["gpt2", "--source", str(source)])


def test_weights_of_the_right_shapes_that_are_not_the_published_ones_are_said(pretrained, source, capsys):
    download.main(["gpt2", "--source", str(source)])
    assert "not the published file" not in capsys.readouterr().err
    shutil.rmtree(pretrained / "gpt2")
    safetensors.numpy.save_file({name: array + 1 for name, array in ARRAYS.items()}, source / "gpt2/model.safetensors")
    download.main(["gpt2", "--source", str(source)])
    assert f"is not the published file, whose sha256 is {CONTENT_SHA256}" in capsys.readouterr().err


def test_what_is_published():
    """Whole ids of commits and files."""
    assert download.PUBLISHED.keys() == download.CARDS.keys() == {"gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl",
                                                                  "bert-base-uncased", "chatglm2-6b"}
    for name, published in download.PUBLISHED.items():
        assert name in ("gpt2-xl", "chatglm2-6b") or re.fullmatch("[0-9a-f]{40}", published.revision)
        assert published.sha256 is None or re.fullmatch("[0-9a-f]{64}", published.sha256)


def test_a_model_without_a_known_revision_is_copied_only(pretrained, source, monkeypatch):
    monkeypatch.setattr(download, "CARDS", {"gpt2-xl": CARD})
    monkeypatch.setitem(download.PUBLISHED, "gpt2-xl", download.Published(None))
    with pytest.raises(UserError, match="openai-community/gpt2-xl: no revision of it is known here; .*--source DIR$"):
        download.main(["gpt2-xl"])
    assert not (pretrained / "gpt2-xl").exists()
    (source / "gpt2").rename(source / "gpt2-xl")
    download.main(["gpt2-xl", "--source", str(source)])
    assert_valid(pretrained / "gpt2-xl")


@pytest.mark.parametrize("content, checksum, is_right", [
    (b"", "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391", True),  # git's id of an empty file
    (b"x", "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391", False),
    (b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", True),
    (b"x", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", False), (b"", "", False),
    (b"", "e3b0c442", False)])
def test_a_download_is_compared_with_what_the_hub_gives(tmp_path, content, checksum, is_right):
    (tmp_path / "file").write_bytes(content)
    if is_right:
        download.check_download(str(tmp_path / "file"), checksum)
    else:
        with pytest.raises(UserError, match=f"the download is damaged: .* the hub gives {checksum or 'none'};"):
            download.check_download(str(tmp_path / "file"), checksum)


def test_a_wrong_model_is_not_copied(pretrained, source):
    wrong = {**ARRAYS, "transformer.wpe.weight": np.zeros((9, 8), np.float32)}
    safetensors.numpy.save_file(wrong, source / "gpt2" / "model.safetensors")
    with pytest.raises(UserError, match=r"source/gpt2/model.safetensors: .* 1 of another shape: transformer.wpe"):
        download.main(["gpt2", "--source", str(source)])
    assert os.listdir(pretrained) == []


def test_a_damaged_model_is_left_for_the_user_to_delete(pretrained, source):
    (pretrained / "gpt2").mkdir()
    (pretrained / "gpt2" / "model.safetensors").write_bytes((source / "gpt2" / "model.safetensors").read_bytes()[:-1])
    with pytest.raises(UserError, match="truncated or damaged.*delete it and run this again"):
        download.main(["gpt2", "--source", str(source)])
    assert os.listdir(pretrained / "gpt2") == ["model.safetensors"]


def test_a_copy_that_fails_leaves_nothing_half_written(pretrained, source, monkeypatch):
    monkeypatch.setattr(download, "CHUNK_BYTES", 64)

    class FullDisk:
        def __init__(self, **_):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def update(self, _):
            raise OSError("disk full")

    monkeypatch.setattr(download.tqdm, "tqdm", FullDisk)
    with pytest.raises(OSError, match="disk full"):
        download.main(["gpt2", "--source", str(source)])
    assert "model.safetensors" not in os.listdir(pretrained / "gpt2")


@pytest.mark.parametrize("argv, reason", [
    (["gpt3"], "gpt3: unknown; expected names of gpt2"),
    (["gpt2", "--source", "/nowhere"], "--source /nowhere: no such folder"),
    (["gpt2", "--source", "."], r"no gpt2 there; expected one of \./gpt2/model.safetensors, .*gpt2-pytorch_model.bin"),
])
def test_wrong_words(pretrained, argv, reason, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=reason):
        download.main(argv)
    assert os.listdir(pretrained) == []


# The whole script, in a checkout of its own whose gpt2 is tiny

@pytest.fixture
def checkout(tmp_path, project_root):
    root = tmp_path / "checkout"
    shutil.copytree(project_root / "common", root / "common", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "scripts").mkdir()
    (root / "pretrained_checkpoints").mkdir()
    for name in ("project.sh", "any_python.sh", "download_pretrained_checkpoints.sh",
                 "download_pretrained_checkpoints.py"):
        shutil.copy(project_root / "scripts" / name, root / "scripts")
    (root / "scripts" / "common").symlink_to("../common")
    cards = root / "common" / "model" / "model_cards.py"
    text = cards.read_text()
    assert text.count('ModelCard("gpt2.sm", 768, 12, 12, "gpt2")') == 1
    cards.write_text(text.replace('ModelCard("gpt2.sm", 768, 12, 12, "gpt2")', repr(CARD)))
    code = root / "common" / "model" / "downloading.py"
    text = code.read_text()
    assert text.count(PUBLISHED["gpt2"].sha256) == 1
    code.write_text(text.replace(PUBLISHED["gpt2"].sha256, CONTENT_SHA256))
    return root


def run(checkout, *words, **environment):
    command = ["bash", str(checkout / "scripts" / "download_pretrained_checkpoints.sh"), *words]
    plain = {name: value for name, value in os.environ.items()
             if not name.startswith("HF_") and not name.lower().endswith("_proxy")}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL,
                          env={**plain, "PYTHON": sys.executable, "HF_HOME": str(checkout / "cache"), **environment})


@pytest.fixture
def hub(source):
    """A server that answers as the Hugging Face hub does for files outside its own store."""
    asked, revision, spoilt = [], PUBLISHED["gpt2"].revision, set()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer()

        def do_GET(self):
            self.answer()

        def answer(self):
            asked.append((self.command, self.path))
            path = source / "gpt2" / os.path.basename(self.path)
            if not self.path.startswith(f"/openai-community/gpt2/resolve/{revision}/") or not path.is_file():
                self.send_response(404)
                self.end_headers()
                return
            content = path.read_bytes()
            self.send_response(200)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", revision)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content[:-1] + b"?" if path.name in spoilt else content)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", asked, spoilt
    server.shutdown()
    thread.join()
    server.server_close()


def test_download(checkout, hub):
    address, asked, _ = hub
    done = run(checkout, "gpt2", HF_ENDPOINT=address, HF_HUB_DISABLE_XET="1")
    assert done.returncode == 0, done.stderr
    assert "downloaded and valid" in done.stdout
    folder = checkout / "pretrained_checkpoints" / "gpt2"
    assert sorted(os.listdir(folder)) == ["SHA256SUMS", "config.json", "model.safetensors"]
    assert_valid(folder)
    assert "not the published file" not in done.stderr
    asked.clear()
    done = run(checkout, "gpt2", HF_ENDPOINT=address)
    assert done.returncode == 0 and "there and valid" in done.stdout and asked == []


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_download_that_is_damaged_on_the_way(checkout, hub, name):
    address, _, spoilt = hub
    spoilt.add(name)
    done = run(checkout, "gpt2", HF_ENDPOINT=address, HF_HUB_DISABLE_XET="1")
    assert done.returncode == 2
    assert "the download is damaged: its checksum is" in done.stderr and "Traceback" not in done.stderr
    assert os.listdir(checkout / "pretrained_checkpoints") == []


def test_a_hub_without_the_model(checkout, hub, source):
    (source / "gpt2" / "model.safetensors").unlink()
    done = run(checkout, "gpt2", HF_ENDPOINT=hub[0])
    assert done.returncode == 2
    assert re.search(r"openai-community/gpt2 could not be downloaded \(.*404", done.stderr)
    assert os.listdir(checkout / "pretrained_checkpoints") == []


def test_no_network(checkout):
    done = run(checkout, "gpt2", HF_HUB_OFFLINE="1")
    assert done.returncode == 2
    assert done.stdout == ""
    message = done.stderr.splitlines()[-1]
    assert message.startswith("download_pretrained_checkpoints.py: error: openai-community/gpt2 could not be ")
    assert message.endswith("bash scripts/download_pretrained_checkpoints.sh gpt2 --source DIR")
    assert "Traceback" not in done.stderr
    assert os.listdir(checkout / "pretrained_checkpoints") == []


def test_the_choice_of_the_interpreter(checkout):
    done = run(checkout, "--help", PYTHON="/no/such/python")
    assert done.returncode == 2 and "PYTHON=/no/such/python: no such interpreter" in done.stderr
    done = run(checkout, "--help", PYTHON="")
    assert done.returncode == 2 and "run bash scripts/setup.sh first" in done.stderr
    for tree in ("jittor", "pytorch"):  # the later one goes first
        python = checkout / f".venv_{tree}" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(f"#!/bin/sh\necho {tree} \"$@\"\n")
        python.chmod(0o755)
        done = run(checkout, "gpt2", "--source", "a b", PYTHON="")
        assert done.stdout == f"{tree} -E {checkout}/scripts/download_pretrained_checkpoints.py gpt2 --source a b\n"
