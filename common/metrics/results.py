"""What the scoring programs write besides their table: intervals, scores of segments, a record of what was measured."""

import argparse
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

from common.errors import UserError
from common.files import check_outputs, find_input, sha256_of, write_json, write_json_lines
from common.metrics.bootstrap import DEFAULT_SAMPLES, MIN_SAMPLES, Tally, segment_records


def scorer_parser(document: str) -> argparse.ArgumentParser:
    """Returns the parser of a scoring program, whose docstring has its description, its usage and the details."""
    description, _, details = document.partition("\n\n")
    return argparse.ArgumentParser(description=description, epilog=details.partition("\n\n")[2],
                                   formatter_class=argparse.RawDescriptionHelpFormatter)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds ``--bootstrap``, ``--segments`` and ``--json`` to an argparse parser."""
    parser.add_argument("--bootstrap", metavar="N", type=int,
                        help=f"95 %% intervals from N resamples of the segments ({DEFAULT_SAMPLES} is usual, and the "
                             "default for two systems)")
    parser.add_argument("--segments", metavar="FILE", help="also write each segment's scores, as JSON lines")
    parser.add_argument("--json", metavar="FILE", help="also write the scores at full precision, with what they depend "
                                                       "on: versions, options, counts, sha256 of the inputs")


def check_options(options: argparse.Namespace, inputs: Iterable[str | None]) -> None:
    """Checks ``--bootstrap``, ``--segments`` and ``--json``.

    Args:
        options: namespace with the options of ``add_options``.
        inputs: files that the program reads; None for one that is not given.

    Raises:
        UserError: there are too few resamples for a 95 % interval, or a file cannot be written or is read as well.
    """
    if options.bootstrap is not None and options.bootstrap < MIN_SAMPLES:
        raise UserError(f"--bootstrap {options.bootstrap}: expected a number of resamples from {MIN_SAMPLES} up "
                        f"({DEFAULT_SAMPLES} is usual): fewer have no 95 % interval")
    check_outputs(filter(None, (options.segments, options.json)), inputs)


def format_interval(interval: Sequence[float], decimals: int = 4, sign: str = "") -> str:
    """Returns the text ``0.1234 to 0.2345`` for an interval of two floats; ``sign`` is ``"+"`` or ``""``."""
    return " to ".join(f"{bound:{sign}.{decimals}f}" for bound in interval)


def input_record(path: str) -> dict[str, str]:
    """Returns an input's path and the SHA-256 of its (unpacked) bytes, for JSON."""
    return {"path": path, "sha256": sha256_of(find_input(path))}


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Returns the versions of Python and of installed packages."""
    return {"python": platform.python_version(), **{package: version(package) for package in packages}}


def write_results(options: argparse.Namespace, systems: Sequence[Mapping[str, Tally]],
                  record: Callable[[], dict[str, Any]]) -> None:
    """Writes the files of ``--segments`` and ``--json`` if they are asked for.

    Args:
        options: namespace with the options of ``add_options``.
        systems: dicts from metric to ``Tally``.
        record: function that returns the content of the JSON file.
    """
    if options.segments:
        write_json_lines(options.segments, segment_records(systems))
    if options.json:
        write_json(options.json, record())
