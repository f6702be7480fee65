"""Points, causes and bounds, on small dumps with one thing changed."""

import numpy as np
import pytest

from common.align.bounds import BOUNDS, EDGE_NOTE, FLOAT64, FLOOR_FACTOR, SHOWN, bound_of
from common.align.compare import SINGLE_STEP, compare
from common.errors import UserError
from tests.common.align.dump_cases import PARAMETERS, STEPS, make_dump


@pytest.fixture
def compared(tmp_path):
    """``compared(change)`` compares a dump with one that ``change(arrays, meta)`` has changed in place."""
    first = make_dump(tmp_path / "first.npz")
    return lambda change: compare(first, make_dump(tmp_path / "second.npz", change))


def point(comparison, name):
    return next(point for point in comparison.points if point.name == name)


def failed(comparison):
    return [part.name for part in [*comparison.causes, *comparison.points] if not part.passed]


def scaled(name, factor):
    """Returns the change that multiplies an array."""
    def change(arrays, meta):
        arrays[name] = arrays[name] * factor
    return change


def test_a_dump_against_itself_passes_and_nothing_differs(compared):
    comparison = compared(lambda arrays, meta: None)
    assert comparison.passed and comparison.first_operation == ""
    assert [point.name for point in comparison.points] == [
        "forward", "loss", "backward", "optimiser", "steps", "weights", "beam"]
    assert all(point.measured == 0 and point.at == "" for point in comparison.points)
    assert not comparison.curves["gap"].any()
    np.testing.assert_allclose(comparison.curves["floor"], 2e-7, rtol=1e-6)


@pytest.mark.parametrize("array, kind, name, first", [
    ("forward/h.0.attn.c_proj.input", "forward", "forward", "kernels.causal_attention before h.0.attn.c_proj"),
    ("forward/logits", "forward", "forward", "logits"),
    ("loss/forward", "loss", "loss", "the loss"),
    ("backward/h.0.attn.c_proj.output", "gradient", "backward", "the gradient through logits"),
    ("backward/h.0.attn.c_attn.output", "gradient", "backward",
     "the gradient through kernels.causal_attention before h.0.attn.c_proj"),
    ("backward/h.0.attn.c_attn.lora_B", "gradient", "backward", "the gradient of h.0.attn.c_attn.lora_B"),
    ("optimiser/second_moment/h.0.attn.c_attn.lora_A", "moment", "optimiser",
     "the second moment of h.0.attn.c_attn.lora_A"),
    ("optimiser/change/h.0.attn.c_attn.lora_A", "change", "optimiser", "the change of h.0.attn.c_attn.lora_A")])
def test_an_array_beyond_its_bound_is_named_and_one_within_is_not(compared, array, kind, name, first):
    bound = BOUNDS[kind].value
    beyond, within = (compared(scaled(array, 1 + factor * bound)) for factor in (1.2, 0.8))
    assert failed(beyond) == [name] and beyond.first_operation == f"{first} ({name})"
    assert point(beyond, name).measured == pytest.approx(1.2 * bound, rel=0.02)
    assert point(beyond, name).bound == bound and point(beyond, name).at == first
    assert within.passed and point(within, name).measured == pytest.approx(0.8 * bound, rel=0.02)


def test_the_first_operation_in_the_order_of_computing_is_named_not_the_largest(compared):
    def change(arrays, meta):
        arrays["forward/h.0.attn.c_attn.output"] *= 1.001
        arrays["forward/h.0.ln_1.output"] *= 1.0001
        arrays["backward/h.0.attn.c_attn.output"] *= 1.001
        arrays["backward/h.0.attn.c_proj.input"] *= 1.0001
    comparison = compared(change)
    assert point(comparison, "forward").first == "h.0.ln_1" and point(comparison, "forward").at == "h.0.attn.c_attn"
    assert point(comparison, "backward").first == "the gradient through h.0.attn.c_proj"
    assert comparison.first_operation == "h.0.ln_1 (forward)"


def test_single_step_mode_is_asked_first_and_only_of_the_other_ones_inputs(compared, tmp_path):
    first = make_dump(tmp_path / "first.npz")

    def change(arrays, meta):
        meta["inputs"] = first.sha256()
        arrays.update({name.replace("forward/", "single/"): array.copy() for name, array in arrays.items()
                       if name.startswith("forward/")})
        arrays["single/h.0.attn.c_attn.output"] *= 1.001
        arrays["forward/h.0.ln_1.output"] *= 1.001
    second = make_dump(tmp_path / "second.npz", change)
    for pair in ((first, second), (second, first)):
        comparison = compare(*pair)
        assert comparison.first_operation == f"h.0.attn.c_attn ({SINGLE_STEP})"
        assert point(comparison, "forward").first == "h.0.ln_1"
    other = make_dump(tmp_path / "other.npz", scaled("steps/losses", 1 + 1e-9))
    assert SINGLE_STEP not in [each.name for each in compare(other, second).points]


def test_an_array_of_one_dump_alone_or_of_another_shape_is_a_difference(compared):
    def renamed(arrays, meta):
        arrays["forward/h.0.ln_9.output"] = arrays.pop("forward/h.0.ln_1.output")

    def reshaped(arrays, meta):
        arrays["forward/h.0.ln_1.output"] = arrays["forward/h.0.ln_1.output"][:, :-1]
    for change in (renamed, reshaped):
        comparison = compared(change)
        assert point(comparison, "forward").first == "h.0.ln_1" and point(comparison, "forward").measured == np.inf


def test_a_number_that_is_none_is_beyond_every_bound(compared):
    assert failed(compared(scaled("forward/logits", np.nan))) == ["forward"]
    assert failed(compared(scaled("steps/losses", np.nan))) == ["steps"]
    assert failed(compared(scaled("beam/scores", np.nan))) == ["beam"]


def test_steps_are_judged_by_their_bound_where_the_floor_is_low(compared):
    bound = BOUNDS["steps"].value  # the floor of the case, 2e-7, times FLOOR_FACTOR is less

    def late(factor):
        def change(arrays, meta):
            arrays["steps/losses"][3:] *= 1 + factor * bound
            arrays["steps/nudged_losses"] = arrays["steps/losses"] * (1 + 2e-7)
        return change
    comparison = compared(late(1.2))
    assert failed(comparison) == ["steps"] and point(comparison, "steps").first == "step 4"
    assert point(comparison, "steps").note == "15.0 times the noise floor, 2.0e-07"
    assert compared(late(0.8)).passed


def test_steps_are_judged_by_the_floor_so_far_where_that_is_high(compared):
    """Past the edge of stability the floor grows: a gap of its size is no difference, but one before it is."""
    floor = np.array([1e-7, 1e-7, 1e-7, 1e-3, 1e-3, 1e-3])

    def moved(gap):
        def change(arrays, meta):
            losses = arrays["steps/losses"].copy()
            arrays["steps/losses"] = losses * (1 + gap)
            arrays["steps/nudged_losses"] = arrays["steps/losses"] * (1 + floor)
        return change
    gap = np.array([0, 0, 0, 0, 0.8 * FLOOR_FACTOR * 1e-3, 0])
    late = compared(moved(gap))
    assert late.passed and point(late, "steps").note == f"8.0 times the noise floor, 1.0e-03; {EDGE_NOTE}"
    np.testing.assert_allclose(late.curves["allowed"], [BOUNDS["steps"].value] * 3 + [FLOOR_FACTOR * 1e-3] * 3)
    early = compared(moved(np.roll(gap, -3)))
    assert point(early, "steps").first == "step 2"


def test_weights_behind_the_steps_are_judged_by_their_floor(compared):
    """The floor of the case times FLOOR_FACTOR is more than what the roundings of six updates add up to."""
    name, floor = "steps/weights/h.0.attn.c_attn.lora_B", 1e-5
    assert BOUNDS["change"].value / 6 ** 0.5 < FLOOR_FACTOR * floor
    for factor, expected in ((0.8, []), (1.3, ["weights"])):
        def change(arrays, meta, factor=factor):
            arrays[name] = arrays[name] * (1 + factor * FLOOR_FACTOR * floor)
            arrays[name.replace("weights", "nudged_weights")] = arrays[name] * (1 + floor)
        assert failed(compared(change)) == expected


def test_weights_behind_few_steps_may_differ_by_the_rounding_of_their_updates(compared):
    bound = BOUNDS["change"].value / 6 ** 0.5  # the case has six steps
    for factor, expected in ((0.8, []), (1.3, ["weights"])):
        def change(arrays, meta, factor=factor):
            for name in ("weights", "nudged_weights"):
                arrays[f"steps/{name}/h.0.attn.c_attn.lora_B"] *= 1 + factor * bound
        assert failed(compared(change)) == expected


def test_another_output_of_the_beam_search_is_a_difference_unless_its_score_is_the_same(compared):
    def other_output(margin):
        def change(arrays, meta):
            arrays["beam/tokens"][1, 2] = 99
            arrays["beam/scores"][1] += margin
        return change
    tie = compared(other_output(4e-6))
    assert tie.passed and point(tie, "beam").note == "2 outputs are equal; context 2 is a tie, margin 4.0e-06"
    wrong = compared(other_output(2e-5))
    assert failed(wrong) == ["beam"] and wrong.first_operation == "context 2 (beam)"
    assert failed(compared(scaled("beam/scores", 1 + 0.8 * BOUNDS["scores"].value))) == ["beam"]


def test_other_outputs_are_counted_not_judged_where_factors_are_short(compared, tmp_path):
    def in_bf16(factor, token):
        def change(arrays, meta):
            meta["flags"]["precision"] = "bf16"
            arrays["beam/tokens"][1, 2] = token
            arrays["beam/scores"] = arrays["beam/scores"] * np.array([1, factor, 1])
        return change
    first = make_dump(tmp_path / "first.npz", in_bf16(1, 6))
    for token, expected in ((99, []), (6, ["beam"])):
        comparison = compare(first, make_dump(tmp_path / "second.npz", in_bf16(1.1, token)))
        assert failed(comparison) == expected
        assert point(comparison, "beam").note == ("2" if token == 99 else "3") + " outputs are equal"


def test_fewer_contexts_are_a_difference(compared):
    def change(arrays, meta):
        for name in ("beam/tokens", "beam/scores"):
            arrays[name] = arrays[name][:2]
        meta["contexts"].pop()
    assert failed(compared(change)) == ["contexts of the beam search", "beam"]


@pytest.mark.parametrize("change, cause, first", [
    (lambda meta: meta["weights"].update(ln_f="x"), "first weights", "ln_f"),
    (lambda meta: meta["weights"].update(more="x"), "first weights", "more"),
    (lambda meta: meta["probe"].update(lora_A="x"), "weights of the first pass", "lora_A"),
    (lambda meta: meta["batches"][1].update(offsets="x"), "batches", "offsets of step 2"),
    (lambda meta: meta["masks"][1].update(sha256="x", twin="x"), "dropout masks", "h.0.attn.c_attn in step 2"),
    (lambda meta: meta["masks"][1].update(twin="x"), "dropout masks against numpy",
     "h.0.attn.c_attn in step 2, pytorch"),
    (lambda meta: meta.update(contexts=["h", "x", "j"]), "contexts of the beam search", "context 2"),
    (lambda meta: meta["decoded"].update(lora_A="x"), "weights of the beam search", "lora_A")])
def test_the_first_cause_that_differs_is_named(compared, change, cause, first):
    comparison = compared(lambda arrays, meta: change(meta))
    assert failed(comparison) == [cause]
    assert next(each.first for each in comparison.causes if not each.passed) == first


@pytest.mark.parametrize("flags, sentence", [
    ({"lr": 0.002}, r"first.npz was written with --lr 0.001, .*second.npz with --lr 0.002"),
    ({"clip": 1.0}, r"--clip \(no such flag\), .* with --clip 1.0")])
def test_dumps_of_different_flags_are_refused(compared, flags, sentence):
    with pytest.raises(UserError, match=sentence):
        compared(lambda arrays, meta: meta["flags"].update(flags))


def test_other_precisions_have_units_of_their_factors():
    assert bound_of("forward", "bf16").value == 8 / 256 and bound_of("single", "tf32").value == 4 / 2048
    assert bound_of("forward", "fp32") is BOUNDS["forward"]
    assert all(bound_of(name, "fp16").measure == bound.measure for name, bound in BOUNDS.items())


def test_bounds_of_float64_are_those_of_its_digits_where_a_dump_has_them():
    for name, bound in BOUNDS.items():
        found = bound_of(name, "fp64")
        assert found.value == (SHOWN[name] if name == "weights" else FLOAT64 * bound.value) < bound.value, name
        assert found.measure == bound.measure


@pytest.mark.parametrize("array, name", [
    ("forward/h.0.ln_1.output", "forward"), ("loss/forward", "loss"), ("backward/h.0.attn.c_attn.lora_B", "backward"),
    ("optimiser/change/h.0.attn.c_attn.lora_A", "optimiser"), ("steps/losses", "steps"), ("beam/scores", "beam")])
def test_what_float32_rounds_off_is_a_difference_in_float64(array, name, tmp_path):
    def in_fp64(factor):
        def change(arrays, meta):
            meta["flags"]["precision"] = "fp64"
            arrays.update({each: numbers.astype(np.float64) for each, numbers in arrays.items()
                           if numbers.dtype == np.float32 and "weights" not in each})
            arrays[array] = arrays[array] * factor
            arrays["steps/nudged_losses"] = arrays["steps/losses"] * (1 + 1e-16)
            for parameter in PARAMETERS:
                arrays[f"steps/nudged_weights/{parameter}"] = arrays[f"steps/weights/{parameter}"]
        return change
    first = make_dump(tmp_path / "first.npz", in_fp64(1))
    for factor, expected in ((1 + 1e-15, []), (1 + 1e-9, [name])):
        assert failed(compare(first, make_dump(tmp_path / "second.npz", in_fp64(factor)))) == expected


def test_the_case_is_as_long_as_its_flags_say(tmp_path):
    dump = make_dump(tmp_path / "a.npz")
    assert len(dump["steps/losses"]) == dump.meta["flags"]["steps"] == STEPS
