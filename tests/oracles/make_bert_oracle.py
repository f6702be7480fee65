"""Writes bert_oracle.npz beside it: what BERT with two heads must compute, by other people's code.

    .venv_pytorch/bin/python -m tests.oracles.make_bert_oracle

A small model, in float64: transformers' BertModel, Hugging Face PEFT's LoRA on query and value, two linear heads, and
the gradients of their loss by torch, of LoRA and the heads and of all weights. And MiniLM's hidden states of two
queries, by transformers in float32. Both trees are compared with this file, each in its own environment; a test makes
the file again and compares.
"""

import io
from pathlib import Path

import numpy as np

from common.files import atomic_write
from common.model.bert_cards import BERT_CARDS, LAYER_NORM_EPS, BertCard
from common.model.bert_files import checked_minilm, from_hugging_face, package_folder, to_hugging_face
from common.model.lora_arrays import BertLoraSettings, initial_lora
from common.run.batching import pack
from common.run.event_batches import QueryBatch
from tests.oracles.make_oracle import padded_ids, places_of_tokens

PATH = Path(__file__).resolve().parent / "bert_oracle.npz"
CARD = BertCard("bert.test", 24, 2, 3, "bert-test", positions=48, vocabulary=97)
SETTINGS = BertLoraSettings(rank=4, alpha=16)
SMOOTHING = 0.1
QUERIES = [[5, 17, 3, 96, 40, 41, 96, 7, 7, 30, 96], [8, 9, 96, 60, 2, 77, 96], [1, 2, 3]]
TYPES = [[0, 1, 1, 0, 0, 0, 1, 0, 0, 0, 0], [0, 1, 0, 0, 1, 1, 0], [1, 0, 0]]
TARGETS = [[5, 7], [2, 2], [0, 2]]
MINILM_QUERIES = [[101, 3395, 102, 1996, 5776, 2764, 14855, 8630, 3401, 2044, 3949, 1012, 102],
                  [101, 13004, 102, 2498, 3047, 102]]
MINILM_TYPES = [[0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 1, 0]]


def batch_of(queries, types, targets=None, step_key=None):
    """Returns the QueryBatch of lists of token ids."""
    count = sum(map(len, queries))
    return QueryBatch(**vars(pack(queries)), token_type_ids=np.concatenate(types).astype(np.int32),
                      targets=np.array(targets or [[0, 0]] * len(queries), np.int32),
                      loss_weights=np.full(len(queries), 1 / len(queries)),
                      step_key=np.zeros(1, np.int32) if step_key is None else step_key,
                      token_keys=np.arange(count, dtype=np.int32) * 77 + 5)


def weights():
    """All arrays as float32, in our names and layout, large enough for every part of the model to matter."""
    generator = np.random.RandomState(7)
    shapes = {**CARD.backbone_shapes(), "heads.weight": (CARD.width, 2), "heads.bias": (2,)}
    arrays = {name: ((1.0 if name.endswith("norm.weight") else 0.0) + 0.2 * generator.randn(*shape)).astype(np.float32)
              for name, shape in shapes.items()}
    lora = initial_lora(CARD, SETTINGS, 3)
    for name, array in lora.items():
        if name.endswith("lora_B"):
            lora[name] = (0.05 * generator.randn(*array.shape)).astype(np.float32)
    return arrays, lora


def bert_model(card, arrays, dtype):
    """Returns transformers' BertModel with a backbone of our names."""
    import torch
    from transformers import BertConfig, BertModel

    model = BertModel(BertConfig(
        vocab_size=card.vocabulary, hidden_size=card.width, num_hidden_layers=card.layers,
        num_attention_heads=card.heads, intermediate_size=4 * card.width, max_position_embeddings=card.positions,
        hidden_dropout_prob=0, attention_probs_dropout_prob=0, layer_norm_eps=LAYER_NORM_EPS,
        attn_implementation="eager"), add_pooling_layer=False).to(dtype)
    state = {name.removeprefix("bert."): torch.from_numpy(array).to(dtype)
             for name, array in to_hugging_face(arrays, card).items() if name.startswith("bert.")}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and all(name.endswith("_ids") for name in missing), (missing, unexpected)
    return model


def hidden_states(model, batch):
    """Returns ``(count, width)``, those of the tokens of a batch."""
    import torch

    types, mask = torch.zeros_like(padded_ids(batch)), torch.zeros_like(padded_ids(batch))
    types[places_of_tokens(batch)] = torch.from_numpy(batch.token_type_ids).long()
    mask[places_of_tokens(batch)] = 1
    hidden = model(input_ids=padded_ids(batch), attention_mask=mask, token_type_ids=types).last_hidden_state
    return hidden[places_of_tokens(batch)]


def span_loss(logits, batch, smoothing):
    """Returns the mean over queries of the cross-entropies of start and end."""
    import torch

    losses = []
    for index, (start, end) in enumerate(zip(batch.offsets, batch.offsets[1:])):
        log_p = torch.log_softmax(logits[start:end], dim=0)
        for column in range(2):
            losses.append(-(1 - smoothing) * log_p[batch.targets[index, column], column]
                          - smoothing * log_p[:, column].mean())
    return torch.stack(losses).sum() / (len(batch.offsets) - 1)


def with_peft(model, lora):
    """Puts PEFT's layers on query and value, with our LoRA arrays; returns ``{our name: its two parameters}``."""
    import peft
    import torch

    settings = peft.LoraConfig(r=SETTINGS.rank, lora_alpha=SETTINGS.alpha, target_modules=["query", "value"])
    wrapped = peft.get_peft_model(model, settings, autocast_adapter_dtype=False)
    parameters = {}
    for layer in range(CARD.layers):
        attention = wrapped.base_model.model.encoder.layer[layer].attention.self
        for end in ("lora_A", "lora_B"):
            name = f"bert.layers.{layer}.attention.query_key_value.{end}"
            both = [getattr(part, end).default.weight for part in (attention.query, attention.value)]
            for parameter, half in zip(both, np.split(lora[name], 2)):
                parameter.data = torch.from_numpy(half).double()
            parameters[name] = both
    return parameters


def make():
    """Returns every array of the file."""
    import torch

    (arrays, lora), batch = weights(), batch_of(QUERIES, TYPES, TARGETS)
    made = {f"weights/{name}": array for name, array in {**arrays, **lora}.items()}
    heads = [torch.nn.Linear(CARD.width, 1).double() for _ in range(2)]
    for column, head in enumerate(heads):
        head.weight.data = torch.from_numpy(arrays["heads.weight"].T[column:column + 1]).double()
        head.bias.data = torch.from_numpy(arrays["heads.bias"][column:column + 1]).double()

    def logits_of(model):
        hidden = hidden_states(model, batch)
        return torch.cat([head(hidden) for head in heads], dim=1)

    def head_gradients():
        return {"heads.weight": torch.cat([head.weight.grad for head in heads]).T.numpy().copy(),
                "heads.bias": torch.cat([head.bias.grad for head in heads]).numpy().copy()}

    plain = bert_model(CARD, arrays, torch.float64).eval()
    loss = span_loss(logits_of(plain), batch, SMOOTHING)
    loss.backward()
    gradients = from_hugging_face({name: parameter.grad.numpy() for name, parameter in plain.named_parameters()},
                                  CARD, "gradients")
    made["all/loss"] = loss.detach().numpy()
    made.update({f"all/gradients/{name}": array for name, array in {**gradients, **head_gradients()}.items()})
    for head in heads:
        head.zero_grad()
    adapted = bert_model(CARD, arrays, torch.float64).eval()
    parameters = with_peft(adapted, lora)
    logits = logits_of(adapted)
    made["logits"] = logits.detach().numpy()
    made["validation_loss"] = span_loss(logits, batch, 0.0).detach().numpy()
    loss = span_loss(logits, batch, SMOOTHING)
    loss.backward()
    made["loss"] = loss.detach().numpy()
    gradients = {name: np.concatenate([half.grad.numpy() for half in both]) for name, both in parameters.items()}
    made.update({f"gradients/{name}": array for name, array in {**gradients, **head_gradients()}.items()})
    made["minilm/hidden"] = minilm_states()
    return made


def minilm_states():
    """Returns transformers' hidden states of MINILM_QUERIES, ``(count, 384)``."""
    import torch
    from transformers import BertModel

    model = BertModel.from_pretrained(checked_minilm(package_folder()), attn_implementation="eager").eval()
    assert model.config.hidden_size == BERT_CARDS["bert.minilm"].width
    with torch.no_grad():
        return hidden_states(model, batch_of(MINILM_QUERIES, MINILM_TYPES)).numpy()


if __name__ == "__main__":
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **make())
    with atomic_write(PATH, "wb") as file:
        file.write(buffer.getvalue())
    print(f"{PATH}: {PATH.stat().st_size} bytes")
