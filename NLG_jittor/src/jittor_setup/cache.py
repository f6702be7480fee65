"""Jittor's folder of compiled files: what it must not share, who may write there, and whether its files are whole."""

from jittor_setup import compiler

import contextlib
import fcntl
import glob
import hashlib
import os
import platform
import shutil
import sys

from common.cpp_compiler import cache_folder, refuse_cache
from common.errors import FULL_DISK, UserError, note, sentence_of
from common.paths import ROOT, what_cannot_be_written

COMPILERS_ROOM = 64 << 20  # bytes; the largest file that it writes has 56 MB


def processor():
    """Returns the processor's name and instruction sets as one string: kernels are compiled for this machine's."""
    found = {}
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "flags", "Features", "CPU part"):
                found.setdefault(key.strip(), value.strip())
    return repr(sorted(found.items())) or platform.processor()


def name(nvcc):
    """Returns the name of the folder for compiled files, which tells apart what must not be shared.

    Jittor's own folders tell apart its version, the compiler's, Python's, CUDA's and the processor's model, not the
    instruction sets, the flags, and the paths that are written into compiled files.
    """
    parts = [processor(), str(ROOT), sys.prefix, nvcc, compiler.KERNEL_FLAGS, compiler.KERNEL_HEADER,
             str(compiler.CUDA_FAST_MATH),
             *(os.environ.get(name, "") for name in ("cc_flags", "nvcc_flags", "kernel_flags"))]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:10]


def folders_of(cache_name):
    """Returns the folders of this name that earlier runs made, below those of versions and machines."""
    return glob.glob(os.path.join(glob.escape(cache_folder()), "jt*", *["*"] * 5, cache_name))


def has_core(folder):
    """Tells whether Jittor's core is in a folder of compiled files, or in one for CUDA inside it."""
    return any(glob.glob(os.path.join(glob.escape(folder), *inside, "jittor_core*.so")) for inside in ([], ["cu*"]))


def lock_of(folder):
    """Returns the path of Jittor's lock on a folder of compiled files."""
    return os.path.join(os.path.dirname(folder), "jittor.lock")


def check_can_be_written(cache_name):
    """Makes the folder of compiled files and checks that this user can write what earlier runs made in it.

    Raises:
        UserError: they are another user's; the message says how to name others.
    """
    try:
        os.makedirs(cache_folder(), exist_ok=True)
    except OSError as error:
        refuse_cache(sentence_of(error))
    for folder in folders_of(cache_name):
        for path in (os.path.dirname(folder), *(inside for inside, _, _ in os.walk(folder))):
            refuse_cache(what_cannot_be_written(path))
        if os.path.exists(lock_of(folder)) and not os.access(lock_of(folder), os.W_OK):
            refuse_cache(f"{lock_of(folder)} cannot be written")


@contextlib.contextmanager
def explaining_what_is_not_written():
    """Says in a sentence why files are not written: they are another user's, or the disk is full.

    check_can_be_written() looks at folders alone. Where the compiler fails, Jittor tells no more than that.

    Raises:
        UserError: in place of what Python or Jittor raises.
    """
    try:
        yield
    except PermissionError as error:
        refuse_cache(error.filename and sentence_of(error))
        raise
    except (OSError, RuntimeError) as error:
        for folder in (cache_folder(), os.environ.get("TMPDIR") or "/tmp"):
            free = shutil.disk_usage(folder).free if os.path.isdir(folder) else COMPILERS_ROOM
            if free < COMPILERS_ROOM:
                raise UserError(f"Jittor could not compile: the disk of {folder} is full, {free >> 20} MiB are left; "
                                "make room, then run it again", FULL_DISK) from error
        raise


def is_whole(path):
    """Tells whether an object file or library of 64-bit ELF reaches to the end of its section headers, its last part.

    One that was cut off, by a full disk or a crash, ends the process with SIGBUS when it is loaded.
    """
    with open(path, "rb") as file:
        header = file.read(64)
    offset, size, count = (int.from_bytes(header[start:end], sys.byteorder)
                           for start, end in ((40, 48), (58, 60), (60, 62)))
    return header[:4] == b"\x7fELF" and os.path.getsize(path) >= max(64, offset + size * count)


def key_of(path):
    """Returns the path of what Jittor writes once a compiled file is complete."""
    return path.removesuffix(".o") + ".md5" if os.path.basename(path) == "data.o" else path + ".key"


def damaged_files(folder):
    """Returns the paths of compiled files in a folder that were cut off; those that are being written have no key."""
    paths = (os.path.join(inside, each) for inside, _, names in os.walk(folder) for each in names)
    return [path for path in paths if path.endswith((".so", ".o")) and os.path.exists(key_of(path))
            and not is_whole(path)]


@contextlib.contextmanager
def locked(folder):
    """Holds Jittor's lock on a folder of compiled files: flock where it compiles its core, lockf where kernels."""
    with open(lock_of(folder), "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        fcntl.lockf(file, fcntl.LOCK_EX)
        yield


def remove_damaged(cache_name):
    """Removes compiled files that were cut off, with their keys, so that Jittor compiles them anew; and says so."""
    for folder in folders_of(cache_name):
        if not damaged_files(folder):
            continue
        with locked(folder):
            for path in damaged_files(folder):
                note(f"{path} was cut off and is compiled anew")
                os.unlink(path)
                os.unlink(key_of(path))
