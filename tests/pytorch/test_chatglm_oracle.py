"""ChatGLM2 of the PyTorch tree against transformers' GlmForCausalLM and peft's LoRA, in float64."""

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from common.run.batching import Row, converted, make_batch, pack
from tests.oracles.glm import glm_model
from tests.trees.small_chatglm import CARD, LORA, backbone, lora_arrays, model_of

import device

pytestmark = pytest.mark.usefixtures("on_device")
LENGTHS = (13, 1, 30)


@pytest.fixture(scope="module")
def sequences():
    generator = np.random.RandomState(3)
    return [generator.randint(0, CARD.vocabulary, length).tolist() for length in LENGTHS]


def test_logits(sequences):
    oracle, model = glm_model(CARD, backbone()), model_of(backbone())
    with torch.no_grad():
        hidden, _ = model.transformer(converted(pack(sequences), device.from_numpy))
        found = device.to_numpy(model.logits(hidden))
        expected = np.concatenate([oracle(torch.tensor([each])).logits[0].numpy() for each in sequences])
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_gradients_of_lora(sequences):
    """peft updates queries, keys and values each by itself: with one A and the parts of one B it computes the same."""
    rows = [Row(each[:len(each) // 2 or 1], each[len(each) // 2:]) for each in sequences if len(each) > 1]
    arrays = lora_arrays()
    model = model_of({**backbone(), **arrays}, LORA)
    model.loss(converted(make_batch(rows, 99), device.from_numpy), 0.0).backward()
    found = {name: device.to_numpy(parameter.grad) for name, parameter in model.named_parameters()
             if parameter.requires_grad}
    assert found.keys() == arrays.keys()

    oracle = glm_model(CARD, backbone())
    oracle = get_peft_model(oracle, LoraConfig(r=LORA.rank, lora_alpha=LORA.alpha, lora_dropout=0.0,
                                               target_modules=["q_proj", "k_proj", "v_proj"]))
    parts = np.split(np.arange(CARD.fused_width), [64, 96])
    layers = [layer.self_attn for layer in oracle.base_model.model.model.layers]
    for number, attention in enumerate(layers):
        name = f"transformer.encoder.layers.{number}.self_attention.query_key_value."
        for projection, part in zip((attention.q_proj, attention.k_proj, attention.v_proj), parts):
            projection.lora_A.default.weight.data = torch.from_numpy(arrays[name + "lora_A"].astype(np.float64))
            projection.lora_B.default.weight.data = torch.from_numpy(arrays[name + "lora_B"][part].astype(np.float64))
    losses = []
    for row in rows:
        ids = torch.tensor(row.context + row.completion)
        logs = oracle(ids[None]).logits[0].log_softmax(1)
        losses.append(-logs[range(len(row.context) - 1, len(ids) - 1), ids[len(row.context):]])
    losses = torch.cat(losses)
    (losses.sum() / (len(losses) + 0.0001)).backward()
    for number, attention in enumerate(layers):
        name = f"transformer.encoder.layers.{number}.self_attention.query_key_value."
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        for kind, expected in (("lora_A", sum(each.lora_A.default.weight.grad for each in projections)),
                               ("lora_B", torch.cat([each.lora_B.default.weight.grad for each in projections]))):
            expected = expected.numpy()
            assert np.abs(found[name + kind] - expected).max() <= 1e-5 * np.abs(expected).max(), name + kind
