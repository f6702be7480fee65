"""The two trees are one program in two languages: same files, same names, same signatures, same order."""

import ast
import difflib

import pytest

# What one tree has alone, and why; a class stands for its methods too.
EXTRA_NAMES = {
    ("pytorch", "kernels.py", "product_dtype"): "torch has 16-bit types; Jittor's kernels round by themselves",
    ("pytorch", "kernels.py", "placement"): "one product for all updates; Jittor's kernel takes each by itself",
    ("pytorch", "kernels.py", "pieces"): "the optimiser's one array is taken in parts; Jittor's has many arrays",
    ("pytorch", "kernels.py", "CrossEntropy"): "Jittor's operations with a gradient are in kernel_sources/functions.py",
    ("pytorch", "cuda_graphs.py", "SIZE_MULTIPLE"): "what torch captures, Jittor launches operation by operation",
    ("pytorch", "cuda_graphs.py", "MOST_RECORDINGS"): "see SIZE_MULTIPLE",
    ("pytorch", "cuda_graphs.py", "Recording"): "see SIZE_MULTIPLE",
    ("pytorch", "cuda_graphs.py", "Recordings"): "see SIZE_MULTIPLE",
    ("pytorch", "chatglm_kernels.py", "plain_attention"): "Jittor's kernel is the same on a CPU and on a GPU",
    ("pytorch", "chatglm_kernels.py", "SwiGLU"): "in Jittor in kernel_sources/chatglm_functions.py",
    ("jittor", "chatglm_kernels.py", "on_host"): "cuBLAS is told lengths; torch's attention reads offsets",
    ("jittor", "kernels.py", "frozen"): "torch's copy_ rounds and lays out by itself",
    ("jittor", "kernels.py", "groups"): "torch's optimiser has one array",
    ("jittor", "device.py", "number"): "torch's operations take a plain number as it is",
    ("jittor", "device.py", "gpu_name"): "torch.cuda.get_device_name; Jittor does not tell",
}
JITTOR_SETUP = "import jittor_setup  # noqa: F401  decides the environment before Jittor is imported\n\n"
RENAMED = {"execute": "forward"}  # what a Module's call runs


def outline(path):
    """Returns the public names of a file in order: classes with their methods, functions, with parameter names."""
    def entries(body, prefix=""):
        for node in body:
            if isinstance(node, ast.ClassDef):
                yield prefix + node.name, None
                yield from entries(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, ast.FunctionDef):
                yield prefix + RENAMED.get(node.name, node.name), ast.unparse(node.args)
            elif isinstance(node, ast.Assign) and not prefix:
                yield from ((target.id, "=") for target in node.targets
                            if isinstance(target, ast.Name) and not target.id.startswith("_"))
    return list(entries(ast.parse(path.read_text(encoding="utf-8")).body))


@pytest.fixture(scope="module")
def trees(project_root):
    return {name: project_root / f"NLG_{name}" / "src" for name in ("pytorch", "jittor")}


def is_extra(tree, file, name):
    """Tells whether a name, or the class that it is in, may stand in one tree alone."""
    return (tree, file, name.split(".")[0]) in EXTRA_NAMES


def test_same_files(trees):
    files = {name: {path.name for path in folder.glob("*.py")} for name, folder in trees.items()}
    assert files["jittor"] == files["pytorch"]


def test_same_names_and_signatures(trees):
    for file in sorted(path.name for path in trees["pytorch"].glob("*.py")):
        torch, jittor = ([entry for entry in outline(folder / file) if not is_extra(tree, file, entry[0])]
                         for tree, folder in trees.items())
        assert torch == jittor, file


def test_exceptions_are_needed(trees):
    """What is said to be in one tree alone is there, and not in the other."""
    others = {"pytorch": "jittor", "jittor": "pytorch"}
    for tree, file, name in EXTRA_NAMES:
        here, there = ([entry[0] for entry in outline(trees[one] / file)] for one in (tree, others[tree]))
        assert name in here and name not in there, (tree, file, name)


def test_the_models_differ_in_a_few_dozen_lines(trees):
    """These files are the porting guide: what is tuned for a framework belongs into kernels.py."""
    differing = 0
    for file in ("model.py", "bert.py", "lora.py", "optimizer.py", "gpt2_ft.py", "gpt2_beam.py", "bert_eae_ft.py"):
        lines = [(folder / file).read_text(encoding="utf-8").splitlines() for folder in trees.values()]
        differing += sum(line[:2] in ("- ", "+ ") for line in difflib.ndiff(*lines))
    assert differing <= 100


def test_entry_points_without_a_framework_are_the_same_bytes(trees):
    """But for Jittor's set-up."""
    texts = {path.name: [(folder / path.name).read_text(encoding="utf-8") for folder in trees.values()]
             for path in trees["pytorch"].glob("*.py")}
    plain = {name: pair for name, pair in texts.items() if "torch" not in pair[0] and "jittor as" not in pair[1]}
    assert plain.keys() >= {"gpt2_decode.py", "gpt2_encode.py", "bert_eae_ft.py", "bert_eae_predict.py"}
    for name, (torch, jittor) in plain.items():
        assert torch == jittor.replace(JITTOR_SETUP, ""), name


def test_links_lead_to_the_one_home(project_root):
    for name in ("pytorch", "jittor"):
        for link in ("data", "vocab", "eval", "pretrained_checkpoints"):
            assert (project_root / f"NLG_{name}" / link).resolve() == project_root / link
        assert (project_root / f"NLG_{name}" / "src" / "common").resolve() == project_root / "common"


def test_common_imports_no_framework(project_root):
    for path in (project_root / "common").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else (
                [node.module or ""] if isinstance(node, ast.ImportFrom) else [])
            assert not {name.split(".")[0] for name in names} & {"torch", "jittor", "transformers"}, path


def test_files_stay_readable_in_one_sitting(project_root):
    for folder in ("common", "NLG_pytorch/src", "NLG_jittor/src", "scripts", "eval", "tests"):
        for path in (project_root / folder).rglob("*.py"):
            assert len(path.read_text(encoding="utf-8").splitlines()) <= 350, path
