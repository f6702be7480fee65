"""Puts the tables that real runs wrote into README.md and README_zh.md, between their markers.

    python scripts/maintain/update_readme.py [--check]

A marker is a line ``<!-- table: NAME -->``; what stands between it and ``<!-- end of table -->`` is replaced by that
table of common/bench/summary.py: ``alignment`` of both frameworks' trainings, ``runs`` of all logged runs, ``speed``
of the benchmarks, ``events`` of LoRA against all weights on PHEE.
With --check nothing is written and exit status 1 says that something would change.
"""

import argparse
import re

from common.bench.event_summary import events_table
from common.bench.summary import alignment_table, runs_table, speed_table
from common.errors import UserError, run_main
from common.files import atomic_write
from common.paths import ROOT

BLOCK = re.compile(r"(<!-- table: (?P<name>.+?) -->\n).*?(<!-- end of table -->)", re.DOTALL)
TABLES = {"alignment": (alignment_table, ROOT / "log"), "runs": (runs_table, ROOT / "log"),
          "speed": (speed_table, ROOT / "log/bench"), "events": (events_table, ROOT / "log/eae")}
DOCUMENTS = {"README.md": "en", "README_zh.md": "zh"}


def with_tables(text, language):
    """Returns the text with every marked table brought up to date.

    Raises:
        UserError: a marker names no table, or a log is not what the table needs.
    """
    def replacement(match):
        if match["name"] not in TABLES:
            raise UserError(f"a marker names {match['name']!r}, expected one of {', '.join(TABLES)}")
        make, folder = TABLES[match["name"]]
        return match[1] + make(folder, language) + "\n" + match[3]
    return BLOCK.sub(replacement, text)


def main(argv):
    """Updates both files; returns 1 where --check finds a difference."""
    parser = argparse.ArgumentParser(prog="update_readme.py", description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 where a table is old")
    arguments = parser.parse_args(argv)
    changed = []
    for name, language in DOCUMENTS.items():
        path = ROOT / name
        text = path.read_text(encoding="utf-8")
        updated = with_tables(text, language)
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
