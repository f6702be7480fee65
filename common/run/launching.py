"""What a launcher, such as torchrun, tells each process it starts: here one process runs alone, as rank 0 of 1."""

import argparse
import os

from common.errors import UserError

# The largest value that a process alone may be told, by flag or by the variable of the flag's name in capitals.
LARGEST = {"local_rank": 0, "rank": 0, "world_size": 1}


def add_launcher_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the original program's flags for launchers; ``torch.distributed.launch`` spells one with a hyphen."""
    for name, largest in LARGEST.items():
        spellings = [f"--{name}"] + ["--local-rank"] * (name == "local_rank")
        parser.add_argument(*spellings, type=int, default=largest, help=f"of a launcher: at most {largest}")


def check_alone(arguments: argparse.Namespace) -> None:
    """Takes the launchers' flags out of the namespace, once they and the variables name one process alone.

    Raises:
        UserError: one of several processes was started, or a variable is no whole number; an empty one does not count.
    """
    for name, largest in LARGEST.items():
        variable = name.upper()
        found = {f"--{name}": str(getattr(arguments, name)), variable: os.environ.get(variable) or str(largest)}
        for source, text in found.items():
            try:
                is_alone = int(text) <= largest
            except ValueError:
                raise UserError(f"{source} is {text!r}: expected a whole number; unset it, or let a launcher set "
                                "it") from None
            if not is_alone:
                raise UserError(f"{source} is {text}: training and beam search run as one process; start it with "
                                "--nproc_per_node=1, and choose the GPU with CUDA_VISIBLE_DEVICES")
        delattr(arguments, name)
