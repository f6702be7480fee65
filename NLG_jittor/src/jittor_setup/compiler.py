"""How Jittor compiles kernels: with other flags than its own, and on a processor one at a time and with a precompiled
header."""

import contextlib
import fcntl
import glob
import os
import shlex
import subprocess
import sys

from common.errors import note
from common.unfinished import written_whole

# Jittor compiles kernels with -Ofast, under which `x != x` is false for NaN and every loaded kernel makes the processor
# flush subnormal numbers to zero, numpy's too. These flags let sums be reordered all the same; __FAST_MATH__ is what
# glibc's headers ask for before they offer vectorised exp and tanh, without which GELU is 50 times slower.
KERNEL_FLAGS = ("-O3 -fno-math-errno -fno-trapping-math -fassociative-math -fno-signed-zeros -freciprocal-math "
                "-D__FAST_MATH__")
# Jittor's --use_fast_math computes tanh to 11 bits
CUDA_FAST_MATH = False

# What every kernel includes; compiled once ahead, it makes compiling a kernel three times as fast.
KERNEL_HEADER = """#define JIT 1
#define JIT_cpu 1
#include <cmath>
#include "misc/cpu_math.h"
#include "var.h"
#include "ops/op_register.h"
#include <assert.h>
#include "fused_op.h"
"""


def whole_number(name, default):
    """Returns an environment variable of Jittor's as text, or the default where it is no whole number."""
    value = os.environ.get(name, "")
    return value if value.isdecimal() else default


def write_whole(path, text, bits):
    """Writes a file with these permissions so that another process sees all of it or nothing, unless it is there."""
    with contextlib.suppress(OSError), open(path, encoding="utf-8") as file:
        if file.read() == text:
            return
    with written_whole(path, "w", bits=bits, encoding="utf-8") as file:
        file.write(text)


def compile_kernel_header(folder, compiler, flags):
    """Precompiles KERNEL_HEADER in a folder with the flags of kernels; returns the path to include.

    Its size is kept beside it, for no kernel compiles with a precompiled header that was cut off. One process at a time
    is in here. The compiler holds the lock too: it lives on for a while where its parent is killed.
    """
    header = os.path.join(folder, "kernel_header.h")
    precompiled, key, unfinished = header + ".gch", header + ".gch.key", header + ".unfinished"
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in glob.glob(glob.escape(header) + ".[0-9]*"):  # by earlier versions, 56 MB each
            os.unlink(left)
        with contextlib.suppress(OSError), open(key, encoding="utf-8") as file:
            if file.read() == str(os.path.getsize(precompiled)):
                return header
            note(f"{precompiled} was cut off and is compiled anew")
        write_whole(header, KERNEL_HEADER, 0o644)
        words = [word for word in shlex.split(flags) if word != "-shared" and not word.startswith(("-l", "-L", "-Wl,"))]
        compiled = subprocess.run([compiler, *words, "-x", "c++-header", header, "-o", unfinished],
                                  capture_output=True, pass_fds=[lock])
        if compiled.returncode == 0:  # else kernels include the header as text
            size = os.path.getsize(unfinished)
            os.replace(unfinished, precompiled)
            write_whole(key, str(size), 0o644)
    finally:
        os.close(lock)
    return header


def set_kernel_compiler(jittor):
    """Makes Jittor compile kernels with this module's flags and precompiled header, and without its asm_tuner.

    Jittor starts a Python for each kernel, which imports jittor_utils in the user's environment (reading and writing
    the configuration in the home folder) and rewrites the compiler's output for an option that nothing here uses.
    """
    flags = jittor.flags
    flags.cc_flags = flags.cc_flags.replace("-Ofast", KERNEL_FLAGS)
    if not CUDA_FAST_MATH:
        flags.nvcc_flags = flags.nvcc_flags.replace("--use_fast_math", "")
    header = compile_kernel_header(flags.cache_path, flags.cc_path, flags.cc_flags)
    script = os.path.join(flags.cache_path, "python_for_kernels")
    write_whole(script, f"""#!/bin/sh
case "$1" in
*/asm_tuner.py)
    compiler=${{2#--cc_path=}}
    shift 2
    exec "$compiler" "$@" -include {shlex.quote(header)} ;;
esac
exec {shlex.quote(sys.executable)} "$@"
""", 0o755)
    flags.python_path = script
    flags.log_silent = int(whole_number("log_silent", "0"))
    compile_alone(jittor, use_cuda=False)


def compile_alone(jittor, use_cuda):
    """Makes Jittor compile one kernel at a time, except for a GPU.

    Jittor would compile the kernels of a step in up to 16 threads. For each matrix product or convolution a thread adds
    to the graph the operator that calls oneDNN or cuBLAS, and takes it out again. All of them do so through global
    lists (of nodes to free, and of nodes to visit with the function to call there) that no lock guards. Two at once
    corrupt the heap or call a null pointer. On a GPU the products here are calls of cuBLAS from the start, nothing is
    put in their place, and nvcc needs ten seconds for a kernel.
    """
    jittor.flags.use_parallel_op_compiler = 16 if use_cuda else 0
