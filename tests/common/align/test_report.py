"""What a comparison looks like for a reader and for a program."""

import json

import numpy as np
import pytest

from common.align.compare import compare
from common.align.report import write_report
from tests.common.align.dump_cases import make_dump


@pytest.fixture
def written(tmp_path):
    """``written(change)`` returns lines, Markdown and JSON of a comparison with a changed dump."""
    def write(change):
        dumps = make_dump(tmp_path / "first.npz"), make_dump(tmp_path / "second.npz", change)
        lines = write_report(tmp_path / "report", compare(*dumps))
        assert (tmp_path / "report" / "loss_gap.png").read_bytes().startswith(b"\x89PNG")
        return (lines, (tmp_path / "report" / "report.md").read_text(encoding="utf-8"),
                json.loads((tmp_path / "report" / "comparison.json").read_text(encoding="utf-8")))
    return write


def test_one_line_for_each_point_and_cause(written):
    def change(arrays, meta):
        meta["description"] = {**meta["description"], "framework": "jittor"}
        arrays["loss/forward"] *= 1 + 1.5e-6
    lines, text, numbers = written(change)
    head, *rest, end = lines.splitlines()
    assert head == "Jittor against PyTorch: gpt2.nano, 6 steps, fp32"
    assert len(rest) == len(numbers["causes"]) + len(numbers["points"])
    assert all(line.startswith("passed  ") for line in rest) and end == "All points are within their bounds."
    assert "passed  loss: 1.5e-06, allowed 2.0e-06; of that pass" in rest
    assert numbers["passed"] and numbers["first_operation"] == "" and len(numbers["curves"]["gap"]) == 6
    assert head in text and "| `h.*.attn.c_attn.output` | 1 | 0.0e+00 |" in text


def test_causes_stand_before_what_may_come_of_them(written):
    def change(arrays, meta):
        meta["batches"][0]["input_ids"] = "x"
        arrays["forward/h.0.ln_1.output"] = arrays["forward/h.0.ln_1.output"][:3]
    lines, text, numbers = written(change)
    conclusion = ("The runs do not start from the same: batches, first input_ids of step 1. What else differs may come "
                  "of that. The first that differs beyond its bound: h.0.ln_1 (forward).")
    assert lines.splitlines()[-1] == conclusion and text.splitlines()[2] == conclusion
    assert "FAILED  batches: 2 steps; first: input_ids of step 1" in lines
    assert not numbers["passed"] and numbers["first_operation"] == "h.0.ln_1 (forward)"
    # JSON has no word for what is infinite.
    assert numbers["points"][0]["measured"] == "inf"


def test_losses_that_are_no_numbers_have_a_report_too(written):
    def change(arrays, meta):
        arrays["steps/losses"][2:] = arrays["steps/nudged_losses"][2:] = np.nan
    lines, _, numbers = written(change)
    assert "FAILED  steps: nan" in lines and "; first: step 3" in lines
    assert numbers["curves"]["gap"][2] == "nan" and numbers["first_operation"] == "step 3 (steps)"


def test_every_bound_has_its_reason_in_the_report(written):
    _, text, _ = written(lambda arrays, meta: None)
    table = text.split("## Bounds")[1].split("## Flags")[0]
    assert table.count("measured") == 9 and "10 times its noise floor" in table
    assert "--lr 0.001" in text.split("## Flags")[1]
