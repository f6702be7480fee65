"""The trace's names and order, on a model written by hand in place of a framework's."""

import numpy as np
import pytest

from common.align.trace import Trace, operation_title
from common.errors import UserError


def run(trace):
    """A block of an embedding, a norm, two products with something between them, and a sum; returns its output."""
    def module(name, compute, array):
        array, = trace.before(name, (array,))
        return trace.after(name, compute(array))

    x = module("wte", lambda ids: np.ones((3, 2)) * ids[:, None], np.array([1, 2, 3]))
    x = x + 0.5
    inner = module("h.0.ln_1", lambda x: 2 * x, x)
    inner = module("h.0.mlp.c_fc", lambda x: x + 1, inner)
    inner = module("h.0.mlp.c_proj", lambda x: 10 * x, np.maximum(inner, 0))
    return module("ln_f", lambda x: -x, x + inner)


NAMES = ["wte.output", "h.0.ln_1.input", "h.0.ln_1.output", "h.0.mlp.c_fc.output", "h.0.mlp.c_proj.input",
         "h.0.mlp.c_proj.output", "ln_f.input", "ln_f.output"]


def test_every_operation_once_in_order_and_no_ids():
    trace = Trace()
    output = run(trace)
    assert list(trace.arrays) == NAMES
    assert trace.last is output and trace.arrays["ln_f.output"] is output
    assert np.array_equal(trace.arrays["h.0.ln_1.input"], trace.arrays["wte.output"] + 0.5)
    assert list(trace.behind({"h.0.mlp.c_fc", "ln_f"})) == NAMES[3:]


def test_each_operation_gets_what_the_other_one_gave():
    others = {name: np.full((3, 2), 100.0 + index) for index, name in enumerate(NAMES)}
    trace = Trace(others, lambda array, other: other)
    output = run(trace)
    # Each is one operation away from the other one's arrays, not from its own.
    expected = {"h.0.ln_1.input": 100.5, "h.0.ln_1.output": 2 * 101, "h.0.mlp.c_fc.output": 102 + 1,
                "h.0.mlp.c_proj.input": 103, "h.0.mlp.c_proj.output": 10 * 104, "ln_f.input": 100.5 + 105,
                "ln_f.output": -106}
    assert {name: trace.arrays[name][0, 0] for name in NAMES[1:]} == expected
    assert (output == 107).all()


def test_another_models_operations_are_refused():
    with pytest.raises(UserError, match="no wte.output in that file"):
        run(Trace({}, lambda array, other: other))


def test_a_module_that_computes_twice_needs_two_names():
    trace = Trace()
    run(trace)
    with pytest.raises(ValueError, match="computed twice"):
        run(trace)


@pytest.mark.parametrize("operation, title", [
    ("h.0.ln_1.output", "h.0.ln_1"), ("h.3.mlp.c_proj.input", "kernels.gelu before h.3.mlp.c_proj"),
    ("h.3.attn.c_proj.input", "kernels.causal_attention before h.3.attn.c_proj"),
    ("ln_f.input", "a sum before ln_f"), ("logits", "logits")])
def test_titles(operation, title):
    assert operation_title(operation) == title
