"""The baseline: GPT-2 with LoRA as a user of Hugging Face PEFT and transformers would write it, timed the same way.

    python scripts/bench/bench_peft.py --program train --precision tf32 --pad_to 512 --steps 50 \\
        --output result.json -- --train_data data/e2e/sampled/train.jsonl --valid_data data/e2e/valid.jsonl \\
        --model_card gpt2.md --init_checkpoint random --max_step 50 --label_smooth 0.1 --lora_dropout 0.1

LoRA of rank 4 on the fused projection ``c_attn``, torch's AdamW, labels of -100 outside the completion, label smoothing
by torch's cross-entropy, GPT-2's own dropout of 0.1 as its published configuration has it; bf16 is autocast in training
and bf16 weights in ``generate``, which runs on merged weights, padded on the left. ``beam`` decodes ``--contexts``
contexts only. Behind ``--`` stand the flags of gpt2_ft.py (``train``) or gpt2_beam.py (``beam``).
"""

import argparse
import contextlib
import sys
import time

STARTED = time.perf_counter()

import torch  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from transformers import GPT2Config, GPT2LMHeadModel  # noqa: E402
from transformers import __version__ as transformers_version  # noqa: E402

from common.bench.benchmark import (  # noqa: E402
    kind_of_weights,
    measure_training,
    parse_before_words,
    process_facts,
    rows_of_batches,
    token_counts,
)
from common.bench.cases import LONG, PEFT, PEFT_PRECISIONS  # noqa: E402
from common.errors import UserError, run_main  # noqa: E402
from common.files import write_json  # noqa: E402
from common.model.checkpoint import load_weights  # noqa: E402
from common.precisions import DEFAULT_PRECISION  # noqa: E402
from common.run.arguments import beam_arguments, training_arguments  # noqa: E402
from common.run.batching import read_rows  # noqa: E402
from common.run.searching import distinct_contexts  # noqa: E402
from common.vocabulary import END_OF_TEXT  # noqa: E402

WARM_UP_STEPS = 10
GENERATION_BATCH = 8  # contexts; with the beam, 80 rows


def peft_library():
    """Returns the package.

    Raises:
        UserError: it is not installed.
    """
    try:
        import peft
    except ImportError as error:
        raise UserError(f"the baseline needs Hugging Face PEFT, which {sys.executable} cannot import ({error}): "
                        "`pip install peft==0.21.2`, or leave it out with --framework both") from error
    return peft


def choose_device(name):
    """Returns the torch device for ``--device``."""
    return torch.device("cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu")


def build_model(arguments, device):
    """Returns the model with PEFT's LoRA layers on its device."""
    peft, card = peft_library(), arguments.card
    model = GPT2LMHeadModel(GPT2Config(vocab_size=card.vocabulary, n_positions=card.positions, n_embd=card.width,
                                       n_layer=card.layers, n_head=card.heads))
    backbone, _, _ = load_weights(arguments.init_checkpoint, None, card, arguments.lora)
    found = model.load_state_dict({name: torch.from_numpy(array) for name, array in backbone.items()}, strict=False)
    if found.missing_keys not in ([], ["lm_head.weight"]) or found.unexpected_keys:
        raise UserError(f"transformers {transformers_version} names GPT-2's weights differently: it misses "
                        f"{found.missing_keys[:3]} and does not know {found.unexpected_keys[:3]}")
    settings = peft.LoraConfig(r=arguments.lora.rank, lora_alpha=arguments.lora.alpha,
                               lora_dropout=arguments.lora.dropout, target_modules=["c_attn"], fan_in_fan_out=True,
                               task_type="CAUSAL_LM")
    return peft.get_peft_model(model, settings).to(device)


def tensors(rows, seq_len, pad_to):
    """Returns input ids, attention mask and labels ``(batch, length)`` of some rows, filled up on the right."""
    sequences = [(row.context + row.completion)[:seq_len] for row in rows]
    length = pad_to or max(map(len, sequences))
    ids = torch.full((len(rows), length), END_OF_TEXT)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for index, (row, sequence) in enumerate(zip(rows, sequences)):
        end = len(sequence)
        ids[index, :end], mask[index, :end] = torch.tensor(sequence), 1
        labels[index, len(row.context):end] = ids[index, len(row.context):end]
    return ids, mask, labels


def synchronise():
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def train(options, words):
    """Times training steps; see common.bench.benchmark.measure_training."""
    arguments = training_arguments(words, __doc__)
    torch.manual_seed(arguments.random_seed)
    begun = time.perf_counter()
    device = choose_device(arguments.device)
    model = build_model(arguments, device)
    model.train()
    optimizer = torch.optim.AdamW((parameter for parameter in model.parameters() if parameter.requires_grad),
                                  lr=arguments.lr, betas=(arguments.adam_beta1, arguments.adam_beta2),
                                  eps=arguments.adam_epislon, weight_decay=arguments.weight_decay)
    batches = rows_of_batches(read_rows(arguments.train_data), arguments, options.steps)
    cast = torch.autocast(device.type, torch.bfloat16) if options.precision == "bf16" else contextlib.nullcontext()
    pad_to = None if options.pad_to == "longest" else arguments.seq_len

    def step(rows):
        ids, mask, labels = (tensor.to(device) for tensor in tensors(rows, arguments.seq_len, pad_to))
        with cast:
            logits = model(input_ids=ids, attention_mask=mask).logits
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100,
                                   label_smoothing=arguments.label_smooth)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    build_seconds = time.perf_counter() - begun
    found = measure_training(step, synchronise, batches, WARM_UP_STEPS)
    return {**found, **token_counts(batches, arguments.seq_len, found["ms_per_step_whole_run"]),
            "build_seconds": build_seconds, "batch_size": arguments.train_batch_size,
            "weights": kind_of_weights(arguments.init_checkpoint)}


def beam(options, words):
    """Times ``generate`` with the beam of the flags on the first distinct contexts, a few at a time."""
    arguments = beam_arguments(words, __doc__)
    begun = time.perf_counter()
    device = choose_device(arguments.device)
    model = build_model(arguments, device)
    model = model.merge_and_unload().eval()
    if options.precision == "bf16":
        model = model.to(torch.bfloat16)
    contexts, _ = distinct_contexts(read_rows(arguments.data), arguments.seq_len - arguments.eval_len)
    # every so-manieth context, so that their lengths are those of the whole set
    chosen = contexts[::max(1, len(contexts) // options.contexts)][:options.contexts]
    build_seconds = time.perf_counter() - begun
    steps = 0

    def generate(some):
        nonlocal steps
        length = max(map(len, some))
        ids = torch.full((len(some), length), END_OF_TEXT)
        mask = torch.zeros_like(ids)
        for index, context in enumerate(some):
            ids[index, length - len(context):], mask[index, length - len(context):] = torch.tensor(context), 1
        output = model.generate(
            input_ids=ids.to(device), attention_mask=mask.to(device), do_sample=False, num_beams=arguments.beam,
            max_new_tokens=arguments.eval_len, no_repeat_ngram_size=arguments.no_repeat_ngram_size,
            length_penalty=arguments.length_penalty, eos_token_id=arguments.eos_token_id, pad_token_id=END_OF_TEXT)
        steps += output.shape[1] - length

    begun = time.perf_counter()
    generate(chosen[:GENERATION_BATCH])
    synchronise()
    warm_up, steps = time.perf_counter() - begun, 0
    window, begun = [time.time()], time.perf_counter()
    for start in range(0, len(chosen), GENERATION_BATCH):
        generate(chosen[start:start + GENERATION_BATCH])
    synchronise()
    seconds = time.perf_counter() - begun
    window.append(time.time())
    return {"seconds": seconds, "contexts": len(chosen), "contexts_per_second": len(chosen) / seconds,
            "contexts_of_the_set": len(contexts), "seconds_for_the_set": seconds * len(contexts) / len(chosen),
            "decoding_steps": steps, "beam": arguments.beam, "eval_len": arguments.eval_len,
            "batch_size": GENERATION_BATCH, "warm_up_seconds": warm_up, "build_seconds": build_seconds,
            "window": window, "weights": kind_of_weights(arguments.init_checkpoint)}


def environment(precision):
    """Returns what device.describe() returns for the trees, with PEFT's and transformers' versions."""
    name = torch.cuda.get_device_name() if torch.cuda.is_initialized() else f"CPU, {torch.get_num_threads()} threads"
    return {"framework": PEFT, "version": f"{peft_library().__version__}, transformers {transformers_version}, torch "
            f"{torch.__version__}", "device": name, "precision": precision}


def main(argv):
    """Measures and writes the result."""
    parser = argparse.ArgumentParser(prog="bench_peft.py", description=__doc__.split("\n")[0], allow_abbrev=False,
                                     epilog="Behind -- follow the flags of gpt2_ft.py or gpt2_beam.py.")
    parser.add_argument("--program", required=True, choices=["train", "beam"])
    parser.add_argument("--precision", default=DEFAULT_PRECISION, choices=PEFT_PRECISIONS)
    parser.add_argument("--pad_to", default="longest", choices=["longest", str(LONG)],
                        help="the batch's longest row, or --seq_len")
    parser.add_argument("--steps", type=int, default=200, help="training steps to time")
    parser.add_argument("--contexts", type=int, default=32, help="contexts to decode")
    parser.add_argument("--output", required=True, help="JSON file for the result")
    options, words = parse_before_words(parser, argv)
    torch.set_float32_matmul_precision("highest" if options.precision == "fp32" else "high")
    import_seconds = time.perf_counter() - STARTED
    result = {"train": train, "beam": beam}[options.program](options, words)
    peak = torch.cuda.max_memory_reserved() if torch.cuda.is_initialized() else process_facts()["host_peak_bytes"]
    write_json(options.output, {**result, "import_seconds": import_seconds, "framework_peak_bytes": peak,
                                "environment": environment(options.precision), **process_facts()})


if __name__ == "__main__":
    run_main(main)
