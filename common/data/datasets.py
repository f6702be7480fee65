"""Downloads E2E, WebNLG, DART and SQuAD, checks, converts and encodes them.

    bash scripts/create_datasets.sh [e2e|webnlg|dart|squad|all] [--source DIR]

Raw files come from ``DIR/{e2e,webnlg_challenge_2017,dart,squad}/`` (gzipped or not) or, without ``--source``, from the
public microsoft/LoRA repository and SQuAD's own pages. For each split, ``data/SET/SPLIT_formatted.jsonl`` (text) and
``data/SET/SPLIT.jsonl`` (ids, with BOS and EOS) are written beside the raw file. Splits that are done already and
unchanged are skipped.
"""

import argparse
import contextlib
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
from common.data.raw_files import (
    LARGEST_RAW_BYTES,
    RAW_FILES,
    RawFile,
    check_inside,
    find_raw,
    judge,
    published_digest,
    read_raw,
)
from common.data.squad import EVAL_LEN, SEQ_LEN, convert_squad, read_questions
from common.data.strata import FOLDERS
from common.data.tokenizer import load_tokenizer
from common.errors import UserError, note
from common.files import (
    atomic_write,
    check_output,
    check_outputs,
    is_stream,
    read_json,
    sha256_of,
    write_json,
    write_json_lines,
)
from common.paths import ROOT

UPSTREAM = "https://raw.githubusercontent.com/microsoft/LoRA/main/examples/NLG/data"
SQUAD_UPSTREAM = "https://rajpurkar.github.io/SQuAD-explorer/dataset"
ENDINGS = ("_formatted.jsonl", ".jsonl")  # of a split's files: texts, ids
RECORD = "created.json"
CONVERTERS: dict[str, Callable[[str], Iterator[dict[str, Any]]]] = {
    "e2e": convert_e2e, "webnlg": convert_webnlg, "dart": convert_dart}


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


def find_source(name: str, raw_file: RawFile, source: str) -> str:
    """Returns the path of a raw file of the data set ``name`` in the folder that ``--source`` names.

    Raises:
        UserError: it is not there, is a folder, or is a link that leads nowhere or out of the source.
    """
    origin = os.path.join(source, FOLDERS[name])
    found = find_raw(origin, raw_file)
    if not found:
        raise UserError(f"{os.path.join(origin, raw_file.name)}: no such file (nor .gz); --source expects the folder "
                        f"that has {', '.join(FOLDERS.values())}")
    check_inside(found, source)
    return found


def read_and_judge(name: str, raw_file: RawFile, path: str) -> tuple[bytes, str]:
    """Returns the bytes of a copy of a raw file of the data set ``name``, and a remark where it is another one.

    Raises:
        UserError: it is no plain file, cannot be unpacked, is too large or has another layout.
    """
    content = read_raw(path)
    remark = judge(raw_file, os.path.basename(path).removesuffix(".gz"), content)
    if remark is None:
        check_readable(name, path)
        remark = (f"NOT the published file (sha256 {hashlib.sha256(content).hexdigest()}, expected "
                  f"{published_digest(raw_file)}); used as it is")
    return content, remark


def check_source(name: str, source: str) -> None:
    """Reads all that a data set takes from ``--source``, so that nothing is copied where a part of it is unfit.

    Raises:
        UserError: a raw file is missing or cannot be used.
    """
    for raw_file in {raw_file.name: raw_file for raw_file in RAW_FILES[name].values()}.values():
        read_and_judge(name, raw_file, find_source(name, raw_file, source))


def check_targets(name: str, folder: str) -> None:
    """Checks that what has the name of a file to write is a plain file.

    Raises:
        UserError: it is a folder, a pipe or a device.
    """
    raw_names = [raw_name for raw_file in RAW_FILES[name].values() for raw_name in (raw_file.name, *raw_file.variants)]
    for written in (*raw_names, *(split + ending for split in RAW_FILES[name] for ending in ENDINGS), RECORD):
        path = os.path.join(folder, written)
        check_output(path)
        if is_stream(path):
            raise UserError(f"{path}: is a pipe or a device, expected a plain file; delete it")


def obtain_raw(name: str, split: str, folder: str, source: str | None) -> str:
    """Copies or downloads the raw file of a split into ``folder``, unless it is there, and returns its path.

    Args:
        name: ``e2e``, ``webnlg``, ``dart`` or ``squad``.
        split: ``train``, ``valid`` or ``test``.
        folder: the data set's folder under data/.
        source: the folder with the data sets' folders, or None to use ``folder``'s own file or else download it.

    Raises:
        UserError: the file cannot be used, or the download fails; nothing is copied then.
    """
    raw_file = RAW_FILES[name][split]
    found = find_source(name, raw_file, source) if source else find_raw(folder, raw_file)
    raw_name = os.path.basename(found).removesuffix(".gz") if found else raw_file.name
    content, remark = read_and_judge(name, raw_file, found) if found else (download_published(name, raw_file), "")
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
    paths = {key: os.path.join(folder, split + ending) for key, ending in zip(("formatted", "encoded"), ENDINGS)}
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
    record_path = os.path.join(folder, RECORD)
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
    names = tuple(FOLDERS) if args.dataset == "all" else (args.dataset,)
    for name in names:
        check_targets(name, os.path.join(args.data, FOLDERS[name]))
        if args.source:
            check_source(name, args.source)
    for name in names:
        create_dataset(name, args.source, args.data, args.vocab, {"seq_len": args.seq_len, "eval_len": args.eval_len})
