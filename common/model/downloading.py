"""Brings pretrained GPT-2 backbones into pretrained_checkpoints/<name>/, each checked before it takes its place.

    bash scripts/download_pretrained_checkpoints.sh [gpt2|gpt2-medium|gpt2-large]... [--source DIR]

Without --source they come from the Hugging Face hub, through its cache: a download that was cut short goes on where it
stopped. With --source they are copied from DIR/<name>/ (model.safetensors or pytorch_model.bin, in one file or in
parts with their index) or from DIR/<name>-pytorch_model.bin. What is there and valid is left alone.
"""

import argparse
import os
import sys

import tqdm

from common.errors import UserError
from common.files import atomic_write, write_json
from common.model.checkpoint import check_shapes
from common.model.model_cards import MODEL_CARDS, backbone_shapes
from common.model.weight_files import FOLDER_FILES, read_arrays, resolve_checkpoint, shard_files
from common.paths import PRETRAINED

REPOSITORY_OWNER = "openai-community"
# gpt2.nano ships with the repository
CARDS = {card.folder: card for card in MODEL_CARDS.values() if card.name != "gpt2.nano"}
CHUNK_BYTES = 1 << 24


def fetch(name, source):
    """Brings one backbone and its config.json, unless a valid one is there.

    Raises:
        UserError: nothing can be fetched, or what was found does not fit the model card; the folder is then unchanged.
    """
    folder = PRETRAINED / name
    if any((folder / file).exists() for file in FOLDER_FILES):
        path = resolve_checkpoint(folder)
        try:
            check(name, path)
        except UserError as error:
            raise UserError(f"{error}; what lies in {folder} is not touched: delete it and run this again") from error
        print(f"{path}: there and valid")
        return
    weights, config = find_source(name, source) if source else download(name)
    check(name, weights)
    if config:
        place(config, folder / "config.json", may_link=False)
    else:
        write_json(folder / "config.json", config_of(CARDS[name]))
    for part in dict.fromkeys([*shard_files(weights), weights]):  # an index comes last: it makes the model complete
        place(part, folder / os.path.basename(part).removeprefix(f"{name}-"), may_link=not source)
    print(f"{resolve_checkpoint(folder)}: {'copied' if source else 'downloaded'} and valid")


def check(name, path):
    """Raises UserError unless the file holds exactly the arrays of the model card."""
    check_shapes(read_arrays(path), backbone_shapes(CARDS[name]), path)


def find_source(name, source):
    """Returns the paths of a model file and of its config.json, or None for the latter, under ``source``."""
    candidates = [os.path.join(source, name, file) for file in FOLDER_FILES]
    candidates.append(os.path.join(source, f"{name}-pytorch_model.bin"))
    for candidate in candidates:
        if os.path.isfile(candidate):
            config = os.path.join(os.path.dirname(candidate), "config.json")
            has_config = os.path.basename(os.path.dirname(candidate)) == name and os.path.isfile(config)
            return candidate, config if has_config else None
    raise UserError(f"--source {source}: no {name} there; expected one of " + ", ".join(candidates))


def download(name):
    """Fetches both files into the Hugging Face cache, or finds them there, and returns their paths.

    Raises:
        UserError: the hub cannot be reached or refuses.
    """
    import huggingface_hub  # takes a second to import, which --source and --help need not wait for

    print(f"{REPOSITORY_OWNER}/{name}: downloading", file=sys.stderr)
    try:
        return [huggingface_hub.hf_hub_download(f"{REPOSITORY_OWNER}/{name}", file)
                for file in ("model.safetensors", "config.json")]
    except Exception as error:  # the hub's client and the network below it raise many kinds
        cause = error
        while cause.__cause__ or cause.__context__:
            cause = cause.__cause__ or cause.__context__
        reason = (str(cause).strip() or type(cause).__name__).splitlines()[0]
        raise UserError(f"{REPOSITORY_OWNER}/{name} could not be downloaded ({reason}); check the connection and run "
                        f"this again, or bring that repository's model.safetensors and config.json from another "
                        f"machine into DIR/{name}/ and run: bash scripts/download_pretrained_checkpoints.sh {name} "
                        "--source DIR") from error


def place(source, target, may_link):
    """Puts a file where it belongs, whole or not at all: by a link to the cached file where that can be, or a copy."""
    os.makedirs(target.parent, exist_ok=True)
    if may_link:
        try:
            os.link(os.path.realpath(source), target)
            return
        except OSError:  # another file system, or one without links
            pass
    size = os.path.getsize(source)
    with open(source, "rb") as read, atomic_write(target, "wb") as written:
        with tqdm.tqdm(total=size, unit="B", unit_scale=True, desc=target.name, disable=size < CHUNK_BYTES) as bar:
            while chunk := read.read(CHUNK_BYTES):
                written.write(chunk)
                bar.update(len(chunk))


def config_of(card):
    """Returns the config.json by which transformers knows a GPT-2 of these sizes."""
    return {
        "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "activation_function": "gelu_new",
        "vocab_size": card.vocabulary, "n_positions": card.positions, "n_ctx": card.positions, "n_embd": card.width,
        "n_layer": card.layers, "n_head": card.heads, "layer_norm_epsilon": 1e-5, "initializer_range": 0.02,
        "attn_pdrop": 0.1, "embd_pdrop": 0.1, "resid_pdrop": 0.1, "bos_token_id": 50256, "eos_token_id": 50256,
    }


def main(argv: list[str]) -> None:
    """Downloads or copies the backbones that were asked for."""
    parser = argparse.ArgumentParser(prog="download_pretrained_checkpoints.sh", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(CARDS)}; by default gpt2-medium")
    parser.add_argument("--source", metavar="DIR", help="copy from this folder instead of downloading")
    arguments = parser.parse_args(argv)
    unknown = [name for name in arguments.names if name not in CARDS]
    if unknown:
        raise UserError(f"{', '.join(unknown)}: unknown; expected names of {', '.join(CARDS)}")
    if arguments.source and not os.path.isdir(arguments.source):
        raise UserError(f"--source {arguments.source}: no such folder")
    for name in arguments.names or ["gpt2-medium"]:
        fetch(name, arguments.source)
