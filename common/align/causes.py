"""What must be the same in two dumps before their numbers are compared: flags, first weights, batches, masks."""

from collections.abc import Iterable
from dataclasses import dataclass

from common.align.dump import Dump
from common.errors import UserError


@dataclass(frozen=True)
class Cause:
    """One kind of thing that both computations start from.

    Attributes:
        name: for tables.
        count: how many there are, in words.
        first: what is the first that differs, in words; empty where all are the same.
    """

    name: str
    count: str
    first: str

    @property
    def passed(self) -> bool:
        return not self.first


def check_flags(first: Dump, flags: dict, where: str) -> None:
    """Makes sure that a dump is of the run of these flags, those of the file ``where``.

    Raises:
        UserError: it was written with others; the message names the first.
    """
    known = first.meta["flags"]
    for name in [*known, *(name for name in flags if name not in known)]:
        values = [some[name] if name in some else "(no such flag)" for some in (known, flags)]
        if values[0] != values[1]:
            raise UserError(f"{first.path} was written with --{name} {values[0]}, {where} with --{name} {values[1]}: "
                            "two different runs cannot be compared; write both with the same flags")


def find_causes(first: Dump, second: Dump) -> list[Cause]:
    """Compares, by their hashes, what two dumps started from."""
    one, other = first.meta, second.meta
    return [
        Cause("first weights", f"{len(one['weights'])} arrays", first_difference(one["weights"], other["weights"])),
        Cause("weights of the first pass", f"{len(one['probe'])} LoRA arrays",
              first_difference(one["probe"], other["probe"])),
        Cause("batches", f"{len(one['batches'])} steps", first_difference(
            *(steps_by_name(meta["batches"]) for meta in (one, other)))),
        Cause("dropout masks", f"{len(one['masks'])} of {len({mask['layer'] for mask in one['masks']})} layers",
              first_difference(*(masks_by_name(meta["masks"]) for meta in (one, other)))),
        Cause("dropout masks against numpy", "those of common/run/dropout.py", strange_mask(first, second)),
        Cause("contexts of the beam search", f"{len(one['contexts'])}", first_difference(
            *({f"context {number}": digest for number, digest in enumerate(meta["contexts"], 1)}
              for meta in (one, other)))),
        Cause("weights of the beam search", f"{len(one['decoded'])} LoRA arrays",
              first_difference(one["decoded"], other["decoded"])),
    ]


def first_difference(one: dict[str, str], other: dict[str, str]) -> str:
    """Returns the first name whose hashes differ, or that is in one of them alone; empty where there is none."""
    names: Iterable[str] = [*one, *(name for name in other if name not in one)]
    return next((name for name in names if one.get(name) != other.get(name)), "")


def steps_by_name(batches: list[dict]) -> dict[str, str]:
    """Returns ``{step and array in words: hash}``."""
    return {f"{name} of step {step}": digest for step, batch in enumerate(batches, 1) for name, digest in batch.items()}


def masks_by_name(masks: list[dict]) -> dict[str, str]:
    """Returns ``{layer and step in words: hash}``."""
    return {mask_name(mask): mask["sha256"] for mask in masks}


def mask_name(mask: dict) -> str:
    """Returns a mask's layer and step in words."""
    return f"{mask['layer']} in step {mask['step']}"


def strange_mask(*dumps: Dump) -> str:
    """Returns the first mask that is not numpy's, in words; empty where all are."""
    for dump in dumps:
        for mask in dump.meta["masks"]:
            if mask["sha256"] != mask["twin"]:
                return f"{mask_name(mask)}, {dump.meta['description']['framework']}"
    return ""
