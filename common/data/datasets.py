"""Downloads E2E, WebNLG, DART and SQuAD, checks, converts and encodes them.

    bash scripts/create_datasets.sh [e2e|webnlg|dart|squad|all] [--source DIR]

Raw files come from ``DIR/{e2e,webnlg_challenge_2017,dart,squad}/`` (gzipped or not) or, without ``--source``, from the
public microsoft/LoRA repository and SQuAD's own pages. For each split, ``data/SET/SPLIT_formatted.jsonl`` (text) and
``data/SET/SPLIT.jsonl`` (ids, with BOS and EOS) are written beside the raw file. Splits that are done already and
unchanged are skipped.
"""

import argparse
import contextlib
import dataclasses
import hashlib
import http.client
import json
import os
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

from tqdm import tqdm

from common.checks import at_least_one
from common.data.converting import convert_dart, convert_e2e, convert_webnlg
from common.data.encoding import encode_file
from common.data.squad import EVAL_LEN, SEQ_LEN, convert_squad, read_questions
from common.data.strata import FOLDERS
from common.data.tokenizer import load_tokenizer
from common.errors import UserError, note
from common.files import (
    atomic_write,
    check_outputs,
    find_input,
    open_bytes,
    read_json,
    sha256_of,
    write_json,
    write_json_lines,
)
from common.paths import ROOT

UPSTREAM = "https://raw.githubusercontent.com/microsoft/LoRA/main/examples/NLG/data"
SQUAD_UPSTREAM = "https://rajpurkar.github.io/SQuAD-explorer/dataset"
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
CONVERTERS: dict[str, Callable[[str], Iterator[dict[str, Any]]]] = {
    "e2e": convert_e2e, "webnlg": convert_webnlg, "dart": convert_dart}


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
        UserError: it cannot be unpacked, or is larger than any raw file.
    """
    with open_bytes(path) as file:
        content = file.read(LARGEST_RAW_BYTES + 1)
    if len(content) > LARGEST_RAW_BYTES:
        raise UserError(f"{path}: holds more than {LARGEST_RAW_BYTES >> 20} MiB, more than any file of these data sets")
    return content


def download(url: str) -> bytes:
    """Returns the bytes at ``url``, with a progress bar.

    Raises:
        OSError, http.client.HTTPException: the network or the server fails.
    """
    with urllib.request.urlopen(url, timeout=30) as response:
        total = response.headers.get("Content-Length")
        total = int(total) if total else None
        chunks, received = [], 0
        with tqdm(total=total, desc=url.rsplit("/", 1)[-1], unit="B", unit_scale=True) as progress:
            while chunk := response.read(1 << 16):
                chunks.append(chunk)
                progress.update(len(chunk))
                received += len(chunk)
                if received > LARGEST_RAW_BYTES:
                    raise OSError(f"received more than {LARGEST_RAW_BYTES >> 20} MiB, more than any of these files has")
    content = b"".join(chunks)
    if total is not None and received != total:
        raise OSError(f"received {received} bytes, expected {total}")
    return content


def download_published(name: str, raw_file: RawFile) -> bytes:
    """Downloads a published file of the data set ``name`` and returns its bytes.

    Raises:
        UserError: the network or the server fails, or the file is not the published one.
    """
    base = f"{SQUAD_UPSTREAM}/" if name == "squad" else f"{UPSTREAM}/{FOLDERS[name]}/"
    url = base + raw_file.name
    try:
        content = download(url)
    except (OSError, http.client.HTTPException) as error:
        files = ", ".join(dict.fromkeys(file.name for file in RAW_FILES[name].values()))
        raise UserError(
            f"cannot download {url}: {error}\nWithout network: download {files} from {base} on another machine, put "
            f"them into DIR/{FOLDERS[name]}/ (gzipped or not) and run `bash scripts/create_datasets.sh {name} --source "
            f"DIR`"
        ) from error
    if judge(raw_file, raw_file.name, content) != "" or (
            raw_file.rows_sha256 and rows_digest(name, content) != raw_file.rows_sha256):
        raise UserError(f"{url}: the download is not the published file: sha256 {hashlib.sha256(content).hexdigest()}, "
                        f"expected {published_digest(raw_file)}; try again")
    return content


def rows_digest(name: str, content: bytes) -> str:
    """Returns the SHA-256 of the formatted lines that a raw file of the data set ``name`` is converted to.

    Raises:
        UserError: it cannot be converted.
    """
    digest = hashlib.sha256()
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        for record in CONVERTERS[name](file.name):
            digest.update((json.dumps(record, ensure_ascii=False) + "\n").encode())
    return digest.hexdigest()


def find_raw(folder: str, raw_file: RawFile) -> str | None:
    """Returns the path of the raw file, or of a variant, in ``folder``; None if there is none."""
    for name in (raw_file.name, *raw_file.variants):
        try:
            return find_input(os.path.join(folder, name))
        except UserError:
            continue
    return None


def check_inside(path: str, folder: str) -> None:
    """Raises UserError if ``path`` is a link that leads out of ``folder``: who made it may not be who reads it."""
    real, root = os.path.realpath(path), os.path.realpath(folder)
    if os.path.commonpath((real, root)) != root:
        raise UserError(f"{path}: is a link to {real}, outside of --source {folder}; put the file itself there")


def check_readable(name: str, path: str) -> None:
    """Raises UserError unless a raw file of the data set ``name`` can be converted."""
    records = read_questions(path) if name == "squad" else CONVERTERS[name](path)
    for _ in at_least_one(records, path):
        pass


@contextlib.contextmanager
def as_private_as(path: str) -> Iterator[None]:
    """During the block, new files give other users no permission that ``path`` does not give."""
    umask = os.umask(0o077)
    try:
        os.umask(umask | 0o077 & ~os.stat(path).st_mode)
        yield
    finally:
        os.umask(umask)


def obtain_raw(name: str, split: str, folder: str, source: str | None) -> str:
    """Copies or downloads the raw file of a split into ``folder``, unless it is there, and returns its path.

    Args:
        name: ``e2e``, ``webnlg``, ``dart`` or ``squad``.
        split: ``train``, ``valid`` or ``test``.
        folder: the data set's folder under data/.
        source: the folder with the data sets' folders, or None to use ``folder``'s own file or else download it.

    Raises:
        UserError: the file is missing in ``source``, is a link out of it, cannot be unpacked or has another layout, or
            the download fails; nothing is copied then.
    """
    raw_file = RAW_FILES[name][split]
    origin = os.path.join(source, FOLDERS[name]) if source else folder
    found = find_raw(origin, raw_file)
    if source and not found:
        raise UserError(f"{os.path.join(origin, raw_file.name)}: no such file (nor .gz); --source expects the folder "
                        f"that has {', '.join(FOLDERS.values())}")
    if source:
        check_inside(found, source)
    content = read_raw(found) if found else download_published(name, raw_file)
    raw_name = os.path.basename(found).removesuffix(".gz") if found else raw_file.name
    remark = judge(raw_file, raw_name, content)
    if remark is None:
        check_readable(name, found)
        remark = (f"NOT the published file (sha256 {hashlib.sha256(content).hexdigest()}, expected "
                  f"{published_digest(raw_file)}); used as it is")
    if remark:
        note(f"{name} {split}: {found}: {remark}")
    target = os.path.join(folder, raw_name)
    if not os.path.isfile(target) or sha256_of(target) != hashlib.sha256(content).hexdigest():
        with as_private_as(found) if found else contextlib.nullcontext(), atomic_write(target, "wb") as file:
            file.write(content)
    return target


def create_split(name: str, split: str, folder: str, raw: str, vocab: str, done: dict[str, Any] | None,
                 window: dict[str, int]) -> dict[str, Any]:
    """Converts and encodes one split unless ``done`` shows that its files come from this raw file and are unchanged.

    Args:
        name, split, folder: as for ``obtain_raw``.
        raw: path of the raw file.
        vocab: folder of the vocabulary.
        done: what this function returned last time, or None.
        window: ``{"seq_len", "eval_len"}`` for SQuAD, whose passages are shortened to fit; ``{}`` for other sets.

    Returns:
        ``{"raw", "rows", "sha256": {name of each file: hexadecimal}}`` and ``window``.
    """
    paths = {key: os.path.join(folder, split + suffix) for key, suffix in
             (("formatted", "_formatted.jsonl"), ("encoded", ".jsonl"))}
    files = (raw, paths["formatted"], paths["encoded"])
    if (done and all(done.get(key) == value for key, value in window.items())
            and all(os.path.isfile(path) and done["sha256"].get(os.path.basename(path)) == sha256_of(path)
                    for path in files)):
        print(f"{paths['encoded']}: {done['rows']} rows, done already")
        return done
    tokenizer = load_tokenizer(vocab)
    records = convert_squad(raw, split, tokenizer, **window) if name == "squad" else CONVERTERS[name](raw)
    records = tqdm(records, f"{name} {split}", unit=" rows", mininterval=0.5)
    check_outputs([paths["formatted"], paths["encoded"]], [raw])
    with as_private_as(raw):
        rows = write_json_lines(paths["formatted"], at_least_one(records, raw))
        encode_file(tokenizer, paths["formatted"], paths["encoded"])
    print(f"{paths['encoded']}: {rows} rows")
    return {"raw": os.path.basename(raw), "rows": rows, **window,
            "sha256": {os.path.basename(path): sha256_of(path) for path in files}}


def create_dataset(name: str, source: str | None, data: str, vocab: str, window: dict[str, int]) -> None:
    """Obtains, converts and encodes the three splits; ``data/SET/created.json`` records what was made from what."""
    folder = os.path.join(data, FOLDERS[name])
    record_path = os.path.join(folder, "created.json")
    record = {}
    if os.path.isfile(record_path):
        try:
            record = read_json(record_path, {str: {"rows": int, "sha256": {str: str}}})
        except UserError as error:
            note(f"{error}; every split is made again")
    for split in RAW_FILES[name]:
        raw = obtain_raw(name, split, folder, source)
        made = create_split(name, split, folder, raw, vocab, record.get(split), window if name == "squad" else {})
        if made is not record.get(split):
            record[split] = made
            write_json(record_path, record)


def main(argv: list[str]) -> None:
    """Creates the data sets that the command line names."""
    parser = argparse.ArgumentParser(prog="create_datasets.sh", description=__doc__.split("\n")[0])
    parser.add_argument("dataset", nargs="?", default="all", choices=(*FOLDERS, "all"), help="default: all")
    parser.add_argument("--source", metavar="DIR", help="folder with e2e/, webnlg_challenge_2017/, dart/, squad/; "
                                                        "default: what data/ has, else download")
    parser.add_argument("--data", default=os.path.join(ROOT, "data"), help="where to write (default: data/)")
    parser.add_argument("--vocab", default=os.path.join(ROOT, "vocab"), help="folder with encoder.json and vocab.bpe")
    parser.add_argument("--seq_len", type=int, default=SEQ_LEN,
                        help=f"SQuAD: passages are shortened so that rows have at most so many tokens ({SEQ_LEN})")
    parser.add_argument("--eval_len", type=int, default=EVAL_LEN,
                        help=f"SQuAD: tokens that are left for an answer ({EVAL_LEN})")
    args = parser.parse_args(argv)
    if args.source and not os.path.isdir(args.source):
        raise UserError(f"--source {args.source}: no such folder")
    load_tokenizer(args.vocab)
    for name in FOLDERS if args.dataset == "all" else (args.dataset,):
        create_dataset(name, args.source, args.data, args.vocab, {"seq_len": args.seq_len, "eval_len": args.eval_len})
