"""Adds up pytest's reports for run_tests.sh: python scripts/maintain/count_tests.py FOLDER NUMBER_OF_REPORTS."""

import sys
import xml.etree.ElementTree
from pathlib import Path

from common.errors import run_main


def main(argv):
    """Prints one line of counts; returns 1 where a report is missing, empty or has failures."""
    totals = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
    reports = sorted(Path(argv[0]).glob("*.xml"))
    is_whole = len(reports) == int(argv[1])
    for report in reports:
        suites = list(xml.etree.ElementTree.parse(report).getroot().iter("testsuite"))
        counts = {name: sum(int(suite.get(name, 0)) for suite in suites) for name in totals}
        is_whole = is_whole and counts["tests"] > 0
        totals = {name: totals[name] + counts[name] for name in totals}
    failed = totals["failures"] + totals["errors"]
    if not is_whole:
        print("a group of tests did not run", file=sys.stderr)
    print(f"{totals['tests'] - failed - totals['skipped']} passed, {failed} failed, {totals['skipped']} skipped")
    return int(failed > 0 or not is_whole)


if __name__ == "__main__":
    run_main(main)
