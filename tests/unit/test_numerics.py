"""Agreement with a reference, figure by figure."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from vlab.numerics import compare
from vlab.records import TensorSpec


def quantised(*shape: int, dtype: str = "int8", step: float = 1.0) -> TensorSpec:
    """A quantised output."""
    return TensorSpec(name="y", shape=shape, dtype=dtype, step=step)


def test_equal_outputs_agree() -> None:
    """Nothing differs: no error, cosine and top-1 agreement 1."""
    rows = np.random.default_rng(1).standard_normal((5, 1, 4)).astype(np.float32)
    compared = compare([rows], [rows], reference="r 1")
    found = compared.numerics

    assert compared.agrees
    assert (5, 0.0, 0.0, 1.0) == (found.inputs, found.max_abs_err, found.rmse, found.top1_agreement)
    assert pytest.approx(1.0) == found.cosine


@given(arrays.arrays(np.float32, (2, 3), elements=st.floats(width=32)))
def test_the_same_values_always_agree(values: np.ndarray) -> None:
    """Whatever the values, NaN and infinities included, the same ones are an error of zero."""
    compared = compare([values], [values], reference="r")

    assert compared.agrees
    assert (0, 1) == (compared.numerics.max_abs_err, compared.numerics.top1_agreement)


@pytest.mark.parametrize(("error", "agrees"), [(0.9e-4, True), (1.1e-4, False)])
def test_floats_may_differ_by_the_tolerance(error: float, agrees: bool) -> None:
    """Up to 1e-4 is allowed where the reference stays within 1."""
    theirs = np.array([[0.0, 1.0]])
    compared = compare([theirs + np.array([[error, 0]])], [theirs], reference="r")

    assert agrees == compared.agrees
    assert pytest.approx(1e-4) == compared.numerics.tolerance
    assert pytest.approx(error) == compared.numerics.max_abs_err


def test_the_tolerance_grows_with_the_reference() -> None:
    """An error of 1 beside values of 20,000 is allowed."""
    theirs = np.array([[0.0, 20_000.0]])

    assert compare([theirs + np.array([[1.0, 0]])], [theirs], reference="r").agrees


def test_whole_numbers_must_be_equal() -> None:
    """One off is wrong, however large the numbers are."""
    theirs = np.array([[3, 1_000_000]], dtype=np.int64)

    assert compare([theirs], [theirs], reference="r").agrees
    assert not compare([theirs + np.array([[1, 0]])], [theirs], reference="r").agrees


@pytest.mark.parametrize(
    ("ours", "theirs", "agrees"),
    [
        ([np.nan, 1.0], [np.nan, 1.0], True),
        ([np.inf, 1.0], [np.inf, 1.0], True),
        ([np.nan, 1.0], [0.0, 1.0], False),
        ([0.0, 1.0], [np.nan, 1.0], False),
        ([np.inf, 1.0], [-np.inf, 1.0], False),
        ([np.inf, 1.0], [np.nan, 1.0], False),
    ],
)
def test_specials_agree_only_with_themselves(ours: list[float], theirs: list[float], agrees: bool) -> None:
    """NaN agrees with NaN and infinities with the same one; the figures stay finite either way."""
    compared = compare([np.array([ours])], [np.array([theirs])], reference="r")

    assert agrees == compared.agrees
    found = compared.numerics
    assert np.isfinite([found.max_abs_err, found.rmse, found.cosine]).all()


def test_the_worst_output_decides() -> None:
    """With several outputs the figures name the one nearest to its own tolerance, and all must agree."""
    small, large = np.array([[0.5, 0.1]]), np.array([[1e6]])
    compared = compare([small + 1e-3, large + 50], [small, large], reference="r")

    assert [False, True] == [one.allowed for one in compared.deviations]
    assert not compared.agrees
    assert pytest.approx(1e-3) == compared.numerics.max_abs_err


def test_outputs_of_zeros_have_a_cosine() -> None:
    """Two vectors of zeros are alike; zeros and something are not."""
    zeros, ones = np.zeros((1, 3)), np.ones((1, 3))

    assert 1.0 == compare([zeros], [zeros], reference="r").numerics.cosine
    assert 0.0 == compare([zeros], [ones], reference="r").numerics.cosine


def test_other_shapes_are_refused() -> None:
    """Outputs of another model cannot be compared."""
    with pytest.raises(ValueError, match="shapes"):
        compare([np.zeros((2, 3))], [np.zeros((2, 4))], reference="r")


def test_each_sample_has_its_own_tolerance() -> None:
    """A sample of large values does not loosen what is asked of the others."""
    theirs = np.array([[0.0, 1.0], [0.0, 1e6]])

    assert compare([theirs + np.array([[0, 0], [50, 0]])], [theirs], reference="r").agrees
    assert not compare([theirs + np.array([[0.01, 0], [0, 0]])], [theirs], reference="r").agrees


def test_small_outputs_are_not_let_pass_as_zeros() -> None:
    """Where all values are small, the tolerance is a hundredth of the largest and not 1e-4."""
    theirs = np.array([[1e-5, -2e-5]])

    assert compare([theirs + 1e-7], [theirs], reference="r").agrees
    assert not compare([np.zeros_like(theirs)], [theirs], reference="r").agrees


def test_half_precision_has_its_own_tolerance() -> None:
    """A hundredth for float16, which rounds to a thousandth."""
    theirs = np.array([[1.0, 0.5]], np.float16)

    assert compare([theirs + np.float16(0.008)], [theirs], reference="r").agrees
    assert not compare([theirs + np.float16(0.02)], [theirs], reference="r").agrees


def test_the_least_precise_type_computed_in_sets_the_tolerance() -> None:
    """What passed through float16 is no more exact for being given as float32."""
    theirs = np.array([[1.0, 0.5]], np.float32)
    spec = TensorSpec(name="y", shape=(2,), dtype="float32")

    assert not compare([theirs + 0.008], [theirs], reference="r", outputs=[spec]).agrees
    for precision, most in (("float16", 0.01), ("bfloat16", 0.08)):
        halved = [spec.model_copy(update={"precision": precision})]
        assert compare([theirs + 0.9 * most], [theirs], reference="r", outputs=halved).agrees
        assert not compare([theirs + 1.1 * most], [theirs], reference="r", outputs=halved).agrees


@pytest.mark.parametrize(
    ("off_by_one", "off_by_two", "agrees"), [(2000, 0, True), (0, 2, True), (0, 3, False), (1997, 3, False)]
)
def test_quantised_outputs_may_be_one_step_off(off_by_one: int, off_by_two: int, agrees: bool) -> None:
    """One step is allowed everywhere, more for one element in a thousand."""
    theirs = np.zeros((1, 2000), np.int8)
    ours = theirs.copy()
    ours[0, :off_by_one] += 1
    ours[0, off_by_one : off_by_one + off_by_two] += 2
    compared = compare([ours], [theirs], reference="r", outputs=[quantised(2000)])

    assert agrees == compared.agrees == compared.numerics.holds
    assert pytest.approx(1 - off_by_two / 2000) == compared.numerics.within


@pytest.mark.parametrize(
    ("width", "share", "moved", "agrees"),
    [
        pytest.param(500, 0.5, 0, True, id="as ties do"),
        pytest.param(500, 1, 0, False, id="all to one side"),
        pytest.param(500, 1, 1, True, id="as the reference moves"),
        pytest.param(1, 1, 0, True, id="one element over samples that are alike"),
    ],
)
def test_quantised_outputs_are_not_off_in_the_mean(width: int, share: float, moved: int, agrees: bool) -> None:
    """One step to the same side, as by a wrong constant in a kernel, is no rounding, whatever share an activation clamps."""
    theirs = np.random.default_rng(3).integers(-20, 21, (12, width)).clip(0, None).astype(np.int8)
    off = ((np.arange(width) < share * width) & (theirs > 0)).astype(np.int8)

    compared = compare(
        [theirs + off], [theirs], reference="r", outputs=[quantised(width)], moved=[[theirs - moved * (theirs > 0)]]
    )

    assert agrees == compared.agrees


def test_quantised_outputs_given_as_floats_are_measured_in_steps() -> None:
    """A step of a tenth is a tenth."""
    theirs = np.array([[0.1, 0.2, 12.7]], np.float32)
    spec = quantised(3, dtype="float32", step=0.1)

    assert compare([theirs + np.float32(0.1)], [theirs], reference="r", outputs=[spec]).agrees
    assert not compare([theirs + np.float32(0.2)], [theirs], reference="r", outputs=[spec]).agrees


def test_a_quantised_output_keeps_its_top1() -> None:
    """The share that may be off must not choose another class; a tie or a near one may be resolved either way."""
    theirs = np.zeros((1, 2000), np.int8)
    theirs[0, 0] = 100
    flipped, near = theirs.copy(), theirs.copy()
    flipped[0, 1] = 120
    near[0, 0], near[0, 1] = 99, 99
    compared = compare([flipped], [theirs], reference="r", outputs=[quantised(2000)])

    assert [(True, False)] == [(one.within >= one.required, one.same_top1) for one in compared.deviations]
    assert not compared.agrees
    assert compare([near], [theirs], reference="r", outputs=[quantised(2000)]).deviations[0].same_top1


def test_a_quantised_output_may_move_as_the_reference_itself_does() -> None:
    """Each layer of a deep quantised model rounds; twice the steps that the reference takes by itself are allowed, up to 8."""
    theirs = np.zeros((1, 100), np.int8)

    def agrees(steps: int, *moves: int) -> bool:
        moved = [[theirs + np.int8(move)] for move in moves]
        ours = theirs + np.int8(steps)
        one = compare([ours], [theirs], reference="r", outputs=[quantised(100)], moved=moved).deviations[0]
        return one.within == 1 and one.unsettled == 0

    assert [True, False] == [agrees(1), agrees(2)]
    assert [True, False] == [agrees(2, 1), agrees(3, 1)]
    assert [True, False] == [agrees(8, 1, 5), agrees(9, 7, 7)]


def test_small_whole_numbers_that_are_not_quantised_are_equal() -> None:
    """A class number in an int8 is not a quantised value."""
    theirs = np.array([[3, 4]], np.int8)

    assert not compare([theirs + np.int8(1)], [theirs], reference="r").agrees


def test_what_the_reference_does_not_settle_is_left_out() -> None:
    """An element that jumps when the inputs are rounded is not compared, and counted; the others are."""
    theirs, moved = np.array([[1, 2, 3, 4]], np.int64), np.array([[1, 9, 3, 4]], np.int64)
    ours, wrong = np.array([[1, 7, 3, 4]], np.int64), np.array([[1, 7, 3, 5]], np.int64)
    compared = compare([ours], [theirs], reference="r", moved=[[moved]])

    assert (True, 0.25) == (compared.agrees, compared.deviations[0].unsettled)
    assert not compare([wrong], [theirs], reference="r", moved=[[moved]]).agrees
    assert not compare([ours], [theirs], reference="r").agrees
