"""What a training of ChatGLM2 does where GPT-2's is another: its rows, a step's pieces, its log lines.

A step has ``gradient_accumulation_steps`` batches of ``per_device_train_batch_size`` rows; its loss is the mean of the
batches' means over their tokens. It is computed in as many pieces as ``--memory_gb`` asks for, with the same numbers.
"""

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from common.data.chatglm_texts import Example, read_examples
from common.data.chatglm_tokenizer import END_OF_TEXT, ChatGLMTokenizer
from common.errors import UserError, note
from common.files import read_json
from common.model.chatglm_cards import ChatGLMCard, chatglm_lora_shapes, chatglm_shapes, initial_chatglm_lora
from common.model.chatglm_weights import read_chatglm_lora
from common.model.checkpoint import steps_before
from common.model.initial_weights import RANDOM
from common.model.weight_files import resolve_checkpoint, shard_files
from common.run.batching import NO_STEP, Batch, Row, batches_per_epoch, make_batch, seeded_order
from common.run.dropout import step_key
from common.run.progress import LOG_FILE, Log, Progress
from common.run.steps import Plan, Steps, TrainingTask
from common.run.training import planned_steps, validate
from common.run.work_dir import SUMMARY_FILE, check_work_dir


def make_rows(examples: Sequence[Example], tokenizer: ChatGLMTokenizer, arguments: argparse.Namespace,
              path: str) -> list[Row]:
    """Returns a Row for each Example: prompt, and answer with the end of text, each cut; says how many are cut."""
    rows, cut_prompts, cut_answers = [], 0, 0
    for example in examples:
        prompt = tokenizer.prompt_ids(example.question, example.history, arguments.source_prefix)
        answer = tokenizer.encode(example.answer)
        cut_prompts += len(prompt) > arguments.max_source_length
        cut_answers += len(answer) > arguments.max_target_length
        rows.append(Row(prompt[:arguments.max_source_length],
                        [*answer[:arguments.max_target_length], END_OF_TEXT]))
    for count, what, name in ((cut_prompts, "a prompt", "max_source_length"),
                              (cut_answers, "an answer", "max_target_length")):
        if count:
            note(f"{path}: {count} of {len(rows)} rows have {what} of more than --{name} {getattr(arguments, name)} "
                 "tokens, which loses its end")
    return rows


def plan_of_chatglm(arguments: argparse.Namespace) -> Plan:
    """Returns the Plan of a training; ``valid_rows`` is None without ``--do_eval``.

    Raises:
        UserError: the output folder, the tokenizer or the data cannot be used, or the memory is too small.
    """
    if arguments.init_checkpoint != RANDOM:
        shard_files(resolve_checkpoint(arguments.init_checkpoint))
    check_work_dir(arguments, [arguments.train_file, arguments.validation_file, arguments.lora_checkpoint])
    tokenizer = ChatGLMTokenizer(arguments.tokenizer_name, arguments.card.pieces)

    def rows_of(path, most):
        examples = read_examples(path, arguments.prompt_column, arguments.response_column, arguments.history_column,
                                 most)
        return make_rows(examples, tokenizer, arguments, path)

    train_rows = rows_of(arguments.train_file, arguments.max_train_samples)
    arguments.row_count = len(train_rows)
    valid_rows = rows_of(arguments.validation_file, arguments.max_eval_samples) if arguments.do_eval else None
    before = steps_before(RANDOM, arguments.lora_checkpoint) if arguments.lora_checkpoint else 0
    return Plan(train_rows, valid_rows, batches_per_epoch(len(train_rows), arguments.train_batch_size),
                planned_steps(arguments, len(train_rows)), before,
                f"{len(train_rows)} training rows" + (f", {len(valid_rows)} validation rows" if valid_rows else ""))


def first_chatglm_lora(arguments: argparse.Namespace) -> dict[str, np.ndarray]:
    """Returns LoRA's weights that a training starts from, ``{name: float32 array}``.

    Raises:
        UserError: ``--lora_checkpoint`` cannot be used.
    """
    if arguments.lora_checkpoint:
        return read_chatglm_lora(arguments.lora_checkpoint, arguments.card, arguments.lora)[0]
    return initial_chatglm_lora(arguments.card, arguments.lora.rank, arguments.random_seed)


# By this a token's counted memory is multiplied. On an NVIDIA H200 (log/chatglm2) a token took 0.9 times its count in
# PyTorch and 1.4 times in Jittor; all else took 1.2 GB less than its count, which makes up for the difference.
TOKEN_FACTOR = 1.2
# Pieces of many sizes leave holes in a framework's memory, and PyTorch records a CUDA graph for each.
TOKEN_MULTIPLE = 128


def tokens_at_once(card: ChatGLMCard, rank: int, precision: str, framework: str, memory_bytes: float) -> int:
    """Returns how many tokens a piece of a step may have so that it fits the memory; less than 1 where none do.

    Counted are the weights, LoRA with its moments and gradients, what a GPU's libraries take, and for each token what
    its layers keep for the gradient: two inputs of norms, LoRA's input, the fused projection and what attention makes
    of it, and the inputs of the gate.
    """
    weight_bytes = 2 if precision in ("bf16", "fp16") else 4
    fixed = 1.5e9 + weight_bytes * sum(map(np.prod, chatglm_shapes(card).values()))
    fixed += 20 * sum(map(np.prod, chatglm_lora_shapes(card, rank).values()))
    numbers = 4 if framework == "jittor" else weight_bytes
    of_layer = 8 * card.width + numbers * (5 * card.width + 3 * card.fused_width + 2 * card.inner_width)
    # Of one layer at a time: the gate's output, and gradients.
    per_token = card.layers * of_layer + numbers * 8 * card.inner_width + 8 * card.vocabulary
    per_token *= TOKEN_FACTOR
    return int((0.95 * memory_bytes - fixed) / per_token)


def pieces_of_step(rows: Sequence[Row], group_size: int, seq_len: int, most_tokens: int, key: np.ndarray = NO_STEP,
                   multiple: int = 1) -> list[Batch]:
    """Returns the rows of a step as Batches of at most so many tokens, whose losses add up to the step's.

    The pieces have equally many rows, as far as that goes, so that few shapes occur.

    Args:
        rows: list of Row.
        group_size: so many rows at a time are a batch; the step's loss is the mean of the batches' means.
        seq_len: a longer row loses its end.
        most_tokens: of a piece, but for one that is a single row.
        key: of common.run.dropout.step_key.
        multiple: pieces are filled up to multiples of so many tokens, see Batch.padded; 1 leaves them as they are.
    """
    lengths = np.array([min(len(row.context) + len(row.completion), seq_len) for row in rows])
    for count in range(min(-(-int(lengths.sum()) // most_tokens), len(rows)), len(rows) + 1):
        starts = [len(rows) * index // count for index in range(count)]
        if np.add.reduceat(lengths, starts).max() <= most_tokens:
            break
    losses = lengths - [len(row.context) for row in rows]
    groups = np.arange(len(rows)) // group_size
    weights = 1.0 / (np.bincount(groups, losses)[groups] * (groups[-1] + 1))
    pieces = []
    for start, end in zip(starts, [*starts[1:], len(rows)]):
        batch = make_batch(rows[start:end], seq_len, step_key=key, first_row=start)
        batch = replace(batch, loss_weights=np.repeat(weights[start:end], losses[start:end]).astype(np.float32))
        pieces.append(batch.padded(multiple) if multiple > 1 else batch)
    return pieces


def batches_of_chatglm(arguments: argparse.Namespace, rows: Sequence[Row],
                       steps_done: int = 0) -> Iterator[tuple[int, int, list[Batch]]]:
    """Yields ``(epoch, index, pieces of a step)`` without end behind ``steps_done`` steps, as training_batches."""
    for epoch, index, step, indices in seeded_order(len(rows), arguments.train_batch_size, arguments.random_seed,
                                                    done=steps_done):
        yield epoch, index, pieces_of_step([rows[row] for row in indices], arguments.per_device_train_batch_size,
                                           arguments.seq_len, arguments.most_tokens,
                                           step_key(arguments.random_seed, step), arguments.token_multiple)


def set_most_tokens(arguments: argparse.Namespace, framework: str, is_on_gpu: bool) -> None:
    """Decides how many tokens a piece of a step may have, and on a GPU that these are multiples of TOKEN_MULTIPLE.

    A processor's memory is not limited.

    Raises:
        UserError: not even the longest row fits the memory.
    """
    arguments.most_tokens, arguments.token_multiple = 1 << 30, 1
    if is_on_gpu:
        most_tokens = tokens_at_once(arguments.card, arguments.lora.rank, arguments.precision, framework,
                                     1e9 * arguments.memory_gb)
        arguments.most_tokens, arguments.token_multiple = most_tokens // TOKEN_MULTIPLE * TOKEN_MULTIPLE, TOKEN_MULTIPLE
        if arguments.most_tokens < arguments.seq_len:
            raise UserError(f"--memory_gb {arguments.memory_gb:g}: too little for {arguments.card.name} in "
                            f"{arguments.precision} and a row of {arguments.seq_len} tokens; give more, or --bf16")


def validate_chatglm(arguments: argparse.Namespace, steps: Steps, rows: Sequence[Row] | None, progress: Progress,
                     log: Log) -> float:
    """Computes the loss of the validation rows, where there are some; returns the seconds that it took."""
    if rows is None:
        progress.best_valid_loss = None  # infinite is no number of JSON
        return 0.0
    return validate(arguments, steps, rows, progress, log)


class ChatGLMLog(Log):
    """Log lines in the form of Hugging Face's Trainer; the same records as GPT-2's in ``train_log.jsonl``.

    Args:
        plan: the Plan; the others are those of Log.
    """

    def __init__(self, plan: Plan, *others: Any) -> None:
        self.per_epoch = plan.per_epoch
        super().__init__(*others)

    def write(self, line: str, record: dict[str, Any]) -> None:
        """Prints the record in Hugging Face's form in place of the line."""
        is_train = record["kind"] == "train"
        epoch = round(record["step"] / self.per_epoch, 2)
        shown = {"loss" if is_train else "eval_loss": round(record["avg_loss" if is_train else "loss"], 4)}
        shown |= {"learning_rate": record["lr"]} if is_train else {"eval_runtime": round(record["seconds"], 4)}
        super().write(str({**shown, "epoch": epoch}), record)


def say_train_metrics(arguments: argparse.Namespace) -> None:
    """Prints what Hugging Face's scripts print at the end of a training, of the files that it has written."""
    summary = read_json(os.path.join(arguments.work_dir, SUMMARY_FILE), dict)
    with open(os.path.join(arguments.work_dir, LOG_FILE), encoding="utf-8") as file:
        records = [record for record in map(json.loads, file) if record["kind"] == "train"]
    seconds, steps = summary["training_seconds"], summary["steps"]
    metrics = {"epoch": round(summary["fractional_epochs"], 2), "train_runtime": round(seconds, 4),
               "train_samples": summary["rows"],
               "train_samples_per_second": round(steps * arguments.train_batch_size / seconds, 3),
               "train_steps_per_second": round(steps / seconds, 3)}
    if records:
        metrics["train_loss"] = round(sum(record["avg_loss"] for record in records) / len(records), 4)
    print("***** train metrics *****")
    for name, value in metrics.items():
        print(f"  {name:<25}= {value:>10}")


def summary_of_chatglm(arguments: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """Returns what ``train_summary.json`` has of a training of ChatGLM2 alone."""
    return {"rows": arguments.row_count,
            "fractional_epochs": progress.step / batches_per_epoch(arguments.row_count, arguments.train_batch_size)}


CHATGLM = TrainingTask(plan_of_chatglm, batches_of_chatglm, validate_chatglm, summary=summary_of_chatglm,
                       log=lambda plan: partial(ChatGLMLog, plan))
