"""Writes oracle.npz beside it: what a small GPT-2 with LoRA must compute, by other people's code in float64.

    .venv_pytorch/bin/python -m tests.oracles.make_oracle

The model is transformers' GPT2LMHeadModel with loralib's MergedLinear as its query-key-value projection; gradients are
torch's; the optimiser is written out in numpy from its formula. Both trees are compared with this file, each in its
own environment; a test makes the file again and compares.
"""

import io
from pathlib import Path

import numpy as np

from common.files import atomic_write
from common.model.lora_arrays import LoraSettings, initial_lora
from common.model.model_cards import ModelCard, backbone_shapes
from common.run.batching import Row, make_batch

PATH = Path(__file__).resolve().parent / "oracle.npz"
CARD = ModelCard("gpt2.test", 24, 2, 3, "gpt2-test", positions=48, vocabulary=97)
SETTINGS = LoraSettings(rank=4, alpha=32, dropout=0.0)
ROWS = [Row([5, 17, 3, 96], [40, 41, 96]), Row([8, 9, 96], [60, 2, 77, 13, 4, 96]), Row([1, 96], [33, 96])]
SMOOTHING = 0.1
OPTIMIZER = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-6, "weight_decay": 0.01, "learning_rate": 0.02}
STEPS = 10


def weights():
    """Backbone and LoRA arrays as float32, large enough for every part of the model to matter."""
    generator = np.random.RandomState(7)
    backbone = {}
    for name, shape in backbone_shapes(CARD).items():
        centre = 1.0 if name.endswith("weight") and ".ln_" in name else 0.0
        backbone[name] = (centre + 0.2 * generator.randn(*shape)).astype(np.float32)
    lora = initial_lora(CARD, SETTINGS, 3)
    for name, array in lora.items():
        if name.endswith("lora_B"):
            lora[name] = (0.05 * generator.randn(*array.shape)).astype(np.float32)
    return backbone, lora


def plain_model():
    """Returns transformers' GPT-2 of the card."""
    from transformers import GPT2Config, GPT2LMHeadModel
    from transformers.utils import logging

    logging.set_verbosity_error()
    return GPT2LMHeadModel(GPT2Config(
        vocab_size=CARD.vocabulary, n_positions=CARD.positions, n_embd=CARD.width, n_layer=CARD.layers,
        n_head=CARD.heads, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, bos_token_id=None, eos_token_id=None))


def reference_model(backbone, lora):
    """Returns the model with loralib's layers; without LoRA arrays the plain one, all of whose weights are trained."""
    import loralib
    import torch

    model = plain_model()
    for block in model.transformer.h if lora else ():
        layer = loralib.MergedLinear(CARD.width, 3 * CARD.width, r=SETTINGS.rank, lora_alpha=SETTINGS.alpha,
                                     enable_lora=[True, False, True], fan_in_fan_out=True, merge_weights=False)
        block.attn.c_attn = layer
    model = model.double().train()
    state = {name: torch.tensor(array, dtype=torch.float64) for name, array in {**backbone, **lora}.items()}
    model.lm_head.weight = model.transformer.wte.weight
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert missing == ["lm_head.weight"] and not unexpected, (missing, unexpected)
    if lora:
        loralib.mark_only_lora_as_trainable(model)
    return model


def reference_loss(model, batch, smoothing):
    import torch

    logits = model(padded_ids(batch)).logits[places_of_tokens(batch)][batch.loss_positions]
    log_p = torch.log_softmax(logits, dim=1)
    nll = -log_p.gather(1, torch.tensor(batch.loss_targets, dtype=torch.int64)[:, None]).squeeze(1)
    per_token = (1 - smoothing) * nll + smoothing * -log_p.mean(dim=1)
    return per_token.sum() / (len(per_token) + 0.0001)


def padded_ids(batch):
    """Returns the ``(batch, length)`` tokens as transformers takes them, filled up with 0."""
    import torch

    ids = np.zeros((len(batch.offsets) - 1, batch.length), np.int64)
    ids[places_of_tokens(batch)] = batch.input_ids
    return torch.from_numpy(ids)


def places_of_tokens(batch):
    """Returns the row and the column of each token in padded rows."""
    return np.repeat(np.arange(len(batch.offsets) - 1), np.diff(batch.offsets)), batch.position_ids


def make():
    """Returns every array of the file."""
    import torch

    backbone, lora = weights()
    model, batch = reference_model(backbone, lora), make_batch(ROWS, 48)
    parameters = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    arrays = {f"weights/{name}": array for name, array in {**backbone, **lora}.items()}
    arrays["logits"] = model(padded_ids(batch)).logits.detach().numpy()
    arrays["validation_loss"] = reference_loss(model, batch, 0.0).detach().numpy()
    first = {name: np.zeros(parameter.shape) for name, parameter in parameters.items()}
    second = {name: np.zeros(parameter.shape) for name, parameter in parameters.items()}
    losses = []
    for step in range(1, STEPS + 1):
        model.zero_grad()
        loss = reference_loss(model, batch, SMOOTHING)
        loss.backward()
        losses.append(loss.item())
        for name, parameter in parameters.items():
            gradient = parameter.grad.numpy()
            if step == 1:
                arrays[f"gradients/{name}"] = gradient.copy()
            rate, value = OPTIMIZER["learning_rate"], parameter.detach().numpy()
            first[name] = OPTIMIZER["beta1"] * first[name] + (1 - OPTIMIZER["beta1"]) * gradient
            second[name] = OPTIMIZER["beta2"] * second[name] + (1 - OPTIMIZER["beta2"]) * gradient ** 2
            size = rate * np.sqrt(1 - OPTIMIZER["beta2"] ** step) / (1 - OPTIMIZER["beta1"] ** step)
            value = value - size * first[name] / (np.sqrt(second[name]) + OPTIMIZER["eps"])
            parameter.data = torch.tensor(value - rate * OPTIMIZER["weight_decay"] * value)
    arrays["losses"] = np.array(losses)
    plain = reference_model(backbone, {})
    loss = reference_loss(plain, batch, SMOOTHING)
    loss.backward()
    arrays["all/loss"] = loss.detach().numpy()
    arrays.update({f"all/gradients/{name}": parameter.grad.numpy() for name, parameter in plain.named_parameters()})
    arrays.update({f"trained/{name}": parameter.detach().numpy() for name, parameter in parameters.items()})
    return arrays


if __name__ == "__main__":
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **make())
    with atomic_write(PATH, "wb") as file:
        file.write(buffer.getvalue())
    print(f"{PATH}: {PATH.stat().st_size} bytes")
