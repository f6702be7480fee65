"""The rooms of common/ lie one above another: each imports from the rooms below it and from the ground alone."""

import ast

# From the bottom to the top. What lies in common/ itself is the ground, which uses the standard library alone.
ROOMS = ("data", "model", "run", "align", "demo", "metrics", "drivers", "bench", "nano")
GROUND = {"checks", "cpp_compiler", "errors", "files", "frameworks", "locks", "paths", "precisions",
          "signals", "unfinished", "vocabulary"}


def imports_of(path):
    """Yields the dotted names that a file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ([f"{node.module}.{alias.name}" for alias in node.names] if node.module == "common"
                        else [node.module])


def rooms_used(path):
    """Returns the rooms, or modules of the ground, that a file imports from common/."""
    return {name.split(".")[1] for name in imports_of(path) if name.startswith("common.")}


def test_every_module_has_its_room(project_root):
    common = project_root / "common"
    assert {path.name for path in common.iterdir() if path.is_dir()} - {"__pycache__"} == set(ROOMS)
    assert {path.stem for path in common.glob("*.py")} - {"__init__"} == GROUND


def test_no_arrow_points_upward(project_root):
    for height, room in enumerate(ROOMS):
        for path in (project_root / "common" / room).rglob("*.py"):
            assert rooms_used(path) <= GROUND | set(ROOMS[:height + 1]), path


def test_the_ground_stands_by_itself(project_root):
    for path in (project_root / "common").glob("*.py"):
        assert rooms_used(path) <= GROUND, path
        outside = {name.split(".")[0] for name in imports_of(path)} - {"common"}
        assert not outside & {"numpy", "tqdm", "safetensors", "tokenizers", "matplotlib"}, path


def test_the_trees_use_what_programs_may_use(project_root):
    for tree in ("NLG_pytorch", "NLG_jittor"):
        for path in (project_root / tree / "src").glob("*.py"):
            assert not rooms_used(path) & {"drivers", "bench", "nano", "demo"}, path
