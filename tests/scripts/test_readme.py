"""The documents say what the logs say, and name what exists."""

import re
import subprocess
import sys

import pytest


@pytest.mark.parametrize("name", ["README.md", "README_zh.md"])
def test_links_and_paths_exist(name, project_root):
    text = (project_root / name).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if not target.startswith("http"):
            assert (project_root / target).exists(), target
    for script in re.findall(r"\bscripts/[\w/]+\.(?:sh|py)", text):
        assert (project_root / script).exists(), script


def test_tables_are_those_of_the_logs(project_root):
    result = subprocess.run([sys.executable, "scripts/maintain/update_readme.py", "--check"], cwd=project_root,
                            capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
