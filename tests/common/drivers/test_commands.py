"""How stages are run, and what is taken out of a program's output before it is kept."""

import tempfile
from pathlib import Path

import pytest

from common import frameworks
from common.drivers import commands
from common.drivers.commands import Command, cleaned, run_command
from common.paths import ROOT


@pytest.mark.parametrize("text, expected", [
    ("in /srv/project/vocab and /srv/project-2/x", "in ./vocab and DIR/x"),
    ("/var/tmp/a /home/me/b", "TMP/a HOME/b"),
    ("/opt/some/lib/python3.11/site-packages/torch/nn.py:3: warning", "site-packages/torch/nn.py:3: warning"),
    ('--source /data {"path": "/mnt/x/train.jsonl"} PATH=/usr/bin:/bin',
     '--source DIR/data {"path": "DIR/train.jsonl"} PATH=DIR/bin:DIR/bin'),
    ("loss 1.5\n 10%|#  | 1/9\r 99%|## | 9/9\rdone\n\x1b[32mgreen\x1b[0m", "loss 1.5\ndone\ngreen"),
])
def test_what_belongs_to_the_machine_is_taken_out(monkeypatch, text, expected):
    monkeypatch.setattr(commands, "ROOT", Path("/srv/project"))
    monkeypatch.setattr(tempfile, "tempdir", "/var/tmp")
    monkeypatch.setenv("HOME", "/home/me")
    assert cleaned(text) == expected


@pytest.mark.parametrize("text", ["../work/e2e/x ~/x a/b | ms/batch 5 / 6 | 1/2", "https://example.org/a/b",
                                  "x[a/b]/c"])
def test_other_slashes_stay(text):
    assert cleaned(text) == text


def test_committed_logs_are_clean():
    """They were made on other machines, so it is the rule for folders in general that holds here."""
    logs = [path for path in (ROOT / "log").rglob("*") if path.suffix in (".log", ".json", ".jsonl")]
    assert len(logs) > 50
    for path in logs:
        text = path.read_text(encoding="utf-8")
        assert cleaned(text) == text, path


def test_a_stage_runs_with_the_variables_of_its_own_python(tmp_path, monkeypatch, capsys):
    """A stand-in for an environment's Python prints what it is given."""
    python = tmp_path / ".venv_jittor" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "path=$PYTHONPATH optimize=$PYTHONOPTIMIZE unbuffered=$PYTHONUNBUFFERED"\n')
    python.chmod(0o755)
    python.with_name("own").symlink_to("python")
    monkeypatch.setattr(frameworks, "ROOT", tmp_path)
    monkeypatch.setenv("PYTHONPATH", "/of/another")
    monkeypatch.setenv("PYTHONOPTIMIZE", "2")
    tree = tmp_path / "NLG_jittor"
    tree.mkdir()
    for interpreter, expected in (("../.venv_jittor/bin/python", "path= optimize= unbuffered=1"),
                                  (str(python), "path= optimize= unbuffered=1"),
                                  (str(python.with_name("own")), "path=/of/another optimize=2 unbuffered=1")):
        run_command(Command("stage", [interpreter], tree, [], [], tmp_path / "log"), tmp_path / "stamps", force=True)
        assert capsys.readouterr().out.splitlines()[-1] == expected
