"""Makes chatglm2-nano: its SentencePiece model, and weights pretrained on the demo's grammar, within a given time.

    python scripts/maintain/pretrain_chatglm_nano.py --output pretrained_checkpoints/chatglm2-nano --minutes 5

``--output`` gets tokenizer.model, model.safetensors (float16, the published names) and log.jsonl. The learning rate
follows the clock, so that training ends when the time does; ``--steps`` makes it follow the steps instead, and the run
repeatable.
"""

import argparse
import json
import math
import os
import sys
import time
from itertools import islice

import numpy as np
import safetensors.numpy
import torch
from tqdm import tqdm

from common.data.chatglm_tokenizer import FILE, ChatGLMTokenizer
from common.errors import UserError, run_main
from common.files import atomic_write
from common.model.chatglm_cards import CHATGLM_CARDS, random_chatglm
from common.nano.chatglm_pretraining import pretraining_rows
from common.nano.chatglm_tokenizer_training import train_tokenizer
from common.paths import ROOT
from common.run.batching import converted, make_batch

sys.path.insert(1, str(ROOT / "NLG_pytorch" / "src"))

import device  # noqa: E402  of the PyTorch tree
from chatglm2 import ChatGLM2  # noqa: E402

CARD = CHATGLM_CARDS["chatglm2.nano"]
WARMUP_SHARE, LOG_INTERVAL = 0.03, 50
HELD_OUT, HELD_OUT_SEED = 256, 1_000_003


def parse_arguments(argv):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", required=True, help="folder that gets tokenizer, weights and log")
    parser.add_argument("--minutes", type=float, default=5, help="time for the training")
    parser.add_argument("--steps", type=int, help="train for so many steps instead")
    parser.add_argument("--batch_size", type=int, default=48, help="rows a step")
    parser.add_argument("--learning_rate", type=float, default=4e-3)
    parser.add_argument("--weight_decay", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=110)
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    arguments = parser.parse_args(argv)
    if arguments.minutes <= 0 or arguments.batch_size < 1 or (arguments.steps is not None and arguments.steps < 1):
        raise UserError("--minutes, --steps and --batch_size must be above 0")
    return arguments


def as_batch(rows):
    return converted(make_batch(rows, CARD.positions), device.from_numpy)


def validation_loss(model, rows):
    """Returns the mean loss a token of rows that are not trained on."""
    model.eval()
    with torch.no_grad():
        return float(model.loss(as_batch(rows), 0.0))


def pretrain(arguments, model, tokenizer, log):
    """Trains a model; returns its loss on held-out rows."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=arguments.learning_rate, betas=(0.9, 0.95),
                                  weight_decay=arguments.weight_decay)
    rows = pretraining_rows(tokenizer, arguments.seed)
    held_out = list(islice(pretraining_rows(tokenizer, HELD_OUT_SEED), HELD_OUT))
    started, step, done, losses = time.perf_counter(), 0, 0.0, []
    with tqdm(total=arguments.steps, unit="step", dynamic_ncols=True, disable=None) as bar:
        while done < 1:
            model.train()
            rate = arguments.learning_rate * min(1, done / WARMUP_SHARE + 1e-3) * (1 + math.cos(math.pi * done)) / 2
            for group in optimizer.param_groups:
                group["lr"] = rate
            loss = model.loss(as_batch(list(islice(rows, arguments.batch_size))), 0.0)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            losses.append(loss.detach())
            step += 1
            bar.update()
            done = step / arguments.steps if arguments.steps else (
                (time.perf_counter() - started) / 60 / arguments.minutes)
            if step % LOG_INTERVAL == 0 or done >= 1:
                record = {"step": step, "seconds": time.perf_counter() - started, "lr": rate,
                          "loss": float(torch.stack(losses).mean())}
                if step % (10 * LOG_INTERVAL) == 0 or done >= 1:
                    record["held_out_loss"] = validation_loss(model, held_out)
                log.write(json.dumps(record) + "\n")
                bar.write(str(record))
                losses = []
    return record["held_out_loss"]


def main(argv):
    arguments = parse_arguments(argv)
    device.set_up(arguments.device, arguments.seed, "fp32")
    path = os.path.join(arguments.output, FILE)
    with atomic_write(path, "wb") as file:
        file.write(train_tokenizer(CARD.pieces))
    model = ChatGLM2(CARD)
    model.load_stream(random_chatglm(CARD))
    model = device.to_device(model)
    with atomic_write(os.path.join(arguments.output, "log.jsonl")) as log:
        loss = pretrain(arguments, model, ChatGLMTokenizer(path, CARD.pieces), log)
    arrays = {name: device.to_numpy(parameter).astype(np.float16) for name, parameter in model.named_parameters()}
    with atomic_write(os.path.join(arguments.output, "model.safetensors"), "wb") as file:
        file.write(safetensors.numpy.save(arrays, {"format": "pt"}))
    print(f"{arguments.output}: {sum(array.size for array in arrays.values())} parameters, held-out loss {loss:.4f}; "
          + ", ".join(device.describe().values()))


if __name__ == "__main__":
    run_main(main)
