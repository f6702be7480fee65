"""Pretrains gpt2-nano on SQuAD, WebNLG and DART (without its E2E part), within a given time on one GPU.

    bash scripts/create_datasets.sh all
    python scripts/maintain/pretrain_nano.py --source data --output pretrained_checkpoints/gpt2-nano --minutes 10

``--source`` holds the training files of SQuAD, WebNLG and DART as create_datasets.sh leaves them in data/, gzipped or
not: the published ones, or the copies of them that it accepts. ``--output`` gets model.safetensors (float16, Hugging
Face's names), config.json and log.jsonl. The learning rate follows the clock, so that training ends when the time does;
``--steps`` makes it follow the steps instead, and the run repeatable.
"""

import argparse
import contextlib
import gc
import json
import math
import multiprocessing
import os
import sys
import time
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save
from tqdm import tqdm
from transformers import GPT2Config, GPT2LMHeadModel

from common.data.tokenizer import load_tokenizer
from common.errors import UserError, run_main
from common.files import atomic_write, write_json
from common.model.model_cards import MODEL_CARDS, backbone_shapes
from common.nano.pretraining_data import COMPLETION, CONTEXT, KINDS, draw_chunk, held_out_rows
from common.nano.pretraining_sources import read_sources, source_paths
from common.paths import ROOT

WARMUP_SHARE = 0.02
LOG_INTERVAL = 100
SECONDS_TO_SAVE = 8
CARD = MODEL_CARDS["gpt2.nano"]


def parse_arguments(argv):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--source", required=True, help="folder of the data sets")
    parser.add_argument("--output", required=True, help="folder that gets the checkpoint and the log")
    parser.add_argument("--vocab", default=os.path.relpath(ROOT / "vocab"),
                        help="folder with encoder.json and vocab.bpe")
    parser.add_argument("--minutes", type=float, default=10, help="time for all of it, preparation included")
    parser.add_argument("--steps", type=int, help="train for so many steps instead")
    parser.add_argument("--mixture", default="pairs=0.35,slots=0.45,text=0.2", help="shares of the kinds of document")
    parser.add_argument("--context_weight", type=float, default=0.2,
                        help="weight of a context's tokens in the loss; a completion's is 1")
    parser.add_argument("--width", type=int, default=CARD.width)
    parser.add_argument("--layers", type=int, default=CARD.layers)
    parser.add_argument("--heads", type=int, default=CARD.heads)
    parser.add_argument("--batch_size", type=int, default=32, help="rows of --row_length tokens a step")
    parser.add_argument("--row_length", type=int, default=CARD.positions)
    parser.add_argument("--learning_rate", type=float, default=2e-3)
    parser.add_argument("--weight_decay", type=float, default=0.1)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=110)
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 2),
                        help="processes that write documents")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--no_compile", action="store_true", help="run without torch.compile")
    args = parser.parse_args(argv)
    if args.width % args.heads:
        raise UserError(f"--width {args.width} is not a multiple of --heads {args.heads}")
    if not 16 <= args.row_length <= CARD.positions:
        raise UserError(f"--row_length {args.row_length}: expected 16 to {CARD.positions}, the positions of the model")
    if args.minutes <= 0 or args.batch_size < 1 or (args.steps is not None and args.steps < 1) or args.workers < 1:
        raise UserError("--minutes, --steps, --batch_size and --workers must be above 0")
    args.shares = parse_mixture(args.mixture)
    return args


def parse_mixture(text):
    """``pairs=1,text=1`` as ``{kind: share}`` with a sum of 1."""
    shares = {}
    for part in text.split(","):
        kind, _, value = part.partition("=")
        try:
            shares[kind.strip()] = float(value)
        except ValueError:
            raise UserError(f"--mixture {text!r}: found {part!r}, expected KIND=SHARE") from None
    if not set(shares) <= set(KINDS) or min(shares.values()) < 0 or sum(shares.values()) <= 0:
        raise UserError(f"--mixture {text!r}: expected shares of {', '.join(KINDS)}, of which one is above 0")
    return {kind: share / sum(shares.values()) for kind, share in shares.items() if share > 0}


# ------------------------------------------------------------------------------------------------------------- data

_worker = {}


def _chunk_in_worker(kind, number, seed, row_length):
    return draw_chunk(_worker["sources"], _worker["tokenizer"], kind, number, seed, row_length)


class Batches:
    """Endless batches, (rows, 3, row_length) int32, of which each kind of document gets its share of the rows.

    Worker processes, forked with the sources in memory, write chunks ahead; they are used in order, so that a batch
    depends on the seed alone and not on the number of workers.
    """

    def __init__(self, sources, tokenizer, args):
        _worker.update(sources=sources, tokenizer=tokenizer)
        gc.freeze()  # a collection in a worker would copy every page of the sources
        self.args = args
        self.pool = ProcessPoolExecutor(args.workers, multiprocessing.get_context("fork"))
        self.pending = {kind: deque() for kind in args.shares}
        self.submitted = dict.fromkeys(args.shares, 0)
        self.rows = {kind: np.zeros((0, 3, args.row_length), np.uint16) for kind in args.shares}
        self.owed = dict.fromkeys(args.shares, 0.0)
        for kind in args.shares:
            self._submit(kind)

    def _submit(self, kind):
        ahead = 2 + round(2 * self.args.workers * self.args.shares[kind])
        while len(self.pending[kind]) < ahead:
            self.pending[kind].append(self.pool.submit(
                _chunk_in_worker, kind, self.submitted[kind], self.args.seed, self.args.row_length))
            self.submitted[kind] += 1

    def draw(self):
        for kind, share in self.args.shares.items():
            self.owed[kind] += share * self.args.batch_size
        counts = {kind: int(owed) for kind, owed in self.owed.items()}
        while sum(counts.values()) < self.args.batch_size:
            counts[max(counts, key=lambda kind: self.owed[kind] - counts[kind])] += 1
        parts = []
        for kind, count in counts.items():
            self.owed[kind] -= count
            while len(self.rows[kind]) < count:
                self.rows[kind] = np.concatenate([self.rows[kind], self.pending[kind].popleft().result()])
                self._submit(kind)
            parts.append(self.rows[kind][:count])
            self.rows[kind] = self.rows[kind][count:]
        return np.concatenate(parts).astype(np.int32)

    def close(self):
        self.pool.shutdown(wait=False, cancel_futures=True)


# ------------------------------------------------------------------------------------------------------------ model

def build_model(args):
    config = GPT2Config(vocab_size=CARD.vocabulary, n_positions=CARD.positions, n_embd=args.width, n_layer=args.layers,
                        n_head=args.heads, resid_pdrop=args.dropout, embd_pdrop=args.dropout, attn_pdrop=args.dropout,
                        activation_function="gelu_new", bos_token_id=50256, eos_token_id=50256, use_cache=False)
    config._attn_implementation = "sdpa"
    return GPT2LMHeadModel(config)


def losses(model, batch):
    """Loss at each position of a batch of packed rows.

    A token attends to the tokens before it in its own document alone, and positions count from the document's start:
    just what fine-tuning will give the model.

    Args:
        batch: int tensor (rows, 3, row_length) of ids, positions and flags, see ``common.nano.pretraining_data.pack``.

    Returns:
        nll, float32 (rows, row_length - 1), and the flag of each predicted token (``PADDING``: does not count).
    """
    ids, positions, flags = batch.long().unbind(1)
    document = (positions == 0).cumsum(1)
    length = ids.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=ids.device).tril()
    mask = (document[:, :, None] == document[:, None, :]) & causal
    hidden = model.transformer(ids, position_ids=positions, attention_mask=mask[:, None]).last_hidden_state
    logits = model.lm_head(hidden[:, :-1])
    nll = F.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    return nll.view(len(ids), -1), flags[:, 1:] * (positions[:, 1:] > 0)


def training_loss(model, batch, context_weight):
    nll, flags = losses(model, batch)
    completion = (flags == COMPLETION).float()
    weight = completion + context_weight * (flags == CONTEXT).float()
    return (nll * weight).sum() / weight.sum().clamp(min=1), (nll * completion).sum() / completion.sum().clamp(min=1)


def compiled_or_eager(function, example, quiet):
    """``torch.compile(function)``, tried once on the arguments ``example``; where it fails, the function as it is."""
    if quiet:
        return function
    compiled = torch.compile(function, dynamic=False)
    try:
        compiled(*example)[0].backward()
        return compiled
    except Exception as error:  # whatever a compiler, a driver or a missing header raises
        print(f"torch.compile is of no use here ({type(error).__name__}: {str(error)[:300]}); going on without",
              file=sys.stderr)
        torch._dynamo.reset()
        return function


def build_optimizer(model, args):
    matrices = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() < 2]
    return torch.optim.AdamW([{"params": matrices, "weight_decay": args.weight_decay},
                              {"params": others, "weight_decay": 0.0}],
                             lr=args.learning_rate, betas=(0.9, 0.98), eps=1e-8, fused=args.device.startswith("cuda"))


def rate_at(progress):
    """Learning rate, as a share of the highest, at a share of the training: warm-up, then a cosine down to 0."""
    if progress < WARMUP_SHARE:
        return progress / WARMUP_SHARE
    return 0.5 * (1 + math.cos(math.pi * (progress - WARMUP_SHARE) / (1 - WARMUP_SHARE)))


# --------------------------------------------------------------------------------------------------------- training

def train(model, batches, held_out, args, deadline, log):
    """Trains until the deadline (``time.monotonic`` seconds) or for ``args.steps``; returns ``(steps, tokens)``."""
    device = torch.device(args.device)
    cast = (lambda: torch.autocast(device.type, torch.bfloat16)) if device.type == "cuda" else contextlib.nullcontext
    optimizer = build_optimizer(model, args)

    def on_device(rows):
        rows = torch.from_numpy(rows)
        return rows.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else rows

    batch = on_device(batches.draw())
    with cast():
        loss_of = compiled_or_eager(training_loss, (model, batch, args.context_weight), args.no_compile)
    begin = time.monotonic()
    if args.steps is None and begin >= deadline:
        raise UserError(f"--minutes {args.minutes:g}: preparation alone took longer")
    bar = tqdm(total=args.steps or round(deadline - begin), unit=" steps" if args.steps else " s", desc="pretrain")
    step = tokens = 0
    progress, mean = 0.0, 0.0
    while progress < 1:
        for group in optimizer.param_groups:
            group["lr"] = args.learning_rate * rate_at(progress)
        optimizer.zero_grad(set_to_none=True)
        with cast():
            loss, completion_loss = loss_of(model, batch, args.context_weight)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step, tokens = step + 1, tokens + batch.shape[0] * batch.shape[2]
        mean = mean + completion_loss.detach()
        batch = on_device(batches.draw())
        if step % LOG_INTERVAL == 0 or step == args.steps:
            seconds = time.monotonic() - begin
            found = (mean / (step % LOG_INTERVAL or LOG_INTERVAL)).item()
            record = {"step": step, "tokens": tokens, "seconds": round(seconds, 1), "loss": round(found, 4),
                      "learning_rate": optimizer.param_groups[0]["lr"]}
            if not math.isfinite(found):
                raise UserError(f"the loss is {found} at step {step}; try a lower --learning_rate")
            if step % (10 * LOG_INTERVAL) == 0 or step == args.steps:
                record |= evaluate(model, held_out, args, cast)
            log.write(json.dumps(record) + "\n")
            log.flush()
            bar.set_postfix(step=step, loss=f"{found:.3f}", tokens=f"{tokens / 1e6:.0f}M")
            mean = 0.0
        now = time.monotonic()
        progress = step / args.steps if args.steps else (now - begin) / (deadline - begin)
        bar.update(round((step if args.steps else min(now, deadline) - begin) - bar.n))
    bar.close()
    return step, tokens


@torch.no_grad()
def evaluate(model, held_out, args, cast):
    """``{"held_out_KIND": nll per completion token}`` of held-out rows."""
    model.eval()
    result = {}
    for kind, rows in held_out.items():
        total = count = 0.0
        for start in range(0, len(rows), 8):
            with cast():
                nll, flags = losses(model, torch.from_numpy(rows[start:start + 8].astype(np.int32)).to(args.device))
            total += (nll * (flags == COMPLETION)).sum().item()
            count += (flags == COMPLETION).sum().item()
        result[f"held_out_{kind}"] = round(total / max(count, 1), 4)
    model.train()
    return result


def save_checkpoint(model, folder, args):
    """Writes model.safetensors (float16, without the tied output embedding) and config.json; returns the bytes."""
    card = replace(CARD, width=args.width, layers=args.layers, heads=args.heads)
    state = model.state_dict()
    arrays = {}
    for name, shape in backbone_shapes(card).items():
        array = state[name].detach().float().cpu()
        largest = array.abs().max().item()
        if tuple(array.shape) != shape or not largest < torch.finfo(torch.float16).max:
            raise UserError(f"{name}: shape {tuple(array.shape)}, largest value {largest}; expected {shape} and a "
                            "value that float16 can hold: nothing was saved")
        arrays[name] = array.half().contiguous()
    content = save(arrays, metadata={"format": "pt"})
    with atomic_write(os.path.join(folder, "model.safetensors"), "wb") as file:
        file.write(content)
    config = GPT2Config(**{**model.config.to_dict(), "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0})
    kept = {k: v for k, v in config.to_dict().items() if k.startswith("n_") or k in (
        "activation_function", "attn_pdrop", "bos_token_id", "embd_pdrop", "eos_token_id", "initializer_range",
        "layer_norm_epsilon", "model_type", "resid_pdrop", "tie_word_embeddings", "vocab_size")}
    write_json(os.path.join(folder, "config.json"),
               {"architectures": ["GPT2LMHeadModel"], **kept, "torch_dtype": "float16"})
    return len(content)


def main(argv):
    begin = time.monotonic()
    args = parse_arguments(argv)
    deadline = begin + 60 * args.minutes - SECONDS_TO_SAVE
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    tokenizer = load_tokenizer(args.vocab)
    files = {name: os.path.basename(path) for name, path in source_paths(args.source).items()}
    sources = read_sources(args.source)
    held_out = held_out_rows(sources, tokenizer, args.row_length)
    batches = Batches(sources, tokenizer, args)
    os.makedirs(args.output, exist_ok=True)
    torch.manual_seed(args.seed)
    torch.set_float32_matmul_precision("high")
    # cuDNN's attention would be chosen for some shapes; the memory-efficient kernel takes any mask with dropout.
    torch.backends.cuda.enable_cudnn_sdp(False)
    model = build_model(args).to(args.device).train()
    log_path = os.path.join(args.output, "log.jsonl")
    try:
        with open(log_path, "w", encoding="utf-8") as log:
            log.write(json.dumps({"arguments": vars(args), "parameters": sum(p.numel() for p in model.parameters()),
                                  "pairs": len(sources.pairs), "sentences": len(sources.sentences),
                                  "passages": len(sources.passages), "files": files}) + "\n")
            steps, tokens = train(model, batches, held_out, args, deadline, log)
    finally:
        batches.close()
    size = save_checkpoint(model, args.output, args)
    print(f"{args.output}: {steps} steps, {tokens / 1e6:.1f} million tokens, {size / 1e6:.1f} MB, "
          f"{(time.monotonic() - begin) / 60:.1f} minutes")


if __name__ == "__main__":
    run_main(main)
