"""Agreement with a reference, figure by figure."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from vlab.numerics import compare


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
