"""CUDA for Jittor: whether this machine's can be used, and a copy of Jittor's sources that CUDA 12 and 13 compile."""

import ctypes
import hashlib
import inspect
import os
import re
import shutil
import subprocess
import sys
import tempfile

from common.errors import UserError

TOOLKIT_FILES = ("include/cuda_runtime.h", "include/cublas_v2.h", "include/curand.h",
                 "lib64/libcudart.so", "lib64/libcublas.so", "lib64/libcurand.so")


def device_count():
    """Returns how many GPUs the driver offers this process: 0 without a driver or with CUDA_VISIBLE_DEVICES=""."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def toolkit_of(nvcc):
    """Returns the toolkit's folder as nvcc itself names it, so that wrappers and links do not matter; or None."""
    try:
        dry_run = subprocess.run([nvcc, "--dryrun", "-E", "-x", "cu", os.devnull], capture_output=True, text=True)
    except OSError:
        return None
    found = re.search(r"^#\$ TOP=(.+)$", dry_run.stderr, re.MULTILINE)
    return os.path.realpath(found.group(1)) if found else None


def find_nvcc():
    """Returns (path of an nvcc whose toolkit is complete, None), or ("", what was found instead)."""
    if "nvcc_path" in os.environ:
        candidates = [os.environ["nvcc_path"]]
    else:
        homes = [os.environ[name] for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
        candidates = [os.path.join(home, "bin", "nvcc") for home in [*homes, "/usr/local/cuda"]]
        candidates.insert(len(homes), shutil.which("nvcc"))
    problems = ["no nvcc"]
    for nvcc in filter(None, candidates):
        toolkit = toolkit_of(nvcc)
        if toolkit is None:
            continue
        missing = [name for name in TOOLKIT_FILES if not os.path.exists(os.path.join(toolkit, name))]
        if not missing and os.access(os.path.join(toolkit, "bin", "nvcc"), os.X_OK):
            return os.path.join(toolkit, "bin", "nvcc"), None
        problems.append(f"a toolkit in {toolkit} without {', '.join(missing) or 'bin/nvcc'}")
    return "", problems[-1]


def device_attribute(name, device):
    """Returns a C++ expression for what CUDA 13 removed from cudaDeviceProp."""
    return f"([&] {{ int value = 0; cudaDeviceGetAttribute(&value, {name}, {device}); return value; }}())"


# Each entry: a file of Jittor 1.3.11 and what to replace in it. No replacement contains its own pattern, so that
# patching twice equals patching once. The results compile with CUDA 12 and 13.
CUDA_PATCHES = (
    # gone from cudaDeviceProp in CUDA 13
    ("extern/cuda/inc/helper_cuda.h", (
        ("deviceProp.computeMode == cuda", device_attribute("cudaDevAttrComputeMode", "devID") + " == cuda"),
        ("deviceProp.computeMode != cuda", device_attribute("cudaDevAttrComputeMode", "current_device") + " != cuda"),
        ("deviceProp.clockRate", device_attribute("cudaDevAttrClockRate", "current_device")),
    )),
    # CUB 3 needs C++17; and newer GPUs than sm_90 would get code that they cannot run
    ("compiler.py", (
        ('nvcc_flags.replace("-std=c++17", "-std=c++14 -Xcompiler -std:c++14")',
         'nvcc_flags.replace("-std=c++14", "-std=c++17")'),
        ("max_arch = 90\n", "max_arch = 121\n"),
    )),
    # gone from CUB 3
    ("other/code_softmax.py", (
        ("auto tmp = BlockReduce(temp_storage).Reduce(v1, cub::Max());",
         "struct Maximum {{ __device__ float operator()(float a, float b) const {{ return ::max(a, b); }} }};\n"
         "    auto tmp = BlockReduce(temp_storage).Reduce(v1, Maximum());"),
    )),
    ("extern/cuda/cub/ops/cub_where_op.cc", (
        ("cub::CountingInputIterator<To> counting_itr(0);", "thrust::counting_iterator<To> counting_itr(0);"),
        ("cub::TransformInputIterator<bool, NonZeroOp<Ti>, Ti*> itr(",
         "thrust::transform_iterator<NonZeroOp<Ti>, Ti*> itr("),
        ("#include <thrust/transform.h>",
         "#include <thrust/iterator/counting_iterator.h>\n#include <thrust/iterator/transform_iterator.h>"),
    )),
    # A thread that compiles kernels could wake up by itself and repeat its last work, and could read a variable of the
    # caller's after its return; the graph's own races are in jittor_compiler.py
    ("src/parallel_compiler.cc", (
        ("    std::condition_variable cv;\n    std::thread thread;",
         "    std::condition_variable cv;\n    bool launched = false;\n    std::thread thread;"),
        ("            if (func)\n                func(id);\n            while (true) {\n"
         "                cv.wait(lck);\n",
         "            while (true) {\n                cv.wait(lck, [&] { return launched; });\n"
         "                launched = false;\n"),
        ("        this->func = func;\n        cv.notify_all();",
         "        this->func = func;\n        launched = true;\n        cv.notify_all();"),
        ("        std::cerr << std::endl;\n    Var::number_of_lived_vars",
         "        std::cerr << std::endl;\n    threads.wait_all();\n    Var::number_of_lived_vars"),
    )),
    # NPP is a library of its own, and only these limits are taken from it
    ("src/misc/cuda_limits.h", (
        ("#include <npp.h>\n", "#include <climits>\n" + "".join(
            f"#define NPP_{name} {value}\n" for name, value in (
                ("MIN_32U", "0U"), ("MAX_32U", "UINT_MAX"), ("MIN_32S", "INT_MIN"), ("MAX_32S", "INT_MAX"),
                ("MIN_64U", "0ULL"), ("MAX_64U", "ULLONG_MAX"), ("MIN_64S", "LLONG_MIN"), ("MAX_64S", "LLONG_MAX")))),
    )),
)


def patch(package):
    """Changes the sources of the Jittor package in the folder ``package`` for CUDA 12 and 13; twice equals once.

    Raises:
        UserError: a file holds neither the old text nor the new one: it is another version of Jittor.
    """
    for name, replacements in CUDA_PATCHES:
        path = os.path.join(package, name)
        with open(path, encoding="utf-8") as file:
            text = file.read()
        for old, new in replacements:
            if old not in text and new not in text:
                raise UserError(f"{path}: found no {old.strip()!r}: the patches for CUDA are for Jittor 1.3.11; "
                                "run `bash scripts/setup.sh jittor`, or `pip install jittor==1.3.11.0`")
            text = text.replace(old, new)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)


def patched_copy(installed, version, folder):
    """Returns a folder under ``folder`` with a copy of Jittor whose sources CUDA 12 and 13 compile, made when missing.

    Args:
        installed: the folder that holds the packages ``jittor`` and ``jittor_utils``; it stays as it is.
        version: Jittor's version.
        folder: where the copy goes; it takes its name only when it is complete.
    """
    key = hashlib.sha256(inspect.getsource(sys.modules[__name__]).encode()).hexdigest()[:8]
    copy = os.path.join(folder, f"jittor-{version}-cuda-{key}")
    if os.path.isdir(copy):
        return copy
    os.makedirs(folder, exist_ok=True)
    building = tempfile.mkdtemp(dir=folder, prefix=".building.")
    try:
        for package in ("jittor", "jittor_utils"):
            shutil.copytree(os.path.join(installed, package), os.path.join(building, package),
                            ignore=shutil.ignore_patterns("__pycache__"))
        patch(os.path.join(building, "jittor"))
        os.chmod(building, 0o755)
        os.rename(building, copy)
    except OSError:
        if not os.path.isdir(copy):  # else another process was faster
            raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return copy
