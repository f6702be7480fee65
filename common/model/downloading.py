"""Downloads or copies pretrained backbones to pretrained_checkpoints/<name>/, each checked before it is written.

    bash scripts/download_pretrained_checkpoints.sh [gpt2|gpt2-medium|gpt2-large|gpt2-xl|bert-base-uncased|
                                                     chatglm2-6b]... [--source DIR]

Without --source they come from the Hugging Face hub (but for gpt2-xl and chatglm2-6b), in one revision, each file
compared with the checksum that the hub gives for it, through its cache: an interrupted download continues where it
stopped. With --source they are copied from DIR/<name>/ (model.safetensors or pytorch_model.bin, in one file or in
shards with their index; BERT's vocab.txt or ChatGLM2's tokenizer.model beside them) or from
DIR/<name>-pytorch_model.bin. SHA256SUMS beside them records what was written. A valid backbone that is already there is
left unchanged.
"""

import argparse
import hashlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import tqdm

from common.checks import printable
from common.data.chatglm_tokenizer import FILE as TOKENIZER
from common.data.chatglm_tokenizer import ChatGLMTokenizer
from common.errors import UserError, note
from common.files import atomic_write, read_lines, sha256_of, write_json
from common.model.bert_cards import BERT_CARDS, BertCard
from common.model.bert_files import read_bert
from common.model.chatglm_cards import CHATGLM_CARDS, ChatGLMCard
from common.model.chatglm_weights import stream_backbone
from common.model.checkpoint import check_shapes
from common.model.huggingface_files import config_of
from common.model.model_cards import MODEL_CARDS, ModelCard, backbone_shapes
from common.model.weight_files import FOLDER_FILES, read_arrays, resolve_checkpoint, shard_files
from common.paths import PRETRAINED

REPOSITORY_OWNER = "openai-community"
VOCABULARY = "vocab.txt"


@dataclass(frozen=True)
class Published:
    """One revision of a model on the hub.

    Attributes:
        revision: the commit's id; without one the model can only be copied.
        sha256: of its model.safetensors, where it is known here too.
        owner: whose repository it is in.
        more: further files that come with it.
    """

    revision: str | None
    sha256: str | None = None
    owner: str = REPOSITORY_OWNER
    more: tuple[str, ...] = ()


PUBLISHED = {
    "gpt2": Published("607a30d783dfa663caf39e06633721c8d4cfcd7e",
                      "248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707"),
    "gpt2-medium": Published("6dcaa7a952f72f9298047fd5137cd6e4f05f41da"),
    "gpt2-large": Published("32b71b12589c2f8d625668d2335a01cac3249519"),
    "gpt2-xl": Published(None),
    "bert-base-uncased": Published("86b5e0934494bd15c9632b12f734a8a67f723594", owner="google-bert",
                                   more=(VOCABULARY,)),
    "chatglm2-6b": Published(None, owner="THUDM", more=(TOKENIZER,)),
}
WEIGHTS, CONFIG, SUMS = "model.safetensors", "config.json", "SHA256SUMS"
# The nano models are part of this repository, bert.minilm a Python package.
CARDS = {card.folder: card for card in (*MODEL_CARDS.values(), *BERT_CARDS.values(), *CHATGLM_CARDS.values())
         if card.name not in ("gpt2.nano", "bert.minilm", "chatglm2.nano")}
CHUNK_BYTES = 1 << 24


def provide(name: str, source: str | None) -> None:
    """Downloads a backbone and its config.json, or copies them from ``source``, unless a valid one is there.

    Args:
        name: its folder's name, of CARDS.
        source: what ``--source`` names, or None.

    Raises:
        UserError: nothing was found, or its arrays do not fit the model card; the folder is then unchanged.
    """
    folder = PRETRAINED / name
    if any((folder / file).exists() for file in FOLDER_FILES):
        path = resolve_checkpoint(folder)
        try:
            check(name, path)
        except UserError as error:
            raise UserError(f"{error}; {folder} was not changed: delete it and run this again") from error
        print(f"{path}: there and valid")
        return
    weights, config = find_source(name, source) if source else download(name)
    check(name, weights)
    for more in PUBLISHED[name].more:
        install(os.path.join(os.path.dirname(weights), more), folder / more, may_link=False)
    if config:
        install(config, folder / CONFIG, may_link=False)
    elif isinstance(CARDS[name], ModelCard):
        write_json(folder / CONFIG, config_of(CARDS[name]))
    files = {os.path.basename(file).removeprefix(f"{name}-"): file
             for file in [*shard_files(weights), weights]}  # an index comes last: it makes the model complete
    with atomic_write(folder / SUMS) as sums:
        sums.writelines(f"{sha256_of(file)}  {target}\n" for target, file in files.items())
    for target, file in files.items():
        install(file, folder / target, may_link=not source)
    print(f"{resolve_checkpoint(folder)}: {'copied' if source else 'downloaded'} and valid")


def check(name: str, path: str) -> None:
    """Checks that a model's files are those that SHA256SUMS beside it records, and hold the model card's arrays.

    A model.safetensors that is not the published one is said to be another.

    Raises:
        UserError: they are not.
    """
    sums = Path(path).with_name(SUMS)
    recorded = dict(line.split()[::-1] for _, line in read_lines(sums) if len(line.split()) == 2
                    ) if sums.is_file() else {}
    for file in dict.fromkeys([*shard_files(path), path]):
        expected = recorded.get(os.path.basename(file))
        if expected and sha256_of(file) != expected:
            raise UserError(f"{file}: has changed since it was checked: its sha256 is not the {expected} in {sums}")
    card = CARDS[name]
    if isinstance(card, BertCard):
        read_bert(path, card)
    elif isinstance(card, ChatGLMCard):
        ChatGLMTokenizer(Path(path).with_name(TOKENIZER), card.pieces)
        for _ in stream_backbone(path, card):
            pass
    else:
        check_shapes(read_arrays(path), backbone_shapes(card), path)
    published = PUBLISHED[name].sha256
    if published and os.path.basename(path) == WEIGHTS and sha256_of(path) != published:
        note(f"{path}: has the arrays of {name}, but is not the published file, whose sha256 is {published}")


def find_source(name: str, source: str) -> tuple[str, str | None]:
    """Returns the paths of a model file and of its config.json, or None for the latter, under ``source``.

    Raises:
        UserError: there is no model file; the message lists the paths tried.
    """
    candidates = [os.path.join(source, name, file) for file in FOLDER_FILES]
    candidates.append(os.path.join(source, f"{name}-pytorch_model.bin"))
    for candidate in candidates:
        if os.path.isfile(candidate):
            for more in PUBLISHED[name].more:
                if not os.path.isfile(os.path.join(os.path.dirname(candidate), more)):
                    raise UserError(f"{candidate}: there is no {more} beside it, which {name} needs")
            config = os.path.join(os.path.dirname(candidate), "config.json")
            has_config = os.path.basename(os.path.dirname(candidate)) == name and os.path.isfile(config)
            return candidate, config if has_config else None
    raise UserError(f"--source {source}: no {name} there; expected one of " + ", ".join(candidates))


def download(name: str) -> tuple[str, str]:
    """Downloads the model file and config.json to the Hugging Face cache, unless they are there; returns their paths.

    Raises:
        UserError: the hub cannot be reached or refuses, or what came is not what the hub has.
    """
    import huggingface_hub  # importing it takes a second, which --source and --help should not cost

    published = PUBLISHED[name]
    repository, revision = f"{published.owner}/{name}", published.revision
    if revision is None:
        raise UserError(f"{repository}: no revision of it is known here; download its weights and "
                        f"{', '.join((*published.more, CONFIG))} to DIR/{name}/ and run: bash "
                        f"scripts/download_pretrained_checkpoints.sh {name} --source DIR")
    print(f"{repository}: downloading revision {revision}", file=sys.stderr)
    try:
        paths, checksums = {}, {}
        for file in (WEIGHTS, CONFIG, *published.more):
            paths[file] = huggingface_hub.hf_hub_download(repository, file, revision=revision)
            url = huggingface_hub.hf_hub_url(repository, file, revision=revision)
            checksums[file] = huggingface_hub.get_hf_file_metadata(url).etag or ""
    except Exception as error:  # the hub's client and the network layers raise many kinds
        cause: BaseException = error
        while deeper := cause.__cause__ or cause.__context__:
            cause = deeper
        reason = (str(cause).strip() or type(cause).__name__).splitlines()[0]
        files = ", ".join((WEIGHTS, *published.more)) + f" and {CONFIG}"
        raise UserError(f"{repository} could not be downloaded ({reason}); check the connection and run this again, or "
                        f"copy that repository's {files} from another machine to DIR/{name}/ and run: bash "
                        f"scripts/download_pretrained_checkpoints.sh {name} --source DIR") from error
    for file, path in paths.items():
        check_download(path, checksums[file])
    return paths[WEIGHTS], paths[CONFIG]


def check_download(path: str, checksum: str) -> None:
    """Checks a file against what the hub gives for it: the SHA-256 of a large file, git's id of a small one.

    Raises:
        UserError: it is another file.
    """
    if len(checksum) == 40:  # git's id is the SHA-1 of a header and the content
        content = Path(path).read_bytes()
        found = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    else:
        found = sha256_of(path)
    if found != checksum:
        raise UserError(f"{os.path.realpath(path)}: the download is damaged: its checksum is {found}, and the hub "
                        f"gives {printable(checksum) or 'none'}; delete it and run this again")


def install(source: str, target: Path, may_link: bool) -> None:
    """Makes ``target`` a hard link to ``source`` if ``may_link`` and the file system can, otherwise an atomic copy."""
    os.makedirs(target.parent, exist_ok=True)
    if may_link:
        try:
            os.link(os.path.realpath(source), target)
            return
        except OSError:  # another file system, or one without hard links
            pass
    size = os.path.getsize(source)
    with open(source, "rb") as read, atomic_write(target, "wb") as written:
        with tqdm.tqdm(total=size, unit="B", unit_scale=True, desc=target.name, disable=size < CHUNK_BYTES) as bar:
            while chunk := read.read(CHUNK_BYTES):
                written.write(chunk)
                bar.update(len(chunk))


def main(argv: list[str]) -> None:
    """Downloads or copies the backbones that the command line names."""
    parser = argparse.ArgumentParser(prog="download_pretrained_checkpoints.sh", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(CARDS)}; by default gpt2-medium")
    parser.add_argument("--source", metavar="DIR", help="copy from this folder instead of downloading")
    arguments = parser.parse_args(argv)
    unknown = [name for name in arguments.names if name not in CARDS]
    if unknown:
        raise UserError(f"{', '.join(unknown)}: unknown; expected names of {', '.join(CARDS)}")
    if arguments.source and not os.path.isdir(arguments.source):
        raise UserError(f"--source {arguments.source}: no such folder")
    for name in arguments.names or ["gpt2-medium"]:
        provide(name, arguments.source)
