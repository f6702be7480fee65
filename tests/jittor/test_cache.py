"""Jittor's folder of compiled files: not shared by mistake, another user's refused, what was cut off compiled anew."""

from jittor_setup import cache, compiler

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

from common.errors import FULL_DISK, UserError
from common.paths import ROOT
from tests import as_other_user

NAME = "0123456789"


def test_cache_is_not_shared_between_instruction_sets(monkeypatch):
    names = set()
    for flags in ("avx2", "avx2 avx512f"):
        monkeypatch.setattr(cache, "processor", lambda flags=flags: f"[('flags', '{flags}')]")
        names |= {cache.name(nvcc) for nvcc in ("", "/usr/local/cuda-13.0/bin/nvcc")}
    assert len(names) == 4


@pytest.fixture
def home(monkeypatch):
    """A JITTOR_HOME with a folder of compiled files that every user may enter; returns that folder."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("JITTOR_HOME", folder)
        inside = Path(folder, ".cache", "jittor", "jt1.3.11", "g++12.2.0", "py3.11.7", "Linux", "Intel", "abcd", NAME)
        inside.mkdir(parents=True)
        os.chmod(folder, 0o755)
        yield inside


def allow_all(home, but=()):
    """Lets every user write the folders on the way to ``home`` and inside it, but those in ``but``."""
    for path in [*home.parents[:8], home, *home.rglob("*")]:
        if path.is_dir():
            os.chmod(path, 0o755 if path in but else 0o777)


def test_ones_own_cache_can_be_written(home):
    assert cache.folders_of(NAME) == [str(home)]
    cache.check_can_be_written(NAME)
    cache.check_can_be_written("another")  # which is not there yet
    assert not (home.parent / "another").exists()


@pytest.mark.parametrize("foreign", ["jit", ".", "..", "jittor.lock", "new"])
def test_another_users_cache_is_a_sentence(home, foreign):
    (home / "jit").mkdir()
    lock = home.parent / "jittor.lock"
    lock.touch()
    os.chmod(lock, 0o644 if foreign == "jittor.lock" else 0o666)
    allow_all(home, but=[(home / foreign).resolve()])
    if foreign == "new":  # in a folder that is wholly open nothing is refused
        return as_other_user(lambda: cache.check_can_be_written(NAME))
    with pytest.raises(UserError, match=f"{foreign.strip('.')}.* name a folder of yours: JITTOR_HOME="):
        as_other_user(lambda: cache.check_can_be_written(NAME))
    cache.check_can_be_written(NAME)  # its owner may


def test_what_cannot_be_written_inside_is_a_sentence_too(home):
    with pytest.raises(UserError, match="gen/jit_op_maker.h: Permission denied; name a folder of yours"):
        with cache.explaining_what_is_not_written():
            raise PermissionError(13, "Permission denied", str(home / "gen/jit_op_maker.h"))
    with pytest.raises(IndexError), cache.explaining_what_is_not_written():
        raise IndexError


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("Run cmd failed: g++ a.cc")])
def test_a_full_disk_is_a_sentence_and_another_failure_of_the_compiler_stays(home, monkeypatch, error):
    usage = shutil.disk_usage(home)
    for free, expected in ((5 << 20, UserError), (cache.COMPILERS_ROOM, type(error))):
        monkeypatch.setattr(shutil, "disk_usage", lambda folder, free=free: usage._replace(free=free))
        with pytest.raises(expected) as found, cache.explaining_what_is_not_written():
            raise error
        if expected is UserError:
            assert found.value.status == FULL_DISK
            assert str(found.value) == (f"Jittor could not compile: the disk of {cache.cache_folder()} is full, 5 MiB "
                                        "are left; make room, then run it again")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """``{suffix: a whole file of that kind}``, an object file and a library, by the C++ compiler."""
    folder = tmp_path_factory.mktemp("compiled")
    (folder / "source.cc").write_text("#include <string>\nstd::string twice(std::string x) { return x + x; }\n")
    for name, flag in (("whole.o", "-c"), ("whole.so", "-shared")):
        subprocess.run(["g++", "-fPIC", flag, folder / "source.cc", "-o", folder / name], check=True)
    return {suffix: folder / f"whole{suffix}" for suffix in (".o", ".so")}


@pytest.mark.parametrize("suffix", [".o", ".so"])
def test_every_cut_is_found(compiled, tmp_path, suffix):
    whole = compiled[suffix].read_bytes()
    assert cache.is_whole(compiled[suffix])
    path = tmp_path / f"cut{suffix}"
    for length in [0, 1, 3, 4, 63, 64, 65, *range(100, len(whole), 997), len(whole) - 1]:
        path.write_bytes(whole[:length])
        assert not cache.is_whole(path), length
    path.write_bytes(bytes(len(whole)))
    assert not cache.is_whole(path)


def test_cut_files_are_removed_with_their_keys_and_others_stay(compiled, home, capsys):
    whole = {suffix: path.read_bytes() for suffix, path in compiled.items()}
    cut, kept = {}, {}
    for place in (home, home / "jit", home / "cu12.8_sm_90"):
        place.mkdir(exist_ok=True)
        for suffix, data in whole.items():
            cut[place / f"cut{suffix}"] = cut[place / f"cut{suffix}.key"] = data[:-1]
            kept[place / f"whole{suffix}"] = kept[place / f"whole{suffix}.key"] = data
            kept[place / f"being_written{suffix}"] = data[:-1]  # its key comes last
            kept[place / f"source{suffix}.cc"] = b""
        cut[place / "data.o"], cut[place / "data.md5"] = whole[".o"][:-1], b"0"
    for path, data in {**cut, **kept}.items():
        path.write_bytes(data)
    cache.remove_damaged(NAME)
    assert {path for path in home.rglob("*") if path.is_file()} == set(kept)
    lines = capsys.readouterr().err.splitlines()
    removed = {str(path) for path in cut if path.suffix in (".o", ".so")}
    assert {line for line in lines} == {f"note: {path} was cut off and is compiled anew" for path in removed}
    cache.remove_damaged(NAME)
    assert capsys.readouterr().err == ""


def test_a_file_that_another_process_completes_meanwhile_stays(compiled, home, monkeypatch):
    """Jittor compiles under its lock; when that is free, the file may be whole."""
    path = home / "kernel.so"
    path.write_bytes(compiled[".so"].read_bytes()[:-1])
    (home / "kernel.so.key").touch()
    plain = cache.locked

    @contextlib.contextmanager
    def waited(folder):
        with plain(folder):
            shutil.copy(compiled[".so"], path)
            yield

    monkeypatch.setattr(cache, "locked", waited)
    cache.remove_damaged(NAME)
    assert path.exists() and (home / "kernel.so.key").exists()


def test_both_of_jittors_locks_are_held(home):
    with cache.locked(str(home)), open(home.parent / "jittor.lock", "a") as other:
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fork() == 0:  # such a lock is the process's
            try:
                fcntl.lockf(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os._exit(7)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.wait()[1]) == 7


def test_a_precompiled_header_that_was_cut_off_is_compiled_anew(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(compiler, "KERNEL_HEADER", "#include <cmath>\n")
    header = compiler.compile_kernel_header(str(tmp_path), "g++", "-O1")
    precompiled = Path(header + ".gch")
    whole = precompiled.read_bytes()
    before = precompiled.stat().st_mtime_ns
    compiler.compile_kernel_header(str(tmp_path), "g++", "-O1")
    assert precompiled.stat().st_mtime_ns == before and capfd.readouterr().err == ""
    for damaged in (whole[:-1], whole[:1000], b""):
        precompiled.write_bytes(damaged)
        compiler.compile_kernel_header(str(tmp_path), "g++", "-O1")
        assert capfd.readouterr().err == f"note: {precompiled} was cut off and is compiled anew\n"
        subprocess.run(["g++", "-O1", "-Winvalid-pch", "-Werror", "-H", "-include", header, "-fsyntax-only", "-x",
                        "c++", os.devnull], check=True)
        assert f"! {precompiled}\n" in capfd.readouterr().err  # g++ names what it includes: ! is valid, x is not


@pytest.mark.slow
@pytest.mark.parametrize("size", [0, 5000])
def test_a_kernel_that_was_cut_off_computes_again(size):
    """Loading 5000 bytes of one ends the process with SIGBUS."""
    program = textwrap.dedent(f"""
        import glob, os
        import jittor_setup
        import jittor as jt
        source = "for (int i = 0; i < 4; i++) @out(i) = {os.getpid()} + i;"
        print(jt.code([4], "int32", [], cpu_src=source).numpy().tolist(), jt.flags.cache_path)
        """)

    def run():
        ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT / "NLG_jittor" / "src", capture_output=True,
                               text=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
        assert ended.returncode == 0, ended.stderr
        numbers, _, folder = ended.stdout.rpartition(" ")
        assert numbers == str([os.getpid() + number for number in range(4)])
        return Path(folder.strip()), ended.stderr

    folder, _ = run()
    kernel = max(folder.glob("jit/*.so"), key=lambda path: path.stat().st_mtime)
    os.truncate(kernel, size)
    _, said = run()
    assert said.splitlines()[-1] == f"note: {kernel} was cut off and is compiled anew"
    assert run()[1] == ""
