"""Where the program runs: the device, its seeds and precision, and the border between numpy and torch."""

import resource

import numpy as np
import torch

from common.errors import UserError
from common.run import processes
from common.run.launching import place

FRAMEWORK = "pytorch"
_device = torch.device("cpu")
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
    global _device, _precision
    index = place().local_rank
    has_gpu = torch.cuda.is_available() and index < torch.cuda.device_count()
    if device == "cuda" and not has_gpu:
        missing = f"no GPU number {index}" if index else "no GPU"
        raise UserError(f"--device cuda: torch {torch.__version__} sees {missing}; check nvidia-smi and that this "
                        "torch was built for CUDA, or use --device cpu")
    use_cuda = device != "cpu" and has_gpu
    processes.check_devices(use_cuda)
    _device = torch.device("cuda", index) if use_cuda else torch.device("cpu")
    if use_cuda:
        torch.cuda.set_device(_device)
    if precision == "tf32" and not use_cuda:
        raise UserError("--tf32: a CPU has no tf32 products; leave the flag out for fp32, or use --device cuda")
    _precision = precision
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    # It compiles for each shape, in half precision; the others do not.
    torch.backends.cuda.enable_cudnn_sdp(False)
    seed(random_seed)


def on_gpu():
    """Returns whether the chosen device is a GPU."""
    return _device.type == "cuda"


def precision():
    """Returns the precision, one of common.precisions."""
    return _precision


def real_dtype():
    """Returns the dtype of all arrays but indices and, in 16 bits, of what products take and give."""
    return torch.float64 if _precision == "fp64" else torch.float32


def seed(value):
    """Seeds the generator of the chosen device."""
    torch.manual_seed(value)


def no_gradients():
    """Returns a context in which nothing is kept for a backward pass."""
    return torch.no_grad()


def to_device(module_or_tensor):
    """Moves a module or a tensor to the chosen device."""
    return module_or_tensor.to(_device)


def from_numpy(array):
    """Copies a numpy array to the chosen device; integers become int32, other numbers real_dtype."""
    dtype = torch.int32 if array.dtype.kind == "i" else real_dtype()
    return torch.from_numpy(np.ascontiguousarray(array)).to(dtype).to(_device, non_blocking=True)


def arange(count):
    """Returns ``(count,)`` integers from 0 on, on the chosen device."""
    return torch.arange(count, device=_device)


def to_numpy(tensor):
    """Copies a tensor to the host."""
    return tensor.detach().cpu().numpy()


def synchronise():
    """Waits until the device has done everything."""
    if on_gpu():
        torch.cuda.synchronize(_device)


def avoid_holes():
    """Lets a GPU's memory hold arrays of many large sizes: those of one size may take what two of another have left.

    Of ChatGLM2-6B's training it saves a tenth (log/chatglm2).
    """
    if on_gpu():
        torch.cuda.memory._set_allocator_settings("expandable_segments:True")


def describe():
    """Returns ``{framework, version, device, precision}`` for logs and tables."""
    name = torch.cuda.get_device_name(_device) if on_gpu() else f"CPU, {torch.get_num_threads()} threads"
    return {"framework": FRAMEWORK, "version": torch.__version__, "device": name, "precision": _precision}


def peak_memory_bytes():
    """Returns the peak memory in bytes: of torch's allocator on a GPU, of the process on a CPU."""
    if on_gpu():
        return torch.cuda.max_memory_reserved(_device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
