"""Mistakes that the user can fix, and the one way in which every program ends."""

import os
import sys
from collections.abc import Callable
from typing import NoReturn


class UserError(Exception):
    """A mistake of the user: the message says what was found, where, what was expected and what to do."""


def run_main(main: Callable[[list[str]], int | None]) -> NoReturn:
    """Runs ``main(argv)`` as the process: a UserError is printed in one line and ends it with exit status 2.

    Args:
        main: takes the command-line arguments without the program's name; returns None or an exit status.
    """
    program = os.path.basename(sys.argv[0])
    try:
        sys.exit(main(sys.argv[1:]))
    except UserError as error:
        print(f"{program}: error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        sys.exit(130)
