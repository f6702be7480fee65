"""The small BERT of tests/oracles/make_bert_oracle.py in the tree under test."""

from argparse import Namespace

from tests.oracles.make_bert_oracle import CARD, SETTINGS, SMOOTHING
from tests.trees.small_model import part

from bert_eae_ft import build_model


def flags(rank=SETTINGS.rank, heads="trained", **others):
    """The flags of bert_eae_ft.py that a model and its steps read."""
    lora = type(SETTINGS)(rank=rank, alpha=SETTINGS.alpha, dropout=others.pop("lora_dropout", 0.0))
    return Namespace(**{"card": CARD, "lora": lora, "heads": heads, "backbone_dropout": 0.0, "head_dropout": 0.0,
                        "label_smooth": SMOOTHING, "grad_acc": 1, "clip": 0.0, "adam_beta1": 0.9, "adam_beta2": 0.999,
                        "adam_epislon": 1e-6, "weight_decay": 0.0, "correct_bias": True, "no_decay_bias": False,
                        "precision": "fp32", **others})


def model_of(oracle, arguments):
    """The oracle's model as bert_eae_ft.py builds it; without LoRA for a rank of 0."""
    weights = {name: array for name, array in part(oracle, "weights/").items()
               if arguments.lora.rank or "lora_" not in name}
    return build_model(arguments, weights)
