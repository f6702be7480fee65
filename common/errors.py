"""Mistakes that the user can mend, and the one way in which every program ends."""

import os
import sys


class UserError(Exception):
    """A mistake of the user's: the message says what was found, where, what was expected and what to do."""


def run_main(main):
    """Runs ``main(argv)`` as the process: exit status 2 and one sentence for the user's mistakes.

    Args:
        main: function of one argument, the list of command-line words without the program's name;
            returns None or an exit status.
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
