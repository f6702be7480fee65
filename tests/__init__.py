"""The tests, and what the running Python tests of them.

    common/ (a folder for each room), scripts/   what no framework touches: in either environment
    trees/       the mirror, the order of the rooms, and the checks that both trees share, on the tree under test
    pytorch/     of the PyTorch tree alone: in an environment with torch
    jittor/      of the Jittor tree alone: in an environment with Jittor
    alignment/   both trees' programs, each in its own environment
    faults/      bad inputs for every program, listed in cases_*.py, and how programs end; the trees' run from trees/;
                 try_faults.py, which anyone can run, and of which alignment/ runs a part
    oracles/     what tests compare with: plain implementations, and numbers by other people's code
    data/        what tests read

``.venv_pytorch/bin/python -m pytest`` collects all but jittor/, ``.venv_jittor/bin/python -m pytest`` all but pytorch/
and what else needs torch; pytest's header says what is left out and why. Two environment variables choose:

    NLG_TEST_FRAMEWORK   ``pytorch`` or ``jittor``: the tree under test, for a Python that has both
    NLG_TEST_DEVICE      ``cpu`` (default) or ``cuda``: where that tree computes; ``cuda`` runs the tests marked gpu too
"""

import os
import pickle
from importlib.util import find_spec

import pytest

from common.frameworks import interpreter
from common.paths import ROOT

LIBRARIES = {"pytorch": "torch", "jittor": "jittor"}


def has(library):
    """Returns whether this Python can import a library; a folder of its name on the path is none."""
    spec = find_spec(library)
    return spec is not None and spec.origin is not None


FRAMEWORK = os.environ.get("NLG_TEST_FRAMEWORK") or next(filter(lambda name: has(LIBRARIES[name]), LIBRARIES), None)
DEVICE = os.environ.get("NLG_TEST_DEVICE") or "cpu"


def not_collected():
    """Returns ``{path: reason}`` of what this process leaves out, as seen from the tests' folder."""
    reasons = {framework: f"the tree under test is {FRAMEWORK}" if has(library) else f"this Python has no {library}"
               for framework, library in LIBRARIES.items() if framework != FRAMEWORK}
    if FRAMEWORK is None:
        reasons |= dict.fromkeys(("trees/test_state.py", "trees/test_tree.py"),
                                 "this Python has neither torch nor jittor")
    if not has("torch"):
        reasons |= dict.fromkeys(("common/model/test_torch_pickle.py", "common/model/test_hostile_pickles.py"),
                                 "this Python has no torch, which writes what they read")
    for path, library in (("test_files_of_others.py", "loralib"), ("test_with_peft.py", "peft")):
        if not has(library):
            reasons["common/model/" + path] = f"this Python has no {library}, which writes what it reads"
    for framework in LIBRARIES:
        if not os.path.exists(interpreter(framework)):
            reasons["alignment"] = f"{os.path.relpath(interpreter(framework), ROOT)} is not here: run scripts/setup.sh"
    return reasons


def as_other_user(function):
    """Returns what ``function`` returns in a process of a user who owns nothing; skips where this one is not root."""
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        try:
            result = (True, function())
        except BaseException as error:  # whatever it is, the parent raises it
            result = (False, error)
        os.write(writing, pickle.dumps(result))
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        has_returned, result = pickle.load(pipe)
    os.waitpid(process, 0)
    if not has_returned:
        raise result
    return result
