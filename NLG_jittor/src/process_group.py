"""What several processes of a run tell each other, through MPI; ``mpirun`` starts them.

Gradients are summed on the host, for LoRA's are few: over all processes, before each update, and once for all
micro-batches of ``--grad_acc``. Each target of the whole batch has the same weight (common.run.batching), so that the
sums are those of one process. Jittor's own MPI and NCCL, for which it would need a compiler of theirs, stay off.
"""

import sys

import jittor as jt
import numpy as np

from common.errors import UserError
from common.run import processes
from common.run.launching import place

import kernels

LAUNCHER = "mpirun"


class Group(processes.Processes):
    """The processes that mpirun has started together."""

    def __init__(self, here):
        try:
            from mpi4py import MPI
        except (ImportError, RuntimeError) as error:  # RuntimeError: no MPI library
            raise UserError(f"mpirun has started {here.count} processes, which need mpi4py and an MPI library "
                            f"({str(error).splitlines()[0]}): bash scripts/setup.sh jittor, or pip install mpi4py "
                            "mpich") from None
        self.communicator, self.plus = MPI.COMM_WORLD, MPI.SUM
        if (self.communicator.rank, self.communicator.size) != (here.rank, here.count):
            library = MPI.Get_library_version().splitlines()[0].strip()
            raise UserError(f"mpirun has started {here.count} processes, and mpi4py's library ({library}) knows of "
                            f"{self.communicator.size}: mpirun is another library's; the one of this environment is "
                            f"{sys.prefix}/bin/mpirun")
        self.rank, self.count = here.rank, here.count

    def gather(self, value):
        """Returns what each process gave, in the order of their ranks."""
        try:
            return self.communicator.allgather(value)
        except RuntimeError:
            raise processes.OthersEnded from None

    def sum(self, array):
        """Returns the sum of all processes' arrays of one shape."""
        mine = array.numpy()
        total = np.empty_like(mine)
        try:
            self.communicator.Allreduce(mine, total, op=self.plus)
        except RuntimeError:
            raise processes.OthersEnded from None
        return jt.array(total)

    def leave(self):
        """Waits for the others, once the run is complete."""
        self.communicator.Barrier()

    def abort(self, status):
        """Ends all processes."""
        self.communicator.Abort(status)


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
                        f"the Jittor tree takes mpirun -np {here.count}")
    processes.join(Group(here))


def summed(sums):
    """Returns the sums of gradients, added up over all processes; they are the same bits everywhere."""
    return kernels.unpacked(processes.group().sum(kernels.packed(sums)), sums)
