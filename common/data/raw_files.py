"""The published files of the data sets: how each is recognised, found in a folder and read."""

import dataclasses
import hashlib
import os

from common.errors import UserError
from common.files import find_input, open_bytes

LARGEST_RAW_BYTES = 1 << 28  # of an unpacked file; the largest published one has a ninth of it


@dataclasses.dataclass(frozen=True)
class RawFile:
    """A published file and how to recognize it.

    Attributes:
        name: its name in its data set's folder.
        sha256: of the published file; None if only git's id of it is known.
        blob: first hexadecimal digits of git's id of the published file (SHA-1 of a header and the file).
        rows_sha256: beside ``blob``, of the rows that the published file is converted to.
        variants: ``{name: {sha256: remark}}`` of other copies that are accepted; the remark is printed.
    """

    name: str
    sha256: str | None = None
    blob: str | None = None
    rows_sha256: str | None = None
    variants: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)


SQUAD_TRAIN = RawFile("train-v1.1.json", "3527663986b8295af4f7fcdff1ba1ff3f72d07d61a20f487cb238a6ef92fd955", variants={
    "train-v1.1.rebuilt.json": {
        "e7160d2352412175a0cdde91854dc654a416426c0ea0ef122732b6620d17bdcc":
            "a rebuilt copy: all 87599 questions, passages and answers; the ids are made up, and where an answer "
            "occurs several times in its passage its position was guessed (wrong for about 3 % of the answers)",
    }})

RAW_FILES = {
    "e2e": {
        "train": RawFile("train.txt", "eae319082237310913d9f37f6a891d48fb3f821f29d86870d2cb4f92ddd72c5a"),
        "valid": RawFile("valid.txt", "ba963113c8401d3d26216c0dc0a6dae1ea6ea927de3bf830e32c41f65401c80d"),
        "test": RawFile("test.txt", "81b1bcd40c4f12845ec4eb61a77bf43765d112483cd9b2f91ef10bfc1b3d8f13"),
    },
    "webnlg": {
        "train": RawFile("train.json", "180edb6011360608c8548d4551366a9d55f140cbf9bc9397fbf4d97f6a89c639"),
        "valid": RawFile("dev.json", "50f5a2c24d760bc84ba3e852707cd3b43b0cf2da035b425f87945a2440880488"),
        "test": RawFile("test.json", "2574896b23b5959d1a0cd4bb501ffbeff1a11790a9996c4cb8efed289149ff4f"),
    },
    "dart": {
        "train": RawFile("dart-v1.1.1-full-train.json", blob="66d6ce4a", variants={
            "dart-v1.1.1-full-train.partial.json": {
                "dda4092bcb4082546f0b5afba4d73de57227dc1adab499a2c022a602ffc83a97":
                    "PARTIAL: 54870 of the 62659 published texts (87.6 %); a model trained on it is not "
                    "comparable with one trained on all",
            }}),
        "valid": RawFile("dart-v1.1.1-full-dev.json",
                         "5038f3543b6d59b94ac4e3f69d15a0b01d8578913f862142e7c560200dd6e434"),
        "test": RawFile("dart-v1.1.1-full-test.json", blob="c3de8337", variants={
            "dart-v1.1.1-full-test.json": {
                "5fa46be2f41236c5ac85bf52889318ddf63b55c435c0eff37d94ebf58490b314":
                    "a rebuilt copy: all 12552 texts and their triples, other fields may differ",
            }}, rows_sha256="d865f88a46dac2fb4e7bb1422a9b87cad9de4522832b3fd3fa9ae4ef3ac38c9b"),
    },
    "squad": {
        "train": SQUAD_TRAIN,
        "valid": SQUAD_TRAIN,
        "test": RawFile("dev-v1.1.json", "95aa6a52d5d6a735563366753ca50492a658031da74f301ac5238b03966972c9"),
    },
}


def judge(raw_file: RawFile, name: str, content: bytes) -> str | None:
    """Tells whether a copy is the published file or a known variant.

    Args:
        raw_file: the published file.
        name: the copy's name.
        content: its bytes, unpacked.

    Returns:
        ``""`` for the published file, the remark of a known variant, None for anything else.
    """
    digest = hashlib.sha256(content).hexdigest()
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    if digest == raw_file.sha256 or (raw_file.blob and blob.startswith(raw_file.blob)):
        return ""
    return raw_file.variants.get(name, {}).get(digest)


def published_digest(raw_file: RawFile) -> str:
    """Returns a phrase for messages: the published file's SHA-256 or git's id of it."""
    return raw_file.sha256 or f"git id {raw_file.blob}..."


def read_raw(path: str) -> bytes:
    """Returns a raw file's bytes, unpacked if its name ends in ``.gz``.

    Raises:
        UserError: it is a pipe or a device, cannot be unpacked, or is larger than any raw file.
    """
    if not os.path.isfile(path):
        raise UserError(f"{path}: is a pipe or a device, expected a plain file")
    with open_bytes(path) as file:
        content = file.read(LARGEST_RAW_BYTES + 1)
    if len(content) > LARGEST_RAW_BYTES:
        raise UserError(f"{path}: holds more than {LARGEST_RAW_BYTES >> 20} MiB, more than any file of these data sets")
    return content


def find_raw(folder: str, raw_file: RawFile) -> str | None:
    """Returns the path of the raw file, or of a variant, in ``folder``; None if there is none.

    Raises:
        UserError: what has its name is a folder or leads nowhere.
    """
    for name in (raw_file.name, *raw_file.variants):
        path = os.path.join(folder, name)
        if os.path.lexists(path) or os.path.lexists(f"{path}.gz"):
            return find_input(path)
    return None


def check_inside(path: str, folder: str) -> None:
    """Raises UserError if ``path`` is a link that leads out of ``folder``: who made it may not be who reads it."""
    real, root = os.path.realpath(path), os.path.realpath(folder)
    if os.path.commonpath((real, root)) != root:
        raise UserError(f"{path}: is a link to {real}, outside of --source {folder}; put the file itself there")
