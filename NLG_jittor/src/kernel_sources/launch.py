"""Runs the C++ and CUDA of this folder over Jittor's arrays, on a processor or on a GPU, whichever is in use."""

import functools
import hashlib
import os
import re

import jittor as jt

from common.precisions import PRECISIONS

import device

FOLDER = os.path.dirname(os.path.realpath(__file__))
BASE = {"cpu": ("dropout.h", "cpu.h"), "cuda": ("dropout.h", "cuda_products.h")}
MORE = {"cpu": ("cpu_attention.h", "cpu_encoder.h", "cpu_weights.h", "chatglm_cpu.h"),
        "cuda": ("cuda_layers.h", "cuda_lora.h", "cuda_attention.h", "cuda_encoder.h", "cuda_weights.h",
                 "chatglm_cuda.h")}
IN_FLOAT64 = {"cuda_attention.h": "cuda_attention_fp64.h"}  # what has files of its own


def is_half():
    """Tells whether products take 16-bit operands."""
    return device.precision() in ("bf16", "fp16")


@functools.cache
def file_text(name):
    """Returns the text of a file in kernel_sources."""
    with open(os.path.join(FOLDER, name), encoding="utf-8") as file:
        return file.read()


@functools.cache
def header(kind, source, dtype):
    """Returns the lines that include what ``source`` calls for ``cpu`` or ``cuda``, over arrays of a dtype.

    Jittor compiles anew when the text of an operation changes; the hash stands for the text of the included files.
    """
    words = set(re.findall(r"\w+", source))
    names = [*BASE[kind], *(name for name in MORE[kind]
                            if words & set(re.findall(r"^static inline \w+ (\w+)\(", file_text(name), re.MULTILINE)))]
    if dtype == "float64":
        names = [IN_FLOAT64.get(name, name) for name in names]
    digest = hashlib.sha256("".join(map(file_text, names)).encode()).hexdigest()
    has_onednn = kind == "cpu" and jt.compile_extern.mkl_ops is not None
    return (f"// {digest}\n" + "#define HAS_ONEDNN\n" * has_onednn + "#define FLOAT64\n" * (dtype == "float64")
            + "".join(f'#include "{os.path.join(FOLDER, name)}"\n' for name in names))


def run(source, inputs, outputs, **numbers):
    """Runs C++ over arrays.

    Args:
        source: statements; the arrays are ``in0_p``, ``in1_p`` … and ``out0_p`` …, their sizes ``in0->num`` and
            ``in0_shape0`` ….
        inputs: Vars.
        outputs: list of shapes, or of ``(shape, dtype)``; by default of device.real_dtype.
        numbers: what ``data["name"]`` gives in the source; another number does not compile it anew.

    Returns:
        List of Vars.
    """
    shapes = [shape[0] if isinstance(shape[-1], str) else shape for shape in outputs]
    dtypes = [shape[1] if isinstance(shape[-1], str) else device.real_dtype() for shape in outputs]
    # The sources' enumeration has the same order.
    data = {"precision": float(PRECISIONS.index(device.precision()))}
    for name, number in numbers.items():
        data[name] = float(number)
    if jt.flags.use_cuda:
        return jt.code(shapes, dtypes, inputs, cuda_src=source, cuda_header=header("cuda", source, device.real_dtype()),
                       data=data)
    return jt.code(shapes, dtypes, inputs, cpu_src=source, cpu_header=header("cpu", source, device.real_dtype()),
                   data=data)


def scratch(shape):
    """Returns the shape of the output in which a product rounds its operand of that shape; (1,) where it does not."""
    return shape if is_half() else (1,)
