"""The documents say what the logs say, and name what exists."""

import re
import subprocess
import sys

import pytest

from common.paths import ROOT

DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("[a-z]*/README.md")]
FILE = re.compile(r"\b(?:common|docs|eval|scripts|tests|NLG_\w+/src)/[\w/.-]*\w\.(?:sh|py|md|h|npz)\b")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_and_paths_exist(document):
    text = document.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if not link.startswith("http")]
    assert not [link for link in links if not (document.parent / link).exists()]
    assert not [path for path in FILE.findall(text) if not (ROOT / path).exists()]


def test_tables_are_those_of_the_logs(project_root):
    result = subprocess.run([sys.executable, "scripts/maintain/update_readme.py", "--check"], cwd=project_root,
                            capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
