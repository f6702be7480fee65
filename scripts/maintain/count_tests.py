"""Adds up the reports of run_tests.sh, ruff's and those of groups of tests.

    python scripts/maintain/count_tests.py FOLDER NUMBER_OF_GROUPS [pytest's options]

Options may choose tests: with them some groups may be empty, but not all.
"""

import sys
import xml.etree.ElementTree
from pathlib import Path

from common.errors import run_main

COUNTS = ("tests", "failures", "errors", "skipped")


def counts_of(report):
    """Returns the counts of a report in JUnit's format."""
    suites = list(xml.etree.ElementTree.parse(report).getroot().iter("testsuite"))
    return {name: sum(int(suite.get(name, 0)) for suite in suites) for name in COUNTS}


def main(argv):
    """Prints one line of counts; returns 1 where a report is missing, empty or has failures."""
    reports = {path.stem: counts_of(path) for path in Path(argv[0]).glob("*.xml")}
    totals = {name: sum(counts[name] for counts in reports.values()) for name in COUNTS}
    groups = [counts["tests"] > 0 for name, counts in reports.items() if name != "ruff"]
    is_whole = "ruff" in reports and len(groups) == int(argv[1]) and (any if argv[2:] else all)(groups)
    failed = totals["failures"] + totals["errors"]
    if not is_whole:
        print("a group of tests did not run", file=sys.stderr)
    print(f"{totals['tests'] - failed - totals['skipped']} passed, {failed} failed, {totals['skipped']} skipped")
    return int(failed > 0 or not is_whole)


if __name__ == "__main__":
    run_main(main)
