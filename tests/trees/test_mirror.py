"""The two trees are one program in two languages: same files, same names, same signatures, same order."""

import ast
import filecmp

import pytest

# What may differ, and why.
ONLY_IN_JITTOR = {
    "kernels.py": "what torch has as one call, with its gradient: fused kernels in kernel_sources/",
}
EXTRA_NAMES = {
    ("pytorch", "model.py", "CrossEntropy"): "torch's own keeps four arrays of the vocabulary's width; Jittor fuses them",
    ("pytorch", "model.py", "CrossEntropy.forward"): "see CrossEntropy",
    ("pytorch", "model.py", "CrossEntropy.backward"): "see CrossEntropy",
    ("pytorch", "model.py", "output_logits"): "kernels.py makes logits, and those of the loss a few rows at a time",
    ("pytorch", "optimizer.py", "AdamW._as_parameters"): "its parameters are views of one vector; Jittor fuses kernels itself",
    ("pytorch", "lora.py", "MergedLinear.spread_lora_B"): "one product for all projections; kernels.py takes each by itself",
    ("pytorch", "device.py", "product_type"): "torch stores weights in the type of their products; kernels.py does in Jittor",
    ("jittor", "model.py", "free_places_mask"): "torch takes a view of the places that are in use; Jittor has no views",
    ("jittor", "device.py", "gpu_name"): "torch.cuda.get_device_name; Jittor does not tell",
    ("jittor", "gpt2_beam.py", "log_softmax"): "torch.log_softmax; Jittor's loses digits over a whole vocabulary",
}
ONLY_IN_PYTORCH = {
    "cuda_graphs.py": "torch launches a thousand kernels one by one unless they are captured; Jittor moves its arrays, and "
                      "recording every step anew costs more than the launches",
}
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


def test_same_files(trees):
    files = {name: {path.name for path in folder.glob("*.py")} for name, folder in trees.items()}
    assert files["jittor"] - set(ONLY_IN_JITTOR) == files["pytorch"] - set(ONLY_IN_PYTORCH)


def test_same_names_and_signatures(trees):
    for file in sorted(path.name for path in trees["pytorch"].glob("*.py") if path.name not in ONLY_IN_PYTORCH):
        torch, jittor = ([entry for entry in outline(folder / file) if (tree, file, entry[0]) not in EXTRA_NAMES]
                         for tree, folder in trees.items())
        assert torch == jittor, file


def test_exceptions_are_needed(trees):
    for tree, file, name in EXTRA_NAMES:
        assert name in [entry[0] for entry in outline(trees[tree] / file)]


def test_entry_points_without_a_framework_are_the_same_bytes(trees):
    for path in trees["pytorch"].glob("*.py"):
        if "torch" not in path.read_text(encoding="utf-8"):
            assert filecmp.cmp(path, trees["jittor"] / path.name, shallow=False), path.name


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
    for folder in ("common", "NLG_pytorch/src", "NLG_jittor/src", "scripts", "eval"):
        for path in (project_root / folder).rglob("*.py"):
            assert len(path.read_text(encoding="utf-8").splitlines()) <= 350, path
