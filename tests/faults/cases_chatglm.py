"""Bad arguments, rows and files for ChatGLM2's programs."""

import json

from common.paths import PRETRAINED
from tests.faults.cases import Case

TRAIN, GENERATE = "src/chatglm2_ft.py", "src/chatglm2_generate.py"
TOKENIZER = PRETRAINED / "chatglm2-nano" / "tokenizer.model"
ROW = json.dumps({"content": "类型#裙", "summary": "这款裙子很美。"}, ensure_ascii=False) + "\n"
MODEL = {"model_name_or_path": "random", "model_card": "chatglm2.nano", "device": "cpu"}
NEEDED = {**MODEL, "train_file": "train.json", "output_dir": "out", "max_steps": 1}
# {name: (members of config.json, files, the sentence)}
TRAINING = {
    "an unknown name": ({"lora_rank": 4}, {}, r"config\.json: --lora_rank: no such name; did you mean --lora_r\?"),
    "a list": ({"seed": [1]}, {}, r"config\.json: 'seed' is a list, expected a number, a text, true or false"),
    "another column": ({"prompt_column": "instruction"}, {},
                       r"train\.json:1: has no column 'instruction'; it has 'content', 'summary': .*--prompt_column"),
    "no rows": ({}, {"train.json": ""}, r"train\.json: holds no rows"),
    "empty rows": ({}, {"train.json": ROW.replace("类型#裙", "")}, r"train\.json: none of its 1 rows has both"),
    "no JSON": ({}, {"train.json": ROW + "{\n"}, r"train\.json:2: cannot be read as JSON"),
    "no data": ({"train_file": "elsewhere.json"}, {}, r"elsewhere\.json: no such file"),
    "no tokenizer": ({"tokenizer_name": "elsewhere"}, {}, r"elsewhere: no such file; expected the SentencePiece model"),
    "no SentencePiece model": ({"tokenizer_name": "train.json"}, {}, r"train\.json: is no SentencePiece model"),
    "the tokenizer of another model": ({"model_card": "chatglm2.6b", "tokenizer_name": str(TOKENIZER)}, {},
                                       r"has 4600 pieces, expected 64789: it is the tokenizer of another model"),
    "no weights": ({"model_name_or_path": "elsewhere", "tokenizer_name": str(TOKENIZER)}, {},
                   r"elsewhere: no such checkpoint"),
    "missing shards": ({"model_name_or_path": "model", "tokenizer_name": str(TOKENIZER)},
                       {"model/pytorch_model.bin.index.json": json.dumps({"weight_map": {
                           "a": "one.bin", "b": "two.bin", "c": "three.bin"}})},
                       r"lists 3 shards, and model/one\.bin, model/three\.bin, model/two\.bin does not exist"),
    "no LoRA file": ({"lora_checkpoint": "train.json"}, {}, r"train\.json: neither safetensors nor a torch checkpoint"),
    "a validation without data": ({"do_eval": True}, {}, r"--do_eval needs --validation_file"),
    "float64": ({"fp64": True}, {}, r"--fp64: ChatGLM2 is computed in fp32, tf32, bf16 and fp16 alone"),
    "prediction": ({"do_predict": True}, {}, r"generated and scored by chatglm2_generate\.py"),
}


def cases():
    """Yields the cases."""
    for name, (members, files, sentence) in TRAINING.items():
        yield Case(name, TRAIN, ["config.json"], sentence,
                   files={"train.json": ROW, **files, "config.json": json.dumps({**NEEDED, **members})})
    yield Case("two files", TRAIN, ["a.json", "b.json"], r"'a\.json': expected flags, or one \.json file alone")
    model = [word for name, value in MODEL.items() for word in (f"--{name}", value)]
    yield Case("no output", GENERATE, [*model, "--test_file", "test.json"], r"--test_file needs --output_file",
               files={"test.json": ROW})
    yield Case("a history of questions", GENERATE, [*model, "--question", "x", "--history", "history.json"],
               r"history\.json: \[0\] has 1 texts, expected a question and its answer",
               files={"history.json": '[["x"]]'})
    yield Case("no LoRA file", GENERATE, [*model, "--question", "x", "--lora_checkpoint", "lora.safetensors"],
               r"lora\.safetensors: no such checkpoint")


CASES = list(cases())
