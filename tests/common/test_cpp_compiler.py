"""Paths that Jittor can compile under, and where its cache may be: said before anything is compiled or downloaded."""

import os
import re
import string

import pytest

from common import cpp_compiler
from common.errors import UserError

ALLOWED = string.ascii_letters + string.digits + "/._+@-"


@pytest.mark.parametrize("character", [character for character in string.printable if character not in ALLOWED]
                         + ["é", "项", "\0", "\x7f", "\u202e", "\udcff"])
def test_other_characters_are_refused_by_name(character):
    path = f"/home/a{character}b/project"
    with pytest.raises(UserError, match=re.escape(f"the project's folder: found {character!r} in {path!r}")) as refused:
        cpp_compiler.check_path("the project's folder", path)
    assert "--framework pytorch" in str(refused.value)


def test_allowed_characters_pass():
    cpp_compiler.check_path("the project's folder", "/" + ALLOWED)


def test_cache_is_in_the_project_unless_the_user_says_so(monkeypatch, tmp_path, project_root):
    for nothing in (None, ""):
        monkeypatch.delenv("JITTOR_HOME", raising=False) if nothing is None else monkeypatch.setenv("JITTOR_HOME", "")
        assert cpp_compiler.cache_home() == str(project_root)
    monkeypatch.setenv("JITTOR_HOME", str(tmp_path))
    assert cpp_compiler.cache_folder() == str(tmp_path / ".cache" / "jittor")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JITTOR_HOME", "relative")
    assert cpp_compiler.cache_home() == str(tmp_path / "relative")


@pytest.mark.parametrize("home", [
    "/tmp/j$(touch${IFS}X)", "/tmp/`touch X`", "/tmp/a;touch X", "/tmp/R&D(1)项目", "/tmp/a,b", "/tmp/[x]", "/tmp/a$b",
    "/tmp/a b", "/tmp/a\nb", "relative path"])
def test_a_cache_that_a_shell_would_read_otherwise_is_refused(monkeypatch, tmp_path, home):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JITTOR_HOME", home)
    with pytest.raises(UserError, match="^JITTOR_HOME: found "):
        cpp_compiler.check_folders()
    assert os.listdir(tmp_path) == []


def test_a_project_under_such_a_path_is_refused_wherever_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setattr(cpp_compiler, "ROOT", tmp_path / "R&D")
    monkeypatch.setenv("JITTOR_HOME", str(tmp_path))
    with pytest.raises(UserError, match="^the project's folder: found '&'"):
        cpp_compiler.check_folders()


def test_a_cache_that_cannot_be_written_names_the_variable(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("JITTOR_HOME", str(tmp_path / "file"))
    with pytest.raises(UserError, match="file is no folder; name a folder of yours: JITTOR_HOME="):
        cpp_compiler.check_folders()


def test_the_compilers_path_is_checked(monkeypatch, tmp_path):
    compiler = tmp_path / "g++$(touch X)"
    compiler.write_text("#!/bin/sh\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("cc_path", str(compiler))
    with pytest.raises(UserError, match=r"^the C\+\+ compiler: found '\$'"):
        cpp_compiler.check_cpp_compiler()
