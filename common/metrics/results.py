"""What both scoring programs give besides their table: intervals, scores of segments, a record of what was measured."""

import platform
from importlib.metadata import version

from common.errors import UserError
from common.files import find_input, sha256_of, write_json, write_json_lines
from common.metrics.bootstrap import FEWEST_SAMPLES, USUAL_SAMPLES, segment_records


def add_options(parser):
    """Adds ``--bootstrap``, ``--segments`` and ``--json`` to an argparse parser."""
    parser.add_argument("--bootstrap", metavar="N", type=int,
                        help=f"95 %% intervals from N resamples of the segments ({USUAL_SAMPLES} is usual, and taken "
                             "for two systems if this option is not given)")
    parser.add_argument("--segments", metavar="FILE", help="also write each segment's scores, as JSON lines")
    parser.add_argument("--json", metavar="FILE", help="also write the scores at full precision, with what they depend "
                                                       "on: versions, options, counts, sha256 of the inputs")


def check_options(options):
    """Raises UserError unless ``--bootstrap`` is absent or enough for a 95 % interval."""
    if options.bootstrap is not None and options.bootstrap < FEWEST_SAMPLES:
        raise UserError(f"--bootstrap {options.bootstrap}: expected a number of resamples from {FEWEST_SAMPLES} up "
                        f"({USUAL_SAMPLES} is usual): fewer have no 95 % interval")


def format_interval(interval, decimals=4, sign=""):
    """Returns the words ``0.1234 to 0.2345`` for an interval of two floats."""
    return " to ".join(f"{end:{sign}.{decimals}f}" for end in interval)


def input_record(path):
    """Returns an input's path and the SHA-256 of its (unpacked) bytes, for JSON."""
    return {"path": path, "sha256": sha256_of(find_input(path))}


def versions(packages):
    """Returns the versions of Python and of installed packages as a dict."""
    return {"python": platform.python_version(), **{package: version(package) for package in packages}}


def write_results(options, systems, record):
    """Writes the files of ``--segments`` and ``--json``, where they are asked for.

    Args:
        systems: list of dicts from metric to ``Tally``.
        record: function of no argument that returns what the JSON file holds.

    Raises:
        UserError: a file cannot be written.
    """
    try:
        if options.segments:
            write_json_lines(options.segments, segment_records(systems))
        if options.json:
            write_json(options.json, record())
    except OSError as error:
        raise UserError(f"the scores cannot be written: {error}") from error
