"""Imports Jittor so that it simply works: on a CPU, beside a bare nvcc, or on a GPU with CUDA 12 or 13; offline.

    import jittor_setup  # before anything imports jittor
    import jittor as jt

Jittor reads what it should do from environment variables while it is imported, compiles its core then, and changes the
process as it goes. This module decides those variables, keeps the compiled files inside the project (under
``.cache/jittor/``, or where the user's JITTOR_HOME says), and puts back what the import changed.
"""

from jittor_setup import cache, compiler, cuda

import atexit
import contextlib
import ctypes
import faulthandler
import fcntl
import glob
import multiprocessing
import os
import shutil
import signal
import site
import ssl
import sys
import sysconfig
import warnings
from importlib import metadata

from tqdm import tqdm

from common.cpp_compiler import cache_folder, cache_home, check_cpp_compiler, check_folders, check_path
from common.errors import UserError, note
from common.run.launching import place

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


def numpy_remedy():
    """Returns what to do about a numpy that does not fit."""
    for entry in filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)):
        if any(os.path.exists(os.path.join(entry, name)) for name in ("numpy", "numpy.py")):
            return f"it comes from PYTHONPATH, which names {entry}, packages of another Python: `unset PYTHONPATH`"
    return "run `bash scripts/setup.sh jittor`, or `pip install numpy==1.26.4`"


def check_numpy():
    """Refuses numpy 2, under which Jittor 1.3.11 returns wrong arrays without an error, and one of another Python.

    Raises:
        UserError: numpy is 2 or later, or cannot be imported.
    """
    try:
        import numpy
    except ImportError as error:
        raise UserError(f"numpy cannot be imported ({str(error).strip().splitlines()[-1]}); "
                        f"{numpy_remedy()}") from error
    if int(numpy.__version__.split(".")[0]) >= 2:
        raise UserError(f"found numpy {numpy.__version__} in {os.path.dirname(numpy.__file__)}; Jittor corrupts arrays "
                        f"under numpy 2: {numpy_remedy()}")


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


def has_semaphores():
    """Tells whether processes can share semaphores, for which Linux needs /dev/shm; some containers lack it."""
    try:
        multiprocessing.Lock()
    except OSError:
        return False
    return True


def import_variables(home, nvcc, has_onednn):
    """Returns the variables that Jittor shall see while it is imported; None stands for none."""
    return {
        "HOME": home,  # Jittor keeps a config.json there that would redirect the user's other programs
        "JITTOR_HOME": home,
        "cache_name": cache.name(nvcc),
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
        "DISABLE_MULTIPROCESSING": os.environ.get("DISABLE_MULTIPROCESSING", "0") if has_semaphores() else "1",
        "use_cuda": None,  # --device decides, once it is known what there is; without a GPU, 1 would end the process
        "cc_path": os.environ.get("cc_path") or None,
        "log_v": compiler.whole_number("log_v", "0"),
        "log_silent": compiler.whole_number("log_silent", "1"),
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


def import_quietly(variables):
    """Imports Jittor under the given variables; says so when it must compile its core first."""
    if not any(map(cache.has_core, cache.folders_of(variables["cache_name"]))):
        print("Jittor compiles its core for this machine, once, which takes minutes (kept in "
              f"{cache_folder()})", file=sys.stderr, flush=True)
        if not has_semaphores():
            note("/dev/shm cannot be used: one process compiles at a time, which takes longer; in a container try "
                 "--ipc=host or --shm-size=1g")
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


def usable_nvcc():
    """Returns the path of the nvcc that Jittor shall use, or "" for the CPU; warns where a GPU stays unused.

    Raises:
        UserError: Jittor cannot compile with its path, or Jittor's variable use_cuda asks for a GPU that is not there.
    """
    nvcc, problem = cuda.find_nvcc() if cuda.device_count() else ("", None)
    check_path("the CUDA compiler", nvcc)
    if not nvcc and os.environ.get("use_cuda", "0") not in ("", "0"):
        raise UserError(f"use_cuda={os.environ['use_cuda']}: found {problem or 'no GPU'}; unset use_cuda, for the "
                        "programs take a GPU where there is one (--device auto), or check nvidia-smi and nvcc")
    if problem:
        warnings.warn(f"there is a GPU, but Jittor will use the CPU: found {problem}; install NVIDIA's CUDA toolkit "
                      "12 or 13, or name its compiler: nvcc_path=/usr/local/cuda/bin/nvcc", stacklevel=3)
    return nvcc


def share_machine():
    """Gives each of several processes that were started together its own GPU and its share of the processor's cores.

    Jittor takes the first GPU that CUDA shows it. On a processor each would start a thread for every core.
    """
    here = place()
    if here.local_count == 1:
        return
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = [str(number) for number in range(here.local_count)] if shown is None else shown.split(",")
    os.environ["CUDA_VISIBLE_DEVICES"] = gpus[here.local_rank] if here.local_rank < len(gpus) else ""
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // here.local_count)))


def load():
    """Imports Jittor, compiling its core first where no earlier run on this machine did; returns the module.

    Raises:
        UserError: something that Jittor needs is missing, or the disk is full; the message says what to do.
    """
    if "jittor" in sys.modules:
        raise ImportError("jittor was imported before jittor_setup, which decides its environment")
    share_machine()
    version, installed = installed_jittor()
    check_numpy()
    check_cpp_compiler()
    check_folders()
    check_path("the folder of packages", installed)
    check_path("the interpreter", sys.executable)
    home = cache_home()
    nvcc = usable_nvcc()
    cache.check_can_be_written(cache.name(nvcc))
    cache.remove_damaged(cache.name(nvcc))
    with cache.explaining_what_is_not_written():
        has_onednn = link_onednn(home)
        if not has_onednn:
            warnings.warn("oneDNN is missing: Jittor's matrix products on a CPU will be about 15 times slower; "
                          "`pip install onednn-cpu-gomp==2022.2.1 onednn-devel-cpu-gomp==2022.2.1`", stacklevel=2)
        packages = cuda.patched_copy(installed, version, cache_folder()) if nvcc else installed
        sys.path.insert(0, packages)
        try:
            jittor = import_quietly(import_variables(home, nvcc, has_onednn))
        finally:
            sys.path.remove(packages)
        compiler.set_kernel_compiler(jittor)
    if not faulthandler.is_enabled():
        faulthandler.enable(2)  # a crash in a kernel shows where Python was, in place of Jittor's own report
    return jittor
