"""Puts the tables that real runs wrote into README.md and README_zh.md, between their markers.

    python scripts/maintain/update_readme.py [--check]

A marker is a line ``<!-- table: log/RUN/table.md -->``; what stands between it and ``<!-- end of table -->`` is
replaced by that file without its heading. With --check nothing is written and exit status 1 says that something would
change.
"""

import argparse
import re

from common.errors import UserError, run_main
from common.files import atomic_write
from common.paths import ROOT

BLOCK = re.compile(r"(<!-- table: (?P<path>\S+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def with_tables(text):
    """Returns the text with every marked table brought up to date.

    Raises:
        UserError: a marker names a file that does not exist.
    """
    def replacement(match):
        path = ROOT / match["path"]
        if not path.is_file():
            raise UserError(f"a marker names {match['path']}, which does not exist")
        lines = path.read_text(encoding="utf-8").splitlines()
        return match[1] + "\n".join(line for line in lines if not line.startswith("# ")).strip() + "\n" + match[3]
    return BLOCK.sub(replacement, text)


def main(argv):
    """Updates both files; returns 1 where --check finds a difference."""
    parser = argparse.ArgumentParser(prog="update_readme.py", description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 where a table is old")
    arguments = parser.parse_args(argv)
    changed = []
    for path in (ROOT / "README.md", ROOT / "README_zh.md"):
        text = path.read_text(encoding="utf-8")
        updated = with_tables(text)
        if updated != text:
            changed.append(path.name)
            if not arguments.check:
                with atomic_write(path) as file:
                    file.write(updated)
    print("out of date: " + ", ".join(changed) if changed and arguments.check else "updated: " + ", ".join(changed)
          if changed else "all tables are up to date")
    return int(bool(changed) and arguments.check)


if __name__ == "__main__":
    run_main(main)
