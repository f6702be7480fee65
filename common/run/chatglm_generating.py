"""Answers of ChatGLM2: token by token, by sampling or by beam search; of one question, a dialogue or a file.

The framework computes logits; tokens are chosen here in numpy, once for both. A draw is a function of the seed, the
prompt's number and the token's place, so that it depends neither on the framework nor on what else is in the batch.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tqdm import tqdm

from common.data.chatglm_texts import Example, read_examples
from common.data.chatglm_tokenizer import END_OF_TEXT, ChatGLMTokenizer, TextStream
from common.errors import UserError, note
from common.files import check_outputs, read_json, write_json, write_json_lines
from common.model.chatglm_weights import ChatGLMLora, read_chatglm_lora
from common.model.checkpoint import backbone_hash
from common.model.initial_weights import RANDOM
from common.model.weight_files import resolve_checkpoint, say_once
from common.run.batching import pack
from common.run.beam_search import SearchModel, SearchSettings, search
from common.run.searching import distinct

NOTHING = (np.zeros(0, np.int32), np.zeros(0, np.int32))  # no token is penalised or banned


@dataclass(frozen=True, kw_only=True)
class GenerationModel(SearchModel):
    """What a framework does for generation.

    Attributes:
        log_probabilities: ``(logits) -> (rows, vocabulary)`` float32, of each row, as numpy.
    """

    log_probabilities: Callable = field()


def lora_to_generate_with(arguments: argparse.Namespace) -> tuple[ChatGLMLora | None, dict[str, np.ndarray]]:
    """Returns the settings and the arrays of ``--lora_checkpoint``; None and nothing without one.

    Raises:
        UserError: the file cannot be used.
    """
    if arguments.lora_checkpoint is None:
        return None, {}
    lora, record = read_chatglm_lora(arguments.lora_checkpoint, arguments.card)
    path = arguments.init_checkpoint if arguments.init_checkpoint == RANDOM else resolve_checkpoint(
        arguments.init_checkpoint)
    if record.backbone_sha256 != backbone_hash(path):
        say_once(f"{arguments.lora_checkpoint} was trained on other weights than {path}: {record.backbone_path}")
    return ChatGLMLora(record.lora_dim, record.lora_alpha), lora


def sampled(log_probabilities: np.ndarray, top_p: float, temperature: float, draw: float) -> int:
    """Returns a token drawn from the fewest tokens that together have the probability ``top_p`` (Holtzman et al. 2020).

    Args:
        log_probabilities: ``(vocabulary,)``.
        top_p: see above; tokens are taken by their probability, on ties by their id.
        temperature: log-probabilities are divided by it first.
        draw: a number in [0, 1).
    """
    scaled = log_probabilities.astype(np.float64) / temperature
    probabilities = np.exp(scaled - scaled.max())
    probabilities /= probabilities.sum()
    order = np.argsort(-probabilities, kind="stable")
    sums = np.cumsum(probabilities[order])
    count = int(np.searchsorted(sums, top_p)) + 1
    sums = sums[:count]
    return int(order[min(int(np.searchsorted(sums, draw * sums[-1], side="right")), len(sums) - 1)])


def drawn(seed: int, prompt: int, place: int) -> float:
    """Returns the number in [0, 1) that decides a token."""
    return float(np.random.default_rng((seed, prompt, place)).random())


def next_tokens(model: GenerationModel, logits: Any, arguments: argparse.Namespace, place: int,
                prompts: Sequence[int]) -> np.ndarray:
    """Returns the next token of each row, int32.

    Args:
        logits: on the device.
        arguments: with ``do_sample``, ``top_p``, ``temperature`` and ``seed``.
        place: the token's, from 0 on.
        prompts: the number of each row's prompt.
    """
    if not arguments.do_sample:
        return model.top_tokens(logits, NOTHING, NOTHING, 1.0, 1)[1][:, 0].astype(np.int32)
    rows = model.log_probabilities(logits)
    return np.array([sampled(row, arguments.top_p, arguments.temperature, drawn(arguments.seed, prompt, place))
                     for row, prompt in zip(rows, prompts)], np.int32)


def generate(model: GenerationModel, contexts: Sequence[Sequence[int]], arguments: argparse.Namespace,
             prompts: Sequence[int], tell: Callable[[int], None] | None = None) -> list[list[int]]:
    """Answers some prompts at once.

    Args:
        model: GenerationModel.
        contexts: lists of token ids.
        arguments: of chatglm_generation_arguments.
        prompts: the number of each prompt, for its draws.
        tell: is called with each token of the first prompt as it comes.

    Returns:
        The ids of each answer, without the end of text.
    """
    if arguments.num_beams > 1:
        settings = SearchSettings(arguments.num_beams, arguments.max_target_length, arguments.length_penalty,
                                  arguments.no_repeat_ngram_size, eos_token_id=(END_OF_TEXT,))
        outputs, _ = search(model, contexts, settings)
        return [[token for token in output.tolist() if token != END_OF_TEXT] for output in outputs]
    answers: list[list[int]] = [[] for _ in contexts]
    lives = np.ones(len(contexts), bool)
    state, logits = model.prompt(pack(contexts))
    for place in range(arguments.max_target_length):
        tokens = next_tokens(model, logits, arguments, place, prompts)
        lives &= tokens != END_OF_TEXT
        for row in np.flatnonzero(lives):
            answers[row].append(int(tokens[row]))
        if tell and lives[0]:
            tell(int(tokens[0]))
        if not lives.any() or place + 1 == arguments.max_target_length:
            break
        logits = model.advance(state, tokens, np.arange(len(contexts), dtype=np.int32))
    return answers


def answer_question(model: GenerationModel, tokenizer: ChatGLMTokenizer, arguments: argparse.Namespace, question: str,
                    history: Sequence[Sequence[str]]) -> str:
    """Writes the answer to a question on standard output as it comes, and returns it."""
    longest, history = arguments.card.positions - arguments.max_target_length - 1, list(history)
    while len(ids := tokenizer.prompt_ids(question, history, arguments.source_prefix)) > longest:
        if not history:
            raise UserError(f"the question has {len(ids)} tokens, expected at most {longest}")
        note("the oldest turn is left out: the dialogue has become too long for the model")
        history.pop(0)
    stream = TextStream(tokenizer)

    def write(text):
        sys.stdout.write(text)
        sys.stdout.flush()

    answer, = generate(model, [ids], arguments, [len(history)],
                       None if arguments.num_beams > 1 else lambda token: write(stream.add(token)))
    text = tokenizer.decode(answer)
    write((text if arguments.num_beams > 1 else stream.end()) + "\n")
    return text


def converse(model: GenerationModel, tokenizer: ChatGLMTokenizer, arguments: argparse.Namespace,
             history: list[tuple[str, str]]) -> None:
    """Answers what is typed, line by line, until an empty line or the end of the input."""
    print("One question a line; an empty line ends.", file=sys.stderr)
    for line in sys.stdin:
        if not line.strip():
            break
        question = line.strip()
        history.append((question, answer_question(model, tokenizer, arguments, question, history)))


def answer_file(model: GenerationModel, tokenizer: ChatGLMTokenizer, arguments: argparse.Namespace,
                examples: Sequence[Example]) -> tuple[list[str], int]:
    """Returns the answer to each Example, and how many prompts differ; equal prompts have one answer."""
    contexts, of_row = distinct([tokenizer.prompt_ids(example.question, example.history, arguments.source_prefix)
                                 [:arguments.max_source_length] for example in examples])
    answers: list[str] = [""] * len(contexts)
    by_length = sorted(range(len(contexts)), key=lambda index: len(contexts[index]))
    with tqdm(total=len(contexts), unit="prompt", dynamic_ncols=True, disable=None, file=sys.stderr) as bar:
        for start in range(0, len(contexts), arguments.batch_size):
            chosen = by_length[start:start + arguments.batch_size]
            for index, ids in zip(chosen, generate(model, [contexts[index] for index in chosen], arguments, chosen)):
                answers[index] = tokenizer.decode(ids)
            bar.update(len(chosen))
    return [answers[index] for index in of_row], len(contexts)


def read_history(path: str | os.PathLike | None) -> list[tuple[str, str]]:
    """Returns earlier turns of a dialogue.

    Raises:
        UserError: the file holds something else than pairs of a question and an answer.
    """
    turns = read_json(path, [[str]]) if path else []
    for index, turn in enumerate(turns):
        if len(turn) != 2:
            raise UserError(f"{path}: [{index}] has {len(turn)} texts, expected a question and its answer")
    return [(question, answer) for question, answer in turns]


def run_generation(arguments: argparse.Namespace, prepare: Callable, score: Callable) -> None:
    """Answers what the arguments ask for.

    Of ``--test_file`` it writes one line a row, ``{"question", "reference", "prediction"}``, and beside it
    ``.summary.json`` with the scores.

    Args:
        arguments: of chatglm_generation_arguments.
        prepare: ``(arguments) -> GenerationModel``; it is called when nothing else is left to be found wrong.
        score: ``(predictions, references) -> (means, rows)``, as common.metrics.chinese.chinese_scores.

    Raises:
        UserError: the data or the weights cannot be used, or the output cannot be written.
    """
    tokenizer = ChatGLMTokenizer(arguments.tokenizer_name, arguments.card.pieces)
    if not arguments.test_file:
        history = read_history(arguments.history)
        model = prepare(arguments)
        if arguments.question is None:
            converse(model, tokenizer, arguments, history)
        else:
            answer_question(model, tokenizer, arguments, arguments.question, history)
        return
    summary_path = f"{arguments.output_file}.summary.json"
    check_outputs([arguments.output_file, summary_path], [arguments.test_file, arguments.lora_checkpoint])
    examples = read_examples(arguments.test_file, arguments.prompt_column, arguments.response_column,
                             arguments.history_column, arguments.max_predict_samples)
    model = prepare(arguments)
    started = time.perf_counter()
    answers, count = answer_file(model, tokenizer, arguments, examples)
    seconds = time.perf_counter() - started
    references = [example.answer for example in examples]
    scores, _ = score(answers, references)
    write_json_lines(arguments.output_file, ({"question": example.question, "reference": example.answer,
                                              "prediction": answer} for example, answer in zip(examples, answers)))
    write_json(summary_path, {**model.description, "rows": len(examples), "prompts": count, "seconds": seconds,
                              "peak_memory_bytes": model.peak_memory_bytes(), "scores": scores})
    print(f"{len(examples)} rows in {seconds:.1f} s: {arguments.output_file}; "
          + ", ".join(f"{name} {value:.2f}" for name, value in scores.items()))
