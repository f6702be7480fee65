"""Weights that training and beam search cannot use: damaged, hostile, of another model or with other settings."""

import json
import pickle

import numpy as np
import safetensors.numpy

from common.model.lora_arrays import LoraSettings, initial_lora
from common.model.lora_file import LoraRecord, save_lora
from common.model.model_cards import MODEL_CARDS
from tests.faults.cases import Case
from tests.faults.cases_flags import BASE, BEAM, FILES, TRAIN

RECORD = {"model_card": "gpt2.nano", "lora_dim": 4, "lora_alpha": 32.0, "lora_targets": ["q", "v"], "step": 0,
          "backbone_path": "nowhere.safetensors", "backbone_sha256": "0"}
A = "transformer.h.0.attn.c_attn.lora_A"
ONES = np.ones((8, 192), np.float32)


def arrays(**changes):
    return {**initial_lora(MODEL_CARDS["gpt2.nano"], LoraSettings(), 1), **changes}


def saved(found, record=None):
    """Returns a function that writes arrays and a record's text as they are into a folder."""
    metadata = None if record is None else {"lora_record": record}
    return lambda folder: safetensors.numpy.save_file(found, folder / "lora.safetensors", metadata)


def with_record(**changes):
    return saved(arrays(), json.dumps({**RECORD, **changes}))


def written(damage=lambda content: content, **changes):
    """Returns a function that writes LoRA arrays as training does, and then damages the file."""
    def write(folder):
        path = folder / "lora.safetensors"
        save_lora(path, arrays(), LoraRecord(**{**RECORD, "lora_targets": ("q", "v"), **changes}))
        path.write_bytes(damage(path.read_bytes()))
    return write


def flipped(content):
    return content[:-1] + bytes([content[-1] ^ 1])


# What --lora_checkpoint may name: {name: (what writes it, sentence)}.
LORA = {
    "a flipped bit": (written(flipped), r"lora\.safetensors: is damaged: its checksum is not that of the arrays"),
    "cut off": (written(lambda content: content[:-5]), r"truncated or damaged"),
    "NaN": (saved(arrays(**{A: ONES * np.nan})), r"c_attn\.lora_A holds 1536 of 1536 numbers that are NaN or infinite"),
    "infinite": (saved(arrays(**{A: ONES * np.inf})), r"numbers that are NaN or infinite"),
    "other alpha": (written(lora_alpha=7.0), r"was trained with .*--lora_alpha 7 .* the flags say .*--lora_alpha 32"),
    "other targets": (written(lora_targets=("k", "v")), r"was trained with .* k,v, but the flags say .* q,v"),
    "another model": (written(model_card="gpt2.md"), r"was trained with --model_card gpt2\.md"),
    "a missing layer": (saved({name: array for name, array in arrays().items() if ".h.3." not in name}), r"2 missing"),
    "arrays of PEFT": (saved({f"base_model.model.{name}.weight": array for name, array in arrays().items()}),
                       r"is a name of Hugging Face's PEFT"),
    "no LoRA": (saved({"transformer.wpe.weight": ONES}), r"no lora_A or lora_B among its 1 arrays"),
    "a backbone's array": (saved(arrays(**{"transformer.ln_f.bias": ONES[0]})),
                           r"holds 1 arrays that are neither LoRA's nor those of .*: transformer\.ln_f\.bias"),
    "an ESC sequence": (saved(arrays(**{"a\x1b[2J": ONES})), r"nor those of .*'transformer\.a\\x1b\[2J'"),
    "alpha is text": (with_record(lora_alpha="32"), r'settings: \.lora_alpha is "32", expected a number'),
    "alpha is null": (with_record(lora_alpha=None), r"\.lora_alpha is null"),
    "targets are numbers": (with_record(lora_targets=[1]), r"\.lora_targets\[0\] is 1, expected a string"),
    "backbone is a number": (with_record(backbone_path=5), r"\.backbone_path is 5, expected a string"),
    "record is a list": (saved(arrays(), "[]"), r"the JSON is a list, expected an object"),
    "record is deep": (saved(arrays(), "[" * 100_000), r"its JSON is nested too deeply"),
}


def content(name, data):
    """Returns a file's name and a function that writes it into a folder."""
    return name, lambda folder: (folder / name).write_bytes(data)


# What --init_checkpoint may name: {name: (file, what writes it, sentence)}.
INITIAL = {
    "LoRA whose backbone is gone": ("lora.safetensors", written(), r"its backbone nowhere\.safetensors does not exist"),
    "LoRA without a record": ("lora.safetensors", saved(arrays()), r"does not say which backbone they belong to"),
    "index is a list": (*content("m.index.json", b"[]"), r"the JSON is a list, expected an object"),
    "index leads out": (*content("m.index.json", b'{"weight_map": {"a": "../x"}}'), r"lists \.\./x, expected names of"),
    "a pickle that calls": (*content("a.pt", b"\x80\x02cos\nsystem\n."), r"refused, because it asks for os\.system"),
    "a pickle of 2^60 parts": (*content("a.pt", b"\x80\x02}K\x01\x85" + b"2\x86" * 60 + b"K\x01s."),
                               r"a dictionary with a tuple as a key"),
    "another pickle": (*content("a.pt", pickle.dumps({1: 2})), r"first bytes are not torch's"),
    "a web page": (*content("a.bin", b"<!DOCTYPE html>"), r"neither safetensors nor a torch checkpoint"),
    "Git LFS": (*content("a.bin", b"version https://git-lfs.github.com/spec/v1\n"), r"a Git LFS pointer"),
    "an empty file": (*content("a.pt", b""), r"a\.pt: .*it is empty"),
    "nothing": ("a.bin", lambda folder: None, r"a\.bin: no such checkpoint"),
}


def checkpoints():
    """Yields cases of weights; what is wrong with them is found in beam search as in training."""
    for name, (prepare, sentence) in LORA.items():
        yield Case(f"LoRA: {name}", BEAM, [*BASE[BEAM], "--lora_checkpoint", "lora.safetensors"], sentence, files=FILES,
                   prepare=prepare)
    for name, (path, prepare, sentence) in INITIAL.items():
        yield Case(name, BEAM, [*BASE[BEAM], "--init_checkpoint", path], sentence, files=FILES, prepare=prepare)
    for name, is_process in (("a flipped bit", True), ("NaN", False), ("record is deep", False)):
        prepare, sentence = LORA[name]
        yield Case(f"LoRA: {name}", TRAIN, [*BASE[TRAIN], "--lora_checkpoint", "lora.safetensors"], sentence,
                   files=FILES, prepare=prepare, is_process=is_process)


def folders():
    """Yields cases of folders that cannot be made; they are refused before the weights are read, here none."""
    for program in ("scripts/export_peft.py", "scripts/merge_lora.py"):
        for name, path, sentence in (
                ("empty", "", r"an empty name: expected the name of a folder to make"),
                ("a file", "file", r"file: exists and is not an empty folder"),
                ("inside a file", "file/new", r"file/new: cannot be written: .*file is a file, expected a folder"),
                ("the checkpoint's folder", ".", r"\.: exists and is not an empty folder"),
                ("where no files are", "/proc/new", r"/proc/new: cannot be written: /proc (takes no files: |does not)"),
                ("too long a name", "x" * 256, r"x: File name too long")):
            yield Case(f"folder {name}", program, ["none.safetensors", path], sentence, files={"file": ""})


CASES = [*checkpoints(), *folders()]
