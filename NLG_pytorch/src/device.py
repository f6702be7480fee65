"""Where the program runs: the device, its seeds and precision, and the border between numpy and torch."""

import os
import resource

import numpy as np
import torch

from common.errors import UserError

FRAMEWORK = "pytorch"
_device = torch.device("cpu")


def set_up(device, random_seed):
    """Chooses the device, fixes fp32 products and seeds the generators.

    Args:
        device: ``auto`` (a GPU where there is one), ``cpu`` or ``cuda``.
        random_seed: for LoRA's dropout.

    Raises:
        UserError: ``cuda`` was asked for and there is none, or several processes were started.
    """
    global _device
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise UserError(f"WORLD_SIZE is {os.environ['WORLD_SIZE']}: training runs as one process; "
                        "start it with --nproc_per_node=1")
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError(f"--device cuda: torch {torch.__version__} sees no GPU; check nvidia-smi and that this torch "
                        "was built for CUDA, or use --device cpu")
    use_cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    _device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if use_cuda else torch.device("cpu")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    seed(random_seed)


def seed(value):
    """Seeds the generator of the chosen device."""
    torch.manual_seed(value)


def to_device(module_or_tensor):
    """Moves a module or a tensor to the chosen device."""
    return module_or_tensor.to(_device)


def from_numpy(array):
    """Copies a numpy array to the chosen device; integers become int64, as torch's indices are."""
    array = np.ascontiguousarray(array, dtype=np.int64 if array.dtype.kind == "i" else np.float32)
    return torch.from_numpy(array).to(_device, non_blocking=True)


def to_numpy(tensor):
    """Copies a tensor to the host."""
    return tensor.detach().cpu().numpy()


def describe():
    """Returns ``{framework, version, device, precision}`` for logs and tables."""
    name = torch.cuda.get_device_name(_device) if _device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    return {"framework": FRAMEWORK, "version": torch.__version__, "device": name, "precision": "fp32"}


def peak_memory_bytes():
    """Returns the peak memory in bytes: of torch's allocator on a GPU, of the process on a CPU."""
    if _device.type == "cuda":
        return torch.cuda.max_memory_reserved(_device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
