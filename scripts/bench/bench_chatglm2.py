"""Times ChatGLM2's training steps and answers in one framework, or in transformers + PEFT, on rows of real lengths.

    python scripts/bench/bench_chatglm2.py --framework pytorch|jittor|peft --data train.json --output result.json \\
        [--model_card chatglm2.6b] [--steps 50] [--memory_gb 24] [--micro_batch 16] [--checkpointing]

The weights are random, the rows' ids those of chatglm2-nano's tokenizer: times, memory and the frameworks' agreement
depend on the sizes and the lengths, and nothing here says anything of the quality of texts. What is timed are
chatglm2_ft.py's own steps and chatglm2_generate.py's own answers. ``--micro_batch`` and ``--checkpointing`` are peft's.
"""

import argparse
import math
import sys
import time
from itertools import islice

from common.data.chatglm_texts import read_examples
from common.data.chatglm_tokenizer import FILE, SPECIAL_TOKENS, ChatGLMTokenizer
from common.errors import run_main
from common.files import write_json
from common.frameworks import FRAMEWORKS
from common.model.chatglm_cards import CHATGLM_CARDS, chatglm_shapes
from common.model.chatglm_weights import stream_backbone
from common.paths import PRETRAINED, ROOT
from common.run.chatglm_arguments import chatglm_generation_arguments, chatglm_training_arguments
from common.run.chatglm_training import batches_of_chatglm, first_chatglm_lora, make_rows, set_most_tokens

PEFT = "peft"
WARM_UP = 5  # steps, in which kernels are compiled and memory is taken
PROMPTS, NEW_TOKENS = 16, 128


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--framework", required=True, choices=[*FRAMEWORKS, PEFT])
    parser.add_argument("--data", required=True, help="AdvertiseGen's rows, or others of its form")
    parser.add_argument("--output", required=True)
    parser.add_argument("--model_card", default="chatglm2.6b", choices=list(CHATGLM_CARDS))
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--memory_gb", type=float, default=24)
    parser.add_argument("--precision", default="bf16", choices=["fp32", "bf16"])
    parser.add_argument("--micro_batch", type=int, default=16)
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--no_generation", action="store_true")
    return parser.parse_args(argv)


def training_of(options):
    """Returns the training's arguments and the rows."""
    flags = ["--model_name_or_path", "random", "--model_card", options.model_card, "--train_file", options.data,
             "--output_dir", "-", "--lora_r", "32", "--memory_gb", str(options.memory_gb), "--max_steps",
             str(options.steps), *(["--bf16"] if options.precision == "bf16" else [])]
    arguments = chatglm_training_arguments(flags, "")
    nano = CHATGLM_CARDS["chatglm2.nano"]
    tokenizer = ChatGLMTokenizer(PRETRAINED / nano.folder / FILE, nano.pieces)
    tokenizer.special_ids = {token: arguments.card.pieces + index for index, token in enumerate(SPECIAL_TOKENS)}
    rows = make_rows(read_examples(options.data, "content", "summary"), tokenizer, arguments, options.data)
    return arguments, rows


def timed_steps(batches, train, synchronise):
    """Returns seconds, losses and tokens of each step; ``train(pieces)`` returns a loss on the device."""
    seconds, losses, tokens, pieces = [], [], [], []
    for _, _, step in batches:
        synchronise()
        begun = time.perf_counter()
        loss = float(train(step))
        synchronise()
        seconds.append(time.perf_counter() - begun)
        losses.append(loss)
        tokens.append(sum(len(piece.input_ids) for piece in step))
        pieces.append(len(step))
        print(f"step {len(losses)}: {seconds[-1]:.3f} s, loss {loss:.4f}, {tokens[-1]} tokens, {pieces[-1]} pieces",
              flush=True)
    timed = sorted(seconds[WARM_UP:] or seconds)
    return {"seconds": seconds, "losses": losses, "tokens": tokens, "pieces": pieces,
            "median_seconds": timed[len(timed) // 2], "mean_seconds": sum(timed) / len(timed)}


def measure_tree(options):
    """Measures one of the trees."""
    sys.path.insert(1, str(ROOT / f"NLG_{options.framework}" / "src"))
    import chatglm2_ft  # first: in the Jittor tree it sets up Jittor
    import device
    from chatglm2_generate import build_generation_model

    arguments, rows = training_of(options)
    device.set_up("auto", arguments.random_seed, arguments.precision)
    set_most_tokens(arguments, device.FRAMEWORK, device.on_gpu())
    begun = time.perf_counter()
    model = chatglm2_ft.build_model(arguments.card, arguments.lora,
                                    stream_backbone(arguments.init_checkpoint, arguments.card),
                                    first_chatglm_lora(arguments))
    device.synchronise()
    result = {**device.describe(), "loading_seconds": time.perf_counter() - begun, "most_tokens": arguments.most_tokens}
    steps = chatglm2_ft.build_steps(arguments, model)
    batches = islice(batches_of_chatglm(arguments, rows), options.steps)
    result["training"] = timed_steps(batches, lambda pieces: steps.train(pieces, arguments.lr, True),
                                     device.synchronise)
    result["training_peak_bytes"] = device.peak_memory_bytes()
    print(f"trained: peak {result['training_peak_bytes'] / 1e9:.1f} GB", flush=True)
    if not options.no_generation:
        result["generation"] = timed_answers(build_generation_model(model), rows, options, device.synchronise)
        result["peak_bytes"] = device.peak_memory_bytes()
    return result


def timed_answers(model, rows, options, synchronise):
    """Times greedy answers of a fixed length to several prompts at once, twice."""
    from common.run import chatglm_generating

    chatglm_generating.END_OF_TEXT = -1  # none ends early
    arguments = chatglm_generation_arguments(["--model_name_or_path", "random", "--model_card", options.model_card,
                                              "--question", "-", "--max_target_length", str(NEW_TOKENS)], "")
    contexts, seconds = [row.context for row in rows[:PROMPTS]], []
    for _ in range(2):
        begun = time.perf_counter()
        answers = chatglm_generating.generate(model, contexts, arguments, range(len(contexts)))
        synchronise()
        seconds.append(time.perf_counter() - begun)
    return {"seconds": seconds, "prompts": len(contexts), "tokens": [len(answer) for answer in answers],
            "answers": answers}


def measure_peft(options):
    """Measures transformers' GlmForCausalLM with PEFT, rows padded to the longest, as users run it."""
    import peft
    import torch
    import transformers

    arguments, rows = training_of(options)
    card, device = arguments.card, torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config = transformers.GlmConfig(
        vocab_size=card.vocabulary, hidden_size=card.width, intermediate_size=card.inner_width,
        num_hidden_layers=card.layers, num_attention_heads=card.heads, num_key_value_heads=card.groups,
        head_dim=card.head_width, attention_bias=True, partial_rotary_factor=0.5, tie_word_embeddings=False,
        pad_token_id=0, attn_implementation="sdpa")
    torch.set_default_dtype(torch.bfloat16 if options.precision == "bf16" else torch.float32)
    with device:
        model = transformers.GlmForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    if options.checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    model = peft.get_peft_model(model, peft.LoraConfig(r=32, lora_alpha=16, lora_dropout=0.05, target_modules=[
        "q_proj", "k_proj", "v_proj"]))
    model.config.use_cache = False
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=arguments.lr)
    arguments.most_tokens = 1  # a piece for each row
    count = arguments.train_batch_size // options.micro_batch

    def train(pieces):
        total = 0.0
        for start in range(0, len(pieces), options.micro_batch):
            chosen = [piece.input_ids for piece in pieces[start:start + options.micro_batch]]
            ids = torch.zeros(len(chosen), arguments.seq_len, dtype=torch.long)
            labels, mask = torch.full_like(ids, -100), torch.zeros_like(ids)
            for row, (each, piece) in enumerate(zip(chosen, pieces[start:])):
                ids[row, :len(each)], mask[row, :len(each)] = torch.from_numpy(each).long(), 1
                labels[row, piece.loss_positions[0] + 1:len(each)] = ids[row, piece.loss_positions[0] + 1:len(each)]
            loss = model(ids.to(device), attention_mask=mask.to(device), labels=labels.to(device)).loss / count
            loss.backward()
            total = total + loss.detach()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return total

    synchronise = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    training = timed_steps(islice(batches_of_chatglm(arguments, rows), options.steps), train, synchronise)
    return {"framework": PEFT, "version": f"transformers {transformers.__version__}, peft {peft.__version__}, torch "
            f"{torch.__version__}", "device": torch.cuda.get_device_name() if device.type == "cuda" else "CPU",
            "precision": options.precision, "micro_batch": options.micro_batch,
            "checkpointing": options.checkpointing, "training": training,
            "training_peak_bytes": torch.cuda.max_memory_reserved() if device.type == "cuda" else None}


def main(argv):
    options = parse(argv)
    result = (measure_peft if options.framework == PEFT else measure_tree)(options)
    parameters = sum(math.prod(shape) for shape in
                     chatglm_shapes(CHATGLM_CARDS[options.model_card]).values())
    write_json(options.output, {"model_card": options.model_card, "weights": "random", "parameters": parameters,
                                "memory_gb": options.memory_gb, **result})
    training = result["training"]
    print(f"{options.framework}: {training['median_seconds']:.3f} s a step (median), last loss "
          f"{training['losses'][-1]:.4f}, peak {(result['training_peak_bytes'] or 0) / 1e9:.1f} GB")


if __name__ == "__main__":
    run_main(main)
