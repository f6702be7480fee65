"""Where the program runs: the device, its seeds and precision, and the border between numpy and Jittor."""

from jittor_setup.compiler import compile_alone

import ctypes
import os
import resource

import jittor as jt
import numpy as np

from common.errors import UserError
from common.run import processes

FRAMEWORK = "jittor"
_precision = "fp32"


def set_up(device, random_seed, precision):
    """Chooses the device and the precision of products, and seeds the generators.

    Args:
        device: ``auto`` (a GPU where there is one), ``cpu`` or ``cuda``.
        random_seed: for LoRA's dropout.
        precision: one of common.precisions.

    Raises:
        UserError: ``cuda`` was asked for and there is none, or ``tf32`` on a CPU.
    """
    global _precision
    if device == "cuda" and not jt.has_cuda:
        raise UserError("--device cuda: Jittor sees no GPU with a CUDA toolkit beside it; check nvidia-smi and nvcc "
                        "--version, or use --device cpu")
    use_cuda = device != "cpu" and bool(jt.has_cuda)
    processes.check_devices(use_cuda)
    if precision == "tf32" and not use_cuda:
        raise UserError("--tf32: a CPU has no tf32 products; leave the flag out for fp32, or use --device cuda")
    _precision = precision
    jt.flags.use_cuda = int(use_cuda)
    compile_alone(jt, use_cuda)
    jt.flags.auto_convert_64_to_32 = int(precision != "fp64")
    jt.flags.use_tensorcore = int(precision not in ("fp32", "fp64"))  # for what remains of Jittor's own products
    seed(random_seed)


def on_gpu():
    """Returns whether the chosen device is a GPU."""
    return bool(jt.flags.use_cuda)


def precision():
    """Returns the precision, one of common.precisions."""
    return _precision


def real_dtype():
    """Returns the dtype of all arrays but indices, and of weights that are stored in 16 bits."""
    return "float64" if _precision == "fp64" else "float32"


def seed(value):
    """Seeds the generator of the chosen device."""
    jt.sync_all()
    jt.set_global_seed(value)


def no_gradients():
    """Returns a context in which nothing is kept for a backward pass."""
    return jt.no_grad()


def to_device(module_or_tensor):
    """Moves a module or a tensor to the chosen device; Jittor does so by itself."""
    return module_or_tensor


def from_numpy(array):
    """Copies a numpy array to the chosen device; integers become int32, other numbers real_dtype."""
    return jt.array(np.ascontiguousarray(array, dtype=np.int32 if array.dtype.kind == "i" else real_dtype()))


def number(value):
    """Returns a number as Jittor's own operations take it: a plain one they would round to float32."""
    return jt.array(np.array([value])) if _precision == "fp64" else value


def arange(count):
    """Returns ``(count,)`` integers from 0 on, on the chosen device."""
    return jt.arange(count)


def to_numpy(tensor):
    """Copies a tensor to the host."""
    return tensor.numpy()


def synchronise():
    """Waits until the device has done everything."""
    jt.sync_all(True)


def avoid_holes():
    """Lets a GPU's memory hold arrays of many large sizes: those of one size may take what two of another have left.

    Jittor asks for memory array by array, but for small ones, and keeps it for arrays that are no larger.
    """
    jt.flags.sfrl_large_block_size_device = 1 << 30


def gpu_name():
    """Returns what the driver calls the first GPU; Jittor does not say."""
    driver, handle, name = ctypes.CDLL("libcuda.so.1"), ctypes.c_int(), ctypes.create_string_buffer(100)
    driver.cuDeviceGet(ctypes.byref(handle), 0)
    driver.cuDeviceGetName(name, len(name), handle)
    return name.value.decode()


def describe():
    """Returns ``{framework, version, device, precision}`` for logs and tables."""
    name = gpu_name() if jt.flags.use_cuda else f"CPU, {os.cpu_count()} threads"
    return {"framework": FRAMEWORK, "version": jt.__version__, "device": name, "precision": _precision}


def peak_memory_bytes():
    """Returns the peak memory in bytes: of Jittor's allocator on a GPU, of the process on a CPU."""
    if jt.flags.use_cuda:
        return jt.get_mem_info().total_cuda_used
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
