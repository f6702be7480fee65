"""What a beam search that was cut off leaves for the next one: finished batches of contexts, one a line, beside its
output."""

import contextlib
import dataclasses
import glob
import hashlib
import json
import os
import time
import zlib

import numpy as np

from common.checks import parse_json
from common.errors import note
from common.locks import exclusive
from common.model.checkpoint import backbone_hash
from common.model.initial_weights import RANDOM
from common.model.weight_files import resolve_checkpoint
from common.run import processes

ENDING = ".partial"


class Nothing:
    """Keeps no batch: what the search of an output that is no file, or of a test, has in place of a PartialSearch."""

    finished: dict = {}

    def add(self, number, outputs, scores):
        """Takes in a batch."""


class PartialSearch:
    """The finished batches of a search, of whichever process; each process writes down its own.

    Args:
        path: the output file.
        digest: of digest_of_search; what another search has left is not used.

    Attributes:
        finished: ``{number of a batch: (outputs, scores)}``, int arrays and floats, of those that an earlier process
            has searched; the same in all processes.
        seconds: how long it took them, as far as that is known.
    """

    def __init__(self, path, digest):
        self.path, self.digest, self.begun = path, digest, time.perf_counter()
        rank = processes.rank()
        self.mine = path + ENDING + (str(rank) if rank else "")
        read = {each: read_partial(each, digest) for each in self.files()}
        kept_bytes = read[self.mine][2] if self.mine in read else 0
        found = [each for one in processes.gather(list(read.values())) for each in one]
        self.finished = {number: batch for batches, *_ in found for number, batch in batches.items()}
        self.seconds = max([seconds for _, seconds, _ in found], default=0.0)
        self.file = open(self.mine, "r+b" if kept_bytes else "wb")
        self.file.truncate(kept_bytes)
        self.file.seek(kept_bytes)
        if not kept_bytes:
            self.write({"digest": digest})

    def files(self):
        """Returns the paths of all processes' files."""
        return sorted(glob.glob(glob.escape(self.path + ENDING) + "*"))

    def write(self, record):
        text = json.dumps(record, allow_nan=False)
        self.file.write(f"{text}\t{zlib.crc32(text.encode())}\n".encode())
        self.file.flush()

    def add(self, number, outputs, scores):
        """Writes down a batch that this process has searched."""
        self.write({"batch": number, "outputs": [output.tolist() for output in outputs],
                    "scores": [float(score) for score in scores],
                    "seconds": self.seconds + time.perf_counter() - self.begun})

    def remove(self):
        """Removes all processes' files, once the output is complete."""
        self.file.close()
        processes.gather(None)
        if processes.is_first():
            for path in self.files():
                os.unlink(path)


def read_partial(path, digest):
    """Reads a file of a PartialSearch.

    Returns:
        ``(batches, seconds, kept_bytes)``: what PartialSearch has of them, and how many bytes are of whole lines; none
        of another search's.
    """
    batches, seconds, kept_bytes = {}, 0.0, 0
    with open(path, "rb") as file:
        for line in file:
            text, _, crc = line.rpartition(b"\t")
            if crc != b"%d\n" % zlib.crc32(text):
                note(f"{path}: what stands behind its first {kept_bytes} bytes is damaged or was cut off, and is "
                     "searched again")
                break
            record = parse_json(text.decode(), path)
            if kept_bytes == 0 and record != {"digest": digest}:
                note(f"{path}: is of a search of other contexts, weights or flags, and is not used")
                break
            kept_bytes += len(line)
            if "batch" in record:
                batches[record["batch"]] = ([np.array(output, np.int64) for output in record["outputs"]],
                                            record["scores"])
                seconds = record["seconds"]
    return batches, seconds, kept_bytes


def digest_of_search(arguments, model, contexts, settings):
    """Returns the SHA-256 of all that decides a search's outputs, and in which batches they are found.

    Args:
        arguments: of common.run.arguments.beam_arguments.
        model: SearchModel.
        contexts: list of lists of token ids.
        settings: SearchSettings.
    """
    files = [path if path in (None, RANDOM) else backbone_hash(resolve_checkpoint(path))
             for path in (arguments.init_checkpoint, arguments.lora_checkpoint)]
    parts = [contexts, dataclasses.asdict(settings), arguments.batch_size, model.description, files,
             repr(arguments.lora), arguments.random_seed]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@contextlib.contextmanager
def alone_with(path):
    """Keeps other searches away from an output file for the length of a block; the first of several processes does.

    Raises:
        UserError: another search is writing there; the message names its process.
    """
    if not processes.is_first():
        yield
        return
    folder, name = os.path.split(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    with exclusive(os.path.join(folder, f".{name[:40]}.search"), path,
                   "wait until it has ended, or give another --output_file"):
        yield
