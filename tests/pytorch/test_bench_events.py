"""bench_events.py: what the user's loop gives to transformers' model, the table, and flags that are refused."""

import numpy as np
import pytest
import torch

from common.data.events import Span
from common.data.word_pieces import Query
from common.errors import UserError
from common.run.event_batches import make_query_batch
from scripts.bench import bench_events


def query_of(length, spans=()):
    places = list(range(3, 3 + length))
    ids, types = [2, 5, 3, *range(10, 10 + length), 3], [0, 1, 0] + [0] * (length + 1)
    return Query(0, "Agent", ids, types, 2, 0, places, places, tuple(spans))


def test_a_batch_is_padded_to_its_longest():
    found = bench_events.collated(make_query_batch([query_of(2, [Span(0, 1)]), query_of(4)]), torch, "cpu")
    assert found["input_ids"].tolist() == [[2, 5, 3, 10, 11, 3, 0, 0], [2, 5, 3, 10, 11, 12, 13, 3]]
    assert found["token_type_ids"].tolist() == [[0, 1, 0, 0, 0, 0, 0, 0]] * 2
    assert found["attention_mask"].tolist() == [[1] * 6 + [0] * 2, [1] * 8]
    assert found["start_positions"].tolist() == [3, 2] and found["end_positions"].tolist() == [4, 2]


def test_the_loss_is_half_of_ours():
    """transformers takes the mean of start and end, the trees their sum."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    model = transformers.BertForQuestionAnswering(transformers.BertConfig(
        vocab_size=32, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)).eval()
    batch = make_query_batch([query_of(2, [Span(0, 1)]), query_of(4)])
    arguments = bench_events.collated(batch, torch, "cpu")
    found = model(**arguments)
    losses = []
    for row, (start, end) in enumerate(batch.targets.tolist()):
        length = int(batch.offsets[row + 1] - batch.offsets[row])
        for logits, place in ((found.start_logits, start), (found.end_logits, end)):
            # transformers' softmax has the padding in it too.
            shares = torch.log_softmax(logits[row].double(), dim=0)
            losses.append(-float(shares[place]))
            assert place < length
    assert 2 * float(found.loss) == pytest.approx(np.sum(losses) / 2, rel=1e-5)


def test_the_table_and_wrong_flags(tmp_path):
    records = [{"system": system, "version": "1", "step_ms": step_ms, "peak_memory_bytes": 10**9}
               for system, step_ms in (("pytorch", 5.0), ("peft", 20.0))]
    assert "| PyTorch 1 | 5.0 | 4.00 | 1.00 |" in bench_events.table(records)
    with pytest.raises(UserError, match="expected some of pytorch,jittor,peft"):
        bench_events.main(["--output", str(tmp_path / "x.json"), "--systems", "tensorflow"])
