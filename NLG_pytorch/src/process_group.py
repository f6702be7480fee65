"""What several processes of a run tell each other, through torch.distributed; ``torchrun`` starts them.

Gradients are summed as DistributedDataParallel sums them: over all processes, before each update, and once for all
micro-batches of ``--grad_acc``. DistributedDataParallel averages the processes' own means; here each target of the
whole batch has the same weight (common.run.batching), so that the sums are those of one process.
"""

import os

import torch
import torch.distributed

from common.errors import UserError
from common.run import processes
from common.run.launching import place

import kernels

LAUNCHER = "torchrun"


class Group(processes.Processes):
    """The processes that torchrun has started together."""

    def __init__(self, here):
        # Objects and numbers on a processor go through gloo, arrays on a GPU through NCCL, which refuses to start
        # where there is none.
        has_nccl = torch.cuda.is_available() and torch.distributed.is_nccl_available()
        backend = "cpu:gloo,cuda:nccl" if has_nccl else "gloo"
        torch.distributed.init_process_group(backend, rank=here.rank, world_size=here.count)
        self.rank, self.count = here.rank, here.count

    def gather(self, value):
        """Returns what each process gave, in the order of their ranks."""
        values = [None] * self.count
        try:
            torch.distributed.all_gather_object(values, value)
        except RuntimeError:
            raise processes.OthersEnded from None
        return values

    def sum(self, array):
        """Returns the sum of all processes' arrays of one shape."""
        try:
            torch.distributed.all_reduce(array)
        except RuntimeError:
            raise processes.OthersEnded from None
        return array

    def leave(self):
        """Ends the connection, once the run is complete."""
        torch.distributed.destroy_process_group()

    def abort(self, status):
        """Ends this process, upon which torchrun ends the others; the connection would wait for them."""
        os._exit(status)


def join():
    """Makes this process one of those that were started together; one alone stays alone.

    Raises:
        UserError: another launcher has started them.
    """
    here = place()
    if here.count == 1:
        return
    if LAUNCHER not in here.launcher:
        raise UserError(f"{here.launcher} has started {here.count} processes: "
                        f"the PyTorch tree takes torchrun --nproc_per_node={here.count}")
    processes.join(Group(here))


def summed(sums):
    """Returns the sums of gradients, added up over all processes; they are the same bits everywhere."""
    return kernels.unpacked(processes.group().sum(kernels.packed(sums)), sums)
