"""What transformers and PEFT make of our files is what the PyTorch tree makes of the arrays."""

import logging

import huggingface_hub
import numpy as np
import peft
import pytest
import torch
from transformers import GPT2LMHeadModel

from common.model.checkpoint import new_record
from common.model.huggingface_files import write_model
from common.model.lora_arrays import TARGETS, LoraSettings, lora_shapes, merge_lora
from common.model.lora_file import save_lora
from common.model.model_cards import MODEL_CARDS
from common.model.peft_export import main as export_peft
from common.run.batching import make_batch
from common.run.beam_search import SearchSettings, search
from tests.oracles.make_oracle import CARD, ROWS, SETTINGS, padded_ids, places_of_tokens
from tests.oracles.plain_beam_search import plain_search
from tests.trees.small_model import arrays_of, backbone_and_lora, relative_error

import device
from gpt2_beam import build_search_model
from model import GPT2LMModel

pytestmark = [pytest.mark.usefixtures("on_device"), pytest.mark.slow,
              pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")]
CONTEXTS = [[5, 17, 3, 96], [8, 96], [1, 2, 3, 4, 5, 6, 7, 96], [33]]


@pytest.fixture(autouse=True)
def small_model_offline(monkeypatch):
    monkeypatch.setitem(MODEL_CARDS, CARD.name, CARD)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    logging.getLogger("transformers").setLevel(logging.ERROR)


@pytest.fixture
def merged(oracle, tmp_path, vocab):
    """The oracle's merged weights, and transformers' model of their folder."""
    arrays = merge_lora(*backbone_and_lora(oracle), SETTINGS)
    write_model(tmp_path / "merged", arrays, CARD)
    return arrays, GPT2LMHeadModel.from_pretrained(tmp_path / "merged").eval()


@pytest.mark.parametrize("targets", [("q", "v"), ("k", "o"), TARGETS], ids=",".join)
def test_an_exported_adapter_computes_what_our_layers_compute(oracle, tmp_path, vocab, targets):
    settings = LoraSettings(rank=2, alpha=6, targets=targets)
    generator = np.random.RandomState(2)
    backbone, _ = backbone_and_lora(oracle)
    lora = {name: (0.2 * generator.randn(*shape)).astype(np.float32)
            for name, shape in lora_shapes(CARD, settings).items()}
    write_model(tmp_path / "base", backbone, CARD)
    save_lora(tmp_path / "a.safetensors", lora, new_record(CARD, settings, tmp_path / "base"))
    export_peft([str(tmp_path / "a.safetensors"), str(tmp_path / "adapter")])
    theirs = peft.AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter").eval()
    batch = make_batch(ROWS, 48)
    with torch.no_grad():
        expected = theirs(input_ids=padded_ids(batch)).logits[places_of_tokens(batch)].numpy()
    ours = GPT2LMModel(CARD, settings)
    ours.load_arrays({**backbone, **lora})
    ours = device.to_device(ours).eval()
    hidden, _ = ours.transformer(arrays_of(batch))
    assert relative_error(device.to_numpy(ours.logits(hidden)), expected) < 1e-5


@pytest.mark.parametrize("settings", [
    SearchSettings(beam=3, eval_len=8, length_penalty=0.8, eos_token_id=(85,)),
    SearchSettings(beam=4, eval_len=8, length_penalty=0.8, no_repeat_ngram_size=2, eos_token_id=(96, 48)),
], ids=["beam 3", "beam 4"])
def test_our_search_over_transformers_model_finds_the_same(merged, settings):
    arrays, theirs = merged

    def logits_of(ids):
        with torch.no_grad():
            return theirs(torch.tensor([ids])).logits[0, -1].numpy()

    found, _ = search(build_search_model(CARD, arrays), CONTEXTS, settings)
    assert [output.tolist() for output in found] == [plain_search(logits_of, context, settings)[0]
                                                     for context in CONTEXTS]


@pytest.mark.parametrize("beam, eval_len, eos", [(1, 20, 85), (1, 20, 18), (4, 12, None)],
                         ids=["greedy", "greedy, another end", "beam without an end"])
def test_generate_finds_the_same(merged, beam, eval_len, eos):
    """transformers keeps a full beam beside finished hypotheses, ours counts them in: without ends both do the same."""
    arrays, theirs = merged
    settings = SearchSettings(beam=beam, eval_len=eval_len, length_penalty=0.8, eos_token_id=(eos or 96,),
                              min_length=0 if eos else eval_len)
    found, _ = search(build_search_model(CARD, arrays), CONTEXTS, settings)
    assert any(len(output) < eval_len for output in found) == bool(eos)
    for context, output in zip(CONTEXTS, found):
        generated = theirs.generate(
            torch.tensor([context]), attention_mask=torch.ones(1, len(context), dtype=torch.int64), num_beams=beam,
            do_sample=False, max_new_tokens=eval_len, min_new_tokens=None if eos else eval_len, length_penalty=0.8,
            eos_token_id=eos or 96, pad_token_id=0)
        assert generated[0, len(context):].tolist() == output.tolist()
