"""Imports Jittor so that it simply works: on a CPU, beside a bare nvcc, or on a GPU with CUDA 12 or 13; offline.

    import jittor_environment  # before anything imports jittor
    import jittor as jt

Jittor reads what it should do from environment variables while it is imported, compiles its core then, and changes the
process as it goes. This module decides those variables, keeps the compiled files inside the project
(``.cache/jittor/``, or ``$JITTOR_HOME`` where the user set it), and puts back what the import changed.
"""

import contextlib
import ctypes
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
import tempfile
import warnings

from common.errors import UserError

PROJECT_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ONEDNN_FOLDER = "dnnl_lnx_2.2.0_cpu_gomp"  # where Jittor looks before it downloads


def check_numpy():
    """Refuses numpy 2, under which Jittor 1.3.11 returns wrong arrays without an error.

    Raises:
        UserError: numpy is 2 or later.
    """
    import numpy

    if int(numpy.__version__.split(".")[0]) >= 2:
        raise UserError(f"found numpy {numpy.__version__} in {os.path.dirname(numpy.__file__)}; Jittor corrupts arrays "
                        "under numpy 2: run `bash scripts/setup.sh jittor`, or `pip install numpy==1.26.4`")


def check_compiler():
    """Makes sure that Jittor can compile its kernels.

    Raises:
        UserError: there is no C++ compiler, or Python's headers are missing; names the Debian package.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if not (3, 9) <= sys.version_info[:2] <= (3, 12):
        raise UserError(f"found Python {version}; Jittor 1.3.11 needs 3.9 to 3.12")
    compiler = os.environ.get("cc_path") or "g++"
    if not shutil.which(compiler):
        raise UserError(f"no C++ compiler `{compiler}` found; Jittor compiles its kernels: `apt-get install g++`")
    header = os.path.join(sysconfig.get_paths()["include"], "Python.h")
    if not os.path.isfile(header):
        raise UserError(f"no {header}; Jittor compiles against Python's headers: `apt-get install python{version}-dev`")


def processor():
    """Returns the processor's name and instruction sets: kernels are compiled with ``-march=native``."""
    found = {}
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "flags", "Features", "CPU part"):
                found.setdefault(key.strip(), value.strip())
    return repr(sorted(found.items())) if found else platform.processor() + platform.machine()


def jittor_home():
    """Returns the folder under which Jittor keeps ``.cache/jittor``: the user's JITTOR_HOME, or the project."""
    return os.path.abspath(os.environ.get("JITTOR_HOME") or PROJECT_ROOT)


def cache_name(nvcc_path):
    """Returns the name of the folder for compiled files, which tells apart what must not be shared.

    Jittor's own folders tell apart its version, the compiler's, Python's, CUDA's and the processor's model. Missing are
    the instruction sets, flags, and paths that are written into compiled files.
    """
    parts = [processor(), PROJECT_ROOT, sys.prefix, nvcc_path, KERNEL_FLAGS, os.environ.get("cc_flags", "")]
    return "project-" + hashlib.sha256("\n".join(parts).encode()).hexdigest()[:10]


def find_onednn():
    """Returns (include folder, path of libdnnl.so.2) of PyPI's onednn-cpu-gomp packages, or None."""
    for prefix in [sys.prefix, site.getuserbase(), *sys.path]:
        include, library = os.path.join(prefix, "include"), os.path.join(prefix, "lib", "libdnnl.so.2")
        if os.path.isfile(os.path.join(include, "dnnl.hpp")) and os.path.isfile(library):
            return include, library
    return None


def link_onednn(home):
    """Puts oneDNN where Jittor expects its own download; returns whether there is one."""
    folder = os.path.join(home, ".cache", "jittor", "mkl", ONEDNN_FOLDER)
    if os.path.isfile(os.path.join(folder, "lib", "libmkldnn.so")):
        return True
    found = find_onednn()
    if not found:
        return False
    include, library = found
    parent = os.path.dirname(folder)
    os.makedirs(parent, exist_ok=True)
    building = tempfile.mkdtemp(dir=parent, prefix=".building.")
    try:
        os.mkdir(os.path.join(building, "include"))
        os.mkdir(os.path.join(building, "lib"))
        for path in [os.path.join(include, "oneapi"), *glob.glob(os.path.join(glob.escape(include), "dnnl*"))]:
            os.symlink(path, os.path.join(building, "include", os.path.basename(path)))
        for name in ("libmkldnn.so", "libdnnl.so.2"):
            os.symlink(library, os.path.join(building, "lib", name))
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(building, folder)
    except OSError:
        if not os.path.isfile(os.path.join(folder, "lib", "libmkldnn.so")):  # else another process was faster
            raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return True


def environment(home, nvcc_path, has_onednn):
    """Returns the variables that Jittor shall see while it is imported."""
    fixed = {
        "HOME": home,  # Jittor keeps a config.json there that would redirect the user's other programs
        "JITTOR_HOME": home,
        "cache_name": "default",  # else the name of the git branch
        "nvcc_path": nvcc_path,
        "FIX_TORCH_ERROR": "0",  # else Jittor imports torch
        "use_cutt": "0",  # these three are downloads
        "use_cutlass": "0",
        "use_nccl": "0",
        "use_mpi": "0",
        "conv_opt": "1",  # leaves cuDNN out: Jittor wants version 8's libraries
        "gdb_path": "",
    }
    chosen = {"log_silent": "1", "use_mkl": "1" if has_onednn else "0"}
    return fixed | {name: os.environ.get(name, value) for name, value in chosen.items()}


@contextlib.contextmanager
def undo_side_effects(variables):
    """Sets the variables for the block's duration; puts back these and what importing Jittor changes for the process.

    That is: the environment, urllib's checking of TLS certificates, Python's recursion limit, and handlers of signals
    (Jittor's end the process at once on Ctrl-C, and whenever any child is killed). The stack's size limit stays
    raised, for Jittor walks its graphs recursively.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    handlers = {}
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        handlers[number] = ctypes.create_string_buffer(512)  # more than any platform's struct sigaction
        if libc.sigaction(int(number), None, handlers[number]) != 0:
            del handlers[number]
    environment_before = dict(os.environ)
    https_context = ssl._create_default_https_context
    recursion_limit = sys.getrecursionlimit()
    os.environ.update(variables)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            libc.sigaction(int(number), handler, None)
        for name in set(os.environ) - set(environment_before):
            del os.environ[name]
        os.environ.update(environment_before)
        ssl._create_default_https_context = https_context
        sys.setrecursionlimit(recursion_limit)


def load():
    """Imports Jittor, compiling its core first where no earlier run on this machine did; returns the module.

    Raises:
        UserError: something that Jittor needs is missing; the message says what to install.
    """
    if "jittor" in sys.modules:
        return sys.modules["jittor"]
    check_numpy()
    check_compiler()
    from importlib.metadata import version

    home = cache_folder(version("jittor"), None)
    os.makedirs(home, exist_ok=True)
    has_onednn = link_onednn(home)
    if not has_onednn:
        warnings.warn("oneDNN is not installed: Jittor's matrix products on the CPU will be about 15 times slower. "
                      "`pip install onednn-cpu-gomp==2022.2.1 onednn-devel-cpu-gomp==2022.2.1`", stacklevel=2)
    with undo_side_effects(environment(home, "", has_onednn)):
        import jittor_utils

        jittor_utils._py3_include_path = f'-I"{sysconfig.get_paths()["include"]}"'
        jittor_utils._py3_extension_suffix = sysconfig.get_config_var("EXT_SUFFIX")
        import jittor
    return jittor


load()
