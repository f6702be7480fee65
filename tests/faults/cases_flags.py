"""Bad flags, rows and folders for training, beam search, their driver and the download of weights."""

from common.paths import PRETRAINED
from tests.faults.cases import Case

TRAIN, BEAM = "src/gpt2_ft.py", "src/gpt2_beam.py"
TASK, DOWNLOAD = "scripts/run_task.py", "scripts/download_pretrained_checkpoints.py"
ROWS = '{"context": [1, 2], "completion": [3, 4]}\n' * 3
FILES = {"rows.jsonl": ROWS}
COMMON = ["--init_checkpoint", str(PRETRAINED / "gpt2-nano" / "model.safetensors"), "--model_card", "gpt2.nano",
          "--work_dir", "w", "--device", "cpu"]
BASE = {TRAIN: ["--train_data", "rows.jsonl", "--valid_data", "rows.jsonl", "--max_step", "2", *COMMON],
        BEAM: ["--data", "rows.jsonl", *COMMON],
        TASK: ["e2e", "--work_dir", "w", "--framework", "pytorch", "--device", "cpu"], DOWNLOAD: []}

# Numbers outside of their flag's range, by program.
OUTSIDE = {
    TRAIN: {"lora_alpha": "0 -1 nan inf", "clip": "nan -1 inf", "adam_epislon": "-1 0 nan", "lr": "-1 nan inf 1e39",
            "weight_decay": "-1 nan", "label_smooth": "1 -0.1 nan", "lora_dropout": "1 nan", "adam_beta1": "1 -1",
            "adam_beta2": "1 nan", "lora_dim": "-1 -4", "random_seed": "-1 4294967296", "train_batch_size": "0 40000",
            "valid_batch_size": "0", "grad_acc": "0", "warmup_step": "-1", "max_epoch": "0",
            "max_step": "0 99999999999", "log_interval": "0", "eval_interval": "-1", "save_interval": "0",
            "eval_epoch": "0", "seq_len": "1 -512"},
    BEAM: {"repetition_penalty": "nan 0 -1 inf", "length_penalty": "nan 1e6 -1e6", "min_length": "-1",
           "eval_len": "-5 0", "beam": "0 -1", "batch_size": "0", "no_repeat_ngram_size": "-1", "eos_token_id": "-1",
           "random_seed": "-1", "lora_alpha": "nan"},
}
# Flags that no program can make sense of, or not together: (words, sentence).
SENSELESS = {
    TRAIN: [
        ("--lora_targets q,q", r"LoRA targets q,q: a projection has one update"),
        ("--lora_targets q,x", r"expected some of q,k,v,o,fc,proj"),
        ("--lora_targets ,", r"LoRA targets \(none\)"),
        ("--lora_dim 100000", r"--lora_dim 100000: expected at most 192, the width of gpt2\.nano"),
        ("--grad_acc 100", r"--grad_acc 100: more than the 2 steps .* never be updated"),
        ("--seq_len 600", r"at most 512, the positions of gpt2\.nano"),
        ("--scheduler cycle --i_steps=-5,10 --i_lrs 1,1", r"--i_steps -5: expected at least 0"),
        ("--scheduler cycle --i_steps=0,10 --i_lrs=1,-1", r"--i_lrs -1\.0: expected at least 0"),
        ("--scheduler cycle --i_steps=0,10 --i_lrs=1,nan", r"--i_lrs nan: expected at least 0"),
        ("--scheduler cycle --i_steps 10,0 --i_lrs 1,1", r"two or more, in rising steps"),
        ("--scheduler cycle --i_steps 0,x --i_lrs 1,1", r"expected comma-separated numbers"),
        ("--scheduler dev_perf", r"keeps the rate constant"), ("--roll_lr 1", r"does nothing with them"),
        ("--platform azure", r"only local works"), ("--lora_checkpoint=", r"--lora_checkpoint '': is empty"),
        ("--work_dir=", r"--work_dir '': is empty"), ("--lr fast", r"argument --lr: invalid float value: 'fast'"),
        ("--bf16 --fp16", r"not allowed with"), ("--fp64 --bf16", r"--bf16: not allowed with argument --fp64"),
        ("--learning_rate 1", r"unrecognized arguments: --learning_rate 1"),
        ("--train_batch 4", r"unrecognized arguments: --train_batch 4")],
    BEAM: [
        ("--min_length 65", r"--min_length 65: expected at most --eval_len 64"),
        ("--eval_len 512", r"leaves no room for a context"), ("--beam 60000", r"at most 50257, the size of"),
        ("--eos_token_id 60000", r"no such token"), ("--lora_targets v,v", r"name each once"),
        ("--output_file .", r"--output_file \.: expected the name of a file"),
        ("--output_file a/", r"expected the name of a file"), ("--output_file=", r"is empty"),
        ("--output_file ../rows.jsonl", r"rows\.jsonl: is the same file as the input rows\.jsonl")],
    TASK: [
        ("--min_length 65", r"--min_length 65: expected at most --eval_len 64"), ("--clip nan", r"--clip nan: exp"),
        ("--lora_targets q,q", r"name each once"), ("--scheduler cycle", r"the same number of points"),
        ("--data x", r"--data: the drivers decode the test set that they made"),
        ("--output_file x", r"--output_file: the drivers decode"), ("--stages cook", r"'cook' is none of"),
        ("--rows 1 1 1", r"--rows goes with --preset sampled"),
        ("--stages report", r"the stage train has not ended"), ("--stages beam", r"run the stage train first")],
    DOWNLOAD: [("gpt3", r"gpt3: unknown; expected names of gpt2, gpt2-medium, gpt2-large"),
               ("gpt2 --source x", r"--source x: no such folder")],
}


def flags():
    """Yields cases of flags; one of each program also as a user starts it."""
    for program, numbers in OUTSIDE.items():
        for name, values in numbers.items():
            for value in values.split():
                yield Case(f"{name} {value}", program, [*BASE[program], f"--{name}={value}"],
                           rf"--{name} \S+: expected (at least|more than) ", files=FILES)
    for program, cases in SENSELESS.items():
        for words, sentence in cases:
            yield Case(words, program, [*BASE[program], *words.split()], sentence, files=FILES)
    yield Case("no end", TRAIN, [*BASE[TRAIN][:4], *COMMON], r"training would have no end", files=FILES)
    for program, words in ((TRAIN, "--clip nan"), (BEAM, "--repetition_penalty nan")):
        yield Case(f"{words}, as a process", program, [*BASE[program], *words.split()], rf"{words}: expected at least",
                   files=FILES, is_process=True)


# Encoded rows: {name: (content, sentence)}.
DATA = {
    "contexts that fill seq_len": ('{"context": [1, 2, 3], "completion": [4]}\n' * 2, r"none of its 2 rows has a tok"),
    "no completion": ('{"context": [1], "completion": []}\n', r"none of its 1 rows has a token to predict"),
    "text": ('{"context": "a", "completion": "b"}\n', r"rows\.jsonl:1: \.context is text, expected ids"),
    "no such token": (ROWS + '{"context": [1], "completion": [50257]}\n', r"rows\.jsonl:4: \.completion holds 50257"),
    "an empty file": ("", r"rows\.jsonl: (no rows in it|holds no rows)"),
}


def data():
    """Yields cases of rows and of the folders around them."""
    for name, (content, sentence) in DATA.items():
        words = [*BASE[TRAIN], "--seq_len", "3"]
        yield Case(name, TRAIN, words, sentence, files={"rows.jsonl": content})
        yield Case(f"{name}, for validation", TRAIN, [*words, "--train_data", "good.jsonl"], sentence,
                   files={"rows.jsonl": content, "good.jsonl": '{"context": [1], "completion": [2]}\n'})
    for program, word in ((TRAIN, "--train_data"), (BEAM, "--data")):
        yield Case("no such data", program, [*BASE[program], word, "x.jsonl"], r"x\.jsonl: no such file", files=FILES)
        yield Case("work directory is a file", program, [*BASE[program], "--work_dir", "rows.jsonl"],
                   r"rows\.jsonl is a file, expected a folder", files=FILES)
    for name in ("model.4.safetensors", "train_log.jsonl", "train_summary.json"):
        yield Case(f"{name} of another run", TRAIN, BASE[TRAIN],
                   rf"w: holds another training's {name}; give a --work_dir of its own, or --overwrite",
                   files={**FILES, f"w/{name}": "x"})


CASES = [*flags(), *data()]
