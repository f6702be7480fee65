"""Jittor imports offline, without torch, without traces in the process or the home folder; CUDA's patches."""

from jittor_setup import cuda, environment

import errno
import multiprocessing.synchronize
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from common.errors import UserError
from common.paths import ROOT

SOURCES = ROOT / "NLG_jittor" / "src"


def run_python(program, *path, **variables):
    """Runs a program in a fresh interpreter that finds the Jittor tree; returns the ended process."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*map(str, path), str(SOURCES)])} | variables
    command = [sys.executable, "-c", textwrap.dedent(program)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)


@pytest.mark.slow
def test_import_leaves_no_traces(tmp_path):
    ended = run_python("""
        import os, signal, ssl, subprocess, sys, time
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job inherits SIGINT ignored
        context, limit, variables = ssl._create_default_https_context, sys.getrecursionlimit(), dict(os.environ)
        import jittor_setup
        import jittor as jt
        assert ssl._create_default_https_context is context
        assert sys.getrecursionlimit() == limit
        assert dict(os.environ) == variables
        number = jt.array([1.0, 2.0]) * float(os.getpid())  # a value of its own, for a kernel that may be compiled
        assert number.sum().item() == 3 * os.getpid()
        source = "for (int i = 0; i < 4; i++) @out(i) = %d + i;" % os.getpid()
        assert jt.code([4], "int32", [], cpu_src=source).numpy().tolist() == [os.getpid() + i for i in range(4)]
        children = [line for task in os.listdir("/proc/self/task")
                    for line in open(f"/proc/self/task/{task}/children").read().split()]
        assert not children, children
        child = subprocess.Popen(["sleep", "60"])
        child.kill()
        child.wait()
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)
        except KeyboardInterrupt:
            print("interrupted as usual")
        """, HOME=str(tmp_path))
    assert ended.stdout == "interrupted as usual\n", ended.stderr
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
def test_crash_shows_where_python_was():
    ended = run_python("""
        import ctypes
        import jittor_setup
        ctypes.string_at(0)
        """)
    assert ended.returncode == -signal.SIGSEGV
    assert "Fatal Python error: Segmentation fault" in ended.stderr and "line 4" in ended.stderr


@pytest.mark.slow
def test_torch_is_never_imported(tmp_path):
    for name in ("torch", "cupy"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('imported')")
    ended = run_python("""
        import sys
        import jittor_setup
        import gpt2_ft, gpt2_beam, jittor
        assert "torch" not in sys.modules and "cupy" not in sys.modules
        print(jittor.array([1.0]).numpy())
        """, tmp_path)
    assert ended.stdout == "[1.]\n", ended.stderr


@pytest.mark.parametrize("version, refused", [("2.0.0", True), ("1.26.4", False)])
def test_numpy_2_is_refused(monkeypatch, version, refused):
    import numpy

    monkeypatch.setattr(numpy, "__version__", version)
    if not refused:
        return environment.check_numpy()
    with pytest.raises(UserError, match="numpy 2.0.0.*numpy==1.26.4"):
        environment.check_numpy()


def test_user_mistake_ends_with_one_sentence(tmp_path):
    (tmp_path / "numpy.py").write_text("__version__ = '2.1.0'")
    ended = run_python("import jittor_setup", tmp_path)
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1 and "numpy 2.1.0" in ended.stderr


@pytest.mark.parametrize("home, sentence", [
    ("my cache", "JITTOR_HOME: found ' '"), ("$(touch${IFS}X)", r"JITTOR_HOME: found '\$'"),
    ("file", "is no folder; name a folder of yours: JITTOR_HOME="),
    ("/proc/none", "/proc takes no files: No such file or directory; name a folder of yours")])
def test_impossible_cache_is_a_sentence(tmp_path, monkeypatch, home, sentence):
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    ended = run_python("import jittor_setup", JITTOR_HOME=home)
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1 and re.search(sentence, ended.stderr), ended.stderr
    assert os.listdir(tmp_path) == ["file"]


def test_numpy_of_another_python_names_pythonpath(tmp_path):
    (tmp_path / "numpy").mkdir()
    (tmp_path / "numpy" / "__init__.py").write_text("raise ImportError('Error importing numpy:\\n its C-extensions')")
    ended = run_python("import jittor_setup", tmp_path)
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1 and f"PYTHONPATH, which names {tmp_path}" in ended.stderr
    (tmp_path / "numpy" / "__init__.py").write_text("__version__ = '2.1.0'")
    ended = run_python("import jittor_setup", tmp_path)
    assert f"found numpy 2.1.0 in {tmp_path}" in ended.stderr and "`unset PYTHONPATH`" in ended.stderr


def test_a_gpu_that_is_not_there_is_a_sentence():
    """CUDA_VISIBLE_DEVICES hides what there may be."""
    ended = run_python("import jittor_setup", use_cuda="1", CUDA_VISIBLE_DEVICES="")
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1 and "use_cuda=1: found no GPU" in ended.stderr


@pytest.mark.parametrize("variables", [
    {"use_cuda": "0", "log_v": "", "log_silent": "", "cc_path": "", "nvcc_path": "", "JITTOR_HOME": ""},
    {"PYTHONOPTIMIZE": "1"}, {"PYTHONOPTIMIZE": "2"}], ids=lambda variables: " ".join(variables))
def test_jittor_computes_under_odd_variables(variables):
    ended = run_python("""
        import jittor_setup
        import jittor as jt
        print((jt.array([[1.0, 2.0]]) @ jt.array([[3.0], [4.0]])).numpy())
        """, CUDA_VISIBLE_DEVICES="", **variables)
    assert ended.stdout == "[[11.]]\n", ended.stderr


def test_without_semaphores_one_process_compiles(monkeypatch):
    assert environment.import_variables("", "", False)["DISABLE_MULTIPROCESSING"] == "0"

    def read_only(*arguments, **options):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(multiprocessing.synchronize._multiprocessing, "SemLock", read_only)
    assert environment.import_variables("", "", False)["DISABLE_MULTIPROCESSING"] == "1"


def test_importing_jittor_first_is_an_error(tmp_path):
    (tmp_path / "jittor.py").write_text("")
    ended = run_python("import jittor, jittor_setup", tmp_path)
    assert "before jittor_setup" in ended.stderr


def test_kernels_keep_nan_and_subnormal_numbers():
    import jittor as jt
    import numpy as np

    numbers = jt.array(np.array([np.nan, 1e-40, 1], np.float32))
    assert (numbers != numbers).numpy().tolist() == [True, False, False]
    assert (numbers * 0.5).numpy()[1] != 0
    assert np.float32(1e-40) * np.float32(0.5) != 0


@pytest.mark.slow
def test_kernels_are_compiled_by_no_thread():
    ended = run_python("""
        import os
        import jittor_setup
        import jittor as jt
        number = jt.array([1.0, 2.0])
        number.sync()
        before = len(os.listdir("/proc/self/task"))
        jt.sync([number.sin() + 1, number.cos() * 2, number.exp() - 3])
        assert len(os.listdir("/proc/self/task")) == before
        """, OMP_NUM_THREADS="1", use_parallel_op_compiler="16")
    assert ended.returncode == 0, ended.stderr


def test_onednn_is_linked_once_and_mended(tmp_path):
    assert environment.link_onednn(str(tmp_path))
    parent = tmp_path / ".cache" / "jittor" / "mkl"
    library = parent / environment.ONEDNN_FOLDER / "lib" / "libmkldnn.so"
    assert (library.parents[1] / "include" / "oneapi" / "dnnl" / "dnnl.hpp").is_file()
    library.unlink()
    library.symlink_to(tmp_path / "removed")
    assert environment.link_onednn(str(tmp_path)) and library.is_file()
    assert os.listdir(parent) == [environment.ONEDNN_FOLDER]


def test_missing_onednn_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "find_onednn", lambda: None)
    assert not environment.link_onednn(str(tmp_path))
    assert environment.import_variables("", "", False)["use_mkl"] == "0"


def fake_toolkit(folder, files):
    """Writes an nvcc that only names its toolkit's folder, and empty files beside it; returns nvcc's path."""
    for name in ["bin/nvcc", *files]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    nvcc = folder / "bin" / "nvcc"
    nvcc.write_text(f"#!/bin/sh\necho '#$ TOP={folder}/bin/..' >&2\n")
    nvcc.chmod(0o755)
    return nvcc


def test_bare_nvcc_is_no_toolkit(tmp_path, monkeypatch):
    monkeypatch.setenv("nvcc_path", str(fake_toolkit(tmp_path, cuda.TOOLKIT_FILES[:3])))
    nvcc, problem = cuda.find_nvcc()
    assert nvcc == "" and "libcudart.so" in problem and str(tmp_path) in problem


def test_nvcc_is_found_behind_a_wrapper(tmp_path, monkeypatch):
    nvcc = fake_toolkit(tmp_path / "cuda", cuda.TOOLKIT_FILES)
    wrapper = tmp_path / "nvcc"
    wrapper.write_text(f'#!/bin/sh\nexec {nvcc} "$@"\n')
    wrapper.chmod(0o755)
    for name in ("nvcc_path", "CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert cuda.find_nvcc() == (str(nvcc), None)


def test_no_driver_means_no_gpu(monkeypatch):
    def no_library(name):
        raise OSError(name)

    monkeypatch.setattr(cuda.ctypes, "CDLL", no_library)
    assert cuda.device_count() == 0


@pytest.fixture
def installed():
    """(version, folder) of the installed packages jittor and jittor_utils."""
    return environment.installed_jittor()


def patched_texts(package):
    return {name: Path(package, name).read_text(encoding="utf-8") for name, _ in cuda.CUDA_PATCHES}


def test_patching_twice_equals_once(installed, tmp_path):
    original = patched_texts(Path(installed[1]) / "jittor")
    for name, text in original.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    cuda.patch(tmp_path)
    once = patched_texts(tmp_path)
    assert all(once[name] != original[name] for name in original)
    cuda.patch(tmp_path)
    assert patched_texts(tmp_path) == once
    (tmp_path / "compiler.py").write_text("max_arch = 90\n")
    with pytest.raises(UserError, match="compiler.py.*jittor==1.3.11.0"):
        cuda.patch(tmp_path)


def test_copy_is_whole_or_absent(installed, tmp_path, monkeypatch):
    version, folder = installed
    before = patched_texts(Path(folder) / "jittor")

    def interrupted(package):
        raise KeyboardInterrupt

    with monkeypatch.context() as patches:
        patches.setattr(cuda, "patch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            cuda.patched_copy(folder, version, str(tmp_path))
    assert os.listdir(tmp_path) == []
    copy = cuda.patched_copy(folder, version, str(tmp_path))
    assert Path(copy, "jittor_utils", "__init__.py").is_file()
    monkeypatch.setattr(cuda, "patch", interrupted)
    assert cuda.patched_copy(folder, version, str(tmp_path)) == copy
    assert os.listdir(tmp_path) == [os.path.basename(copy)]
    assert patched_texts(Path(folder) / "jittor") == before


@pytest.mark.slow
def test_patched_sources_compile(installed, tmp_path):
    nvcc = shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
    toolkit = cuda.toolkit_of(nvcc)
    if not toolkit or not os.path.isfile(os.path.join(toolkit, "include", "cuda_runtime.h")):
        pytest.skip("no CUDA toolkit is here")
    package = Path(cuda.patched_copy(installed[1], installed[0], str(tmp_path)), "jittor")
    program = tmp_path / "patched.cu"
    program.write_text('#define IS_CUDA\n#include <cuda_runtime.h>\n'
                       '#include "helper_cuda.h"\n#include "misc/cuda_limits.h"\n'
                       "__global__ void limits(int* x) { x[0] = numeric_min<int>(); }\n"
                       "int device() { return gpuDeviceInit(gpuGetMaxGflopsDeviceId()); }\n")
    folders = [f"-I{package / 'extern' / 'cuda' / 'inc'}", f"-I{package / 'src'}"]
    compiled = subprocess.run([nvcc, "-std=c++17", "-c", *folders, program, "-o", tmp_path / "patched.o"],
                              capture_output=True, text=True)
    assert compiled.returncode == 0, compiled.stderr
