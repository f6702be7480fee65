"""What several processes of a run tell each other, through MPI; ``mpirun`` starts them.

Gradients are summed on the host, for LoRA's are few: over all processes, before each update, and once for all
micro-batches of ``--grad_acc``. Each target of the whole batch has the same weight (common.run.batching), so that the
sums are those of one process. Jittor's own MPI and NCCL, for which it would need a compiler of theirs, stay off.
"""

import ctypes
import sys
import traceback

import jittor as jt
import numpy as np

from common.errors import UserError
from common.run import processes
from common.run.launching import place

import device
import kernels
from kernel_sources.launch import run

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
        self.communicator = MPI.COMM_WORLD
        if (self.communicator.rank, self.communicator.size) != (here.rank, here.count):
            library = MPI.Get_library_version().splitlines()[0].strip()
            raise UserError(f"mpirun has started {here.count} processes, and mpi4py's library ({library}) knows of "
                            f"{self.communicator.size}: mpirun is another library's; the one of this environment is "
                            f"{sys.prefix}/bin/mpirun")
        self.rank, self.count = here.rank, here.count

        @ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)
        def add_up(address, count):
            try:
                number = np.ctypeslib.as_ctypes_type(device.real_dtype())  # which the flags decide later than this
                pointer = ctypes.cast(address, ctypes.POINTER(number))
                self.communicator.Allreduce(MPI.IN_PLACE, np.ctypeslib.as_array(pointer, (count,)), op=MPI.SUM)
            except BaseException:  # none gets out of here
                traceback.print_exc()
                self.abort(1)
        self.add_up = add_up

    def gather(self, value):
        """Returns what each process gave, in the order of their ranks."""
        jt.sync_all()  # sums that are still to come are computed in the same order everywhere
        try:
            return self.communicator.allgather(value)
        except RuntimeError:
            raise processes.OthersEnded from None

    def sum(self, array):
        """Returns the sum of all processes' arrays of one shape.

        It is an operation like any other, so that the next step is written down while the GPU is at work on the
        gradients. Were they fetched here, the GPU would wait for Python at every step.
        """
        # The address of a function is a whole number below 2^53, which data's float64 holds.
        call = '((void (*)(real*, int64_t))(uintptr_t)data["add_up"])'
        source = f"memcpy(out0_p, in0_p, in0->num * sizeof(real)); {call}(out0_p, in0->num);"
        if device.on_gpu():
            source = ("static real* host = nullptr; static int64_t room = 0; "
                      "const int64_t bytes = in0->num * sizeof(real); "
                      "if (room < bytes) { cudaFreeHost(host); cudaMallocHost((void**)&host, bytes); room = bytes; } "
                      f"cudaMemcpy(host, in0_p, bytes, cudaMemcpyDeviceToHost); {call}(host, in0->num); "
                      "cudaMemcpy(out0_p, host, bytes, cudaMemcpyHostToDevice);")
        total, = run(source, [array], [array.shape], add_up=ctypes.cast(self.add_up, ctypes.c_void_p).value)
        return total

    def leave(self):
        """Waits for the others, once the run is complete."""
        jt.sync_all()
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
