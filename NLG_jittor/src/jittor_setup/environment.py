"""Imports Jittor so that it simply works: on a CPU, beside a bare nvcc, or on a GPU with CUDA 12 or 13; offline.

    import jittor_setup  # before anything imports jittor
    import jittor as jt

Jittor reads what it should do from environment variables while it is imported, compiles its core then, and changes the
process as it goes. This module decides those variables, keeps the compiled files inside the project (under
``.cache/jittor/``, or where the user's JITTOR_HOME says), and puts back what the import changed.
"""

from jittor_setup import compiler, cuda

import atexit
import contextlib
import ctypes
import faulthandler
import fcntl
import glob
import hashlib
import os
import platform
import shutil
import signal
import site
import ssl
import sys
import sysconfig
import warnings
from importlib import metadata

from tqdm import tqdm

from common.cpp_compiler import check_cpp_compiler
from common.errors import UserError
from common.paths import ROOT

ONEDNN_FOLDER = "dnnl_lnx_2.2.0_cpu_gomp"  # where Jittor looks before it downloads


class Progress:
    """Progress bar in place of Jittor's own, which log_silent silences; shown when compiling takes longer than 2 s."""

    def __init__(self, message, total):
        interval = 0.1 if sys.stderr.isatty() else 10
        self.bar = tqdm(total=total, desc=message, unit="file", delay=2, mininterval=interval, file=sys.stderr)

    def update(self, index):
        self.bar.update(index + 1 - self.bar.n)
        if self.bar.n == self.bar.total:
            self.bar.close()


def check_numpy():
    """Refuses numpy 2, under which Jittor 1.3.11 returns wrong arrays without an error.

    Raises:
        UserError: numpy is 2 or later.
    """
    import numpy

    if int(numpy.__version__.split(".")[0]) >= 2:
        raise UserError(f"found numpy {numpy.__version__} in {os.path.dirname(numpy.__file__)}; Jittor corrupts arrays "
                        "under numpy 2: run `bash scripts/setup.sh jittor`, or `pip install numpy==1.26.4`")


def installed_jittor():
    """Returns (version, folder of the packages jittor and jittor_utils) without importing them.

    Raises:
        UserError: Jittor is not installed.
    """
    try:
        package = metadata.distribution("jittor")
    except metadata.PackageNotFoundError:
        raise UserError(f"found no Jittor for {sys.executable}; run `bash scripts/setup.sh jittor` and use "
                        ".venv_jittor/bin/python") from None
    return package.version, os.path.abspath(package.locate_file(""))


def jittor_home():
    """Returns the folder under which Jittor keeps ``.cache/jittor``: the user's JITTOR_HOME, or the project."""
    return os.path.abspath(os.environ.get("JITTOR_HOME") or str(ROOT))


def processor():
    """Returns the processor's name and instruction sets as one string: kernels are compiled for this machine's."""
    found = {}
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "flags", "Features", "CPU part"):
                found.setdefault(key.strip(), value.strip())
    return repr(sorted(found.items())) or platform.processor()


def cache_name(nvcc):
    """Returns the name of the folder for compiled files, which tells apart what must not be shared.

    Jittor's own folders tell apart its version, the compiler's, Python's, CUDA's and the processor's model, not the
    instruction sets, the flags, and the paths that are written into compiled files.
    """
    parts = [processor(), str(ROOT), sys.prefix, nvcc, compiler.KERNEL_FLAGS, compiler.KERNEL_HEADER,
             str(compiler.CUDA_FAST_MATH),
             *(os.environ.get(name, "") for name in ("cc_flags", "nvcc_flags", "kernel_flags"))]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:10]


def find_onednn():
    """Returns (include folder, path of libdnnl.so.2) of PyPI's onednn-cpu-gomp packages, or None."""
    for prefix in [sys.prefix, site.getuserbase(), *sys.path]:
        include, library = os.path.join(prefix, "include"), os.path.join(prefix, "lib", "libdnnl.so.2")
        if os.path.isfile(os.path.join(include, "dnnl.hpp")) and os.path.isfile(library):
            return include, library
    return None


def link_onednn(home):
    """Puts oneDNN where Jittor expects its own download; returns whether there is one."""
    parent = os.path.join(home, ".cache", "jittor", "mkl")
    folder = os.path.join(parent, ONEDNN_FOLDER)
    os.makedirs(parent, exist_ok=True)
    lock = os.open(parent, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.isfile(os.path.join(folder, "lib", "libmkldnn.so")):
            return True
        found = find_onednn()
        if not found:
            return False
        include, library = found
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(os.path.join(folder, "include"))
        for path in [os.path.join(include, "oneapi"), *glob.glob(os.path.join(glob.escape(include), "dnnl*"))]:
            os.symlink(path, os.path.join(folder, "include", os.path.basename(path)))
        os.mkdir(os.path.join(folder, "lib"))
        for name in ("libdnnl.so.2", "libmkldnn.so"):  # the last one is what tells that all is there
            os.symlink(library, os.path.join(folder, "lib", name))
        return True
    finally:
        os.close(lock)


def import_variables(home, nvcc, has_onednn):
    """Returns the variables that Jittor shall see while it is imported; None stands for none."""
    return {
        "HOME": home,  # Jittor keeps a config.json there that would redirect the user's other programs
        "JITTOR_HOME": home,
        "cache_name": cache_name(nvcc),
        "nvcc_path": nvcc,
        "use_mkl": os.environ.get("use_mkl", "1") if has_onednn else "0",
        "FIX_TORCH_ERROR": "0",  # else Jittor imports torch
        "use_cutt": "0",  # this one and the next two would be downloads
        "use_cutlass": "0",
        "use_nccl": "0",
        "use_mpi": "0",
        "OMPI_COMM_WORLD_SIZE": None,
        "conv_opt": "1",  # leaves cuDNN out, of which Jittor wants version 8
        "gdb_path": "",
        "log_silent": os.environ.get("log_silent", "1"),
    }


@contextlib.contextmanager
def undo_side_effects(variables):
    """Sets variables for the block; then puts back these and what importing Jittor changes for the whole process.

    That is: the environment, urllib's checking of TLS certificates, Python's recursion limit, and the handlers of
    signals (Jittor's end the process at once on Ctrl-C, and whenever any child is killed). The limit of the stack
    stays raised, for Jittor walks its graphs recursively.
    """
    libc = ctypes.CDLL(None)
    handlers = {}
    for number in map(int, signal.valid_signals()):
        handler = ctypes.create_string_buffer(512)  # larger than any struct sigaction
        if libc.sigaction(number, None, handler) == 0:
            handlers[number] = handler
    before = dict(os.environ)
    https_context = ssl._create_default_https_context
    recursion_limit = sys.getrecursionlimit()
    for name, value in variables.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    try:
        yield
    finally:
        for number, handler in handlers.items():
            libc.sigaction(number, handler, None)
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)
        ssl._create_default_https_context = https_context
        sys.setrecursionlimit(recursion_limit)


def import_quietly(home, variables):
    """Imports Jittor under the given variables; says so when it must compile its core first."""
    pattern = os.path.join(glob.escape(home), ".cache", "jittor", "jt*", *["*"] * 5, variables["cache_name"])
    if not any(glob.glob(os.path.join(pattern, *folders, "jittor_core*.so")) for folders in ([], ["cu*"])):
        print(f"Jittor compiles its core for this machine, once, which takes minutes (kept in {home}/.cache/jittor)",
              file=sys.stderr, flush=True)
    with undo_side_effects(variables):
        import jittor_utils

        jittor_utils.DelayProgress = Progress
        # Jittor asks python3-config, which virtual environments lack
        jittor_utils._py3_include_path = f'-I"{sysconfig.get_paths()["include"]}"'
        jittor_utils._py3_extension_suffix = sysconfig.get_config_var("EXT_SUFFIX")
        cupy = sys.modules.get("cupy")
        sys.modules["cupy"] = None  # where it is installed, Jittor would import it
        try:
            import jittor
        except SystemExit:
            raise UserError("Jittor has replaced an outdated file in its cache; run the command again") from None
        finally:
            del sys.modules["cupy"]
            if cupy is not None:
                sys.modules["cupy"] = cupy
        if jittor_utils.pool_size:
            # Jittor's compiling processes would outlive a killed program, and hold its pipes open
            jittor_utils.pool_cleanup()
            jittor_utils.pool_size = 0
            atexit.unregister(jittor_utils.pool_cleanup)
    return jittor


def load():
    """Imports Jittor, compiling its core first where no earlier run on this machine did; returns the module.

    Raises:
        UserError: something that Jittor needs is missing; the message says what to install.
    """
    if "jittor" in sys.modules:
        raise ImportError("jittor was imported before jittor_setup, which decides its environment")
    version, installed = installed_jittor()
    check_numpy()
    check_cpp_compiler()
    home = jittor_home()
    for path in (installed, home, sys.executable):
        if set(path) & set(" \t\"'"):
            raise UserError(f"found a space or a quote in {path!r}; Jittor cannot compile there: move the project, "
                            "or the folder that JITTOR_HOME names")
    cache = os.path.join(home, ".cache", "jittor")
    try:
        os.makedirs(cache, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot keep compiled files in {cache}: {error.strerror}; name a folder of yours: "
                        "JITTOR_HOME=/path/to/folder") from error
    nvcc, problem = cuda.find_nvcc() if cuda.device_count() else ("", None)
    if problem:
        warnings.warn(f"there is a GPU, but Jittor will use the CPU: found {problem}; install NVIDIA's CUDA toolkit "
                      "12 or 13, or name its compiler: nvcc_path=/usr/local/cuda/bin/nvcc", stacklevel=2)
    has_onednn = link_onednn(home)
    if not has_onednn:
        warnings.warn("oneDNN is missing: Jittor's matrix products on a CPU will be about 15 times slower; "
                      "`pip install onednn-cpu-gomp==2022.2.1 onednn-devel-cpu-gomp==2022.2.1`", stacklevel=2)
    packages = cuda.patched_copy(installed, version, cache) if nvcc else installed
    sys.path.insert(0, packages)
    try:
        jittor = import_quietly(home, import_variables(home, nvcc, has_onednn))
    finally:
        sys.path.remove(packages)
    compiler.set_kernel_compiler(jittor)
    if not faulthandler.is_enabled():
        faulthandler.enable(2)  # a crash in a kernel shows where Python was, in place of Jittor's own report
    return jittor
