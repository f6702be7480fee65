"""Whether C++ extensions of this Python can be compiled here, which Jittor does."""

import os
import shutil
import sys
import sysconfig

from common.errors import UserError


def check_cpp_compiler() -> None:
    """Checks that there are a C++ compiler (``$cc_path``, or g++) and this Python's headers.

    Raises:
        UserError: one of them is missing; the message names its Debian package.
    """
    compiler = os.environ.get("cc_path") or "g++"
    if not shutil.which(compiler):
        raise UserError(f"found no C++ compiler `{compiler}`; Jittor compiles its kernels: `apt-get install g++`")
    header = os.path.join(sysconfig.get_paths()["include"], "Python.h")
    if not os.path.isfile(header):
        raise UserError(f"found no {header}; Jittor compiles against Python's headers: "
                        f"`apt-get install python{sys.version_info.major}.{sys.version_info.minor}-dev`")
