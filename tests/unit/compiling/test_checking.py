"""Comparing outputs with the reference."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from vlab.compiling.checking import compare
from vlab.compiling.exchange import Product
from vlab.errors import CompileError
from vlab.records import TensorSpec


def product(*outputs: TensorSpec, count: int = 2) -> Product:
    """What the worker says of such outputs."""
    return Product(
        notices=(),
        llvm="22",
        reference="onnxruntime 1",
        probe_count=count,
        inputs=(),
        outputs=outputs,
        kernels=(),
        arena_bytes=0,
        workspace_bytes=0,
        weights_bytes=0,
    )


LOGITS = product(TensorSpec(name="y", shape=(1, 3), dtype="float32"))
REFERENCE = np.array([[1, 2, 30], [4, 6, 5]], np.float32)


@given(arrays.arrays(np.float32, (2, 3), elements=st.floats(width=32)))
def test_equal_outputs_agree(values: np.ndarray):
    """Whatever the values, NaN and infinities included, equal bytes are an error of zero."""
    numerics = compare(values.tobytes(), values.tobytes(), LOGITS)

    assert 0 == numerics.max_abs_err
    assert 1 == numerics.top1_agreement


def test_the_tolerance_grows_with_the_largest_reference_value():
    """1e-4 of the largest reference value, and what is found stands in the record."""
    numerics = compare((REFERENCE + np.float32(0.0029)).tobytes(), REFERENCE.tobytes(), LOGITS)

    assert pytest.approx(0.003) == numerics.tolerance
    assert pytest.approx(0.0029, rel=1e-3) == numerics.max_abs_err
    assert pytest.approx(0.0029, rel=1e-3) == numerics.rmse


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (0.0031, r"output y by up to 0\.0031 \(allowed 0\.003\); top-1 agreement 100\.0%"),
        (-10.0, r"output y by up to 10 .*top-1 agreement 50\.0%"),
        (np.nan, "infinities or NaN"),
        (np.inf, "infinities or NaN"),
    ],
)
def test_one_wrong_value_is_refused_with_the_figures(change: float, told: str):
    """A single value beyond the tolerance, or not finite where the reference is, is enough."""
    wrong = REFERENCE.copy()
    wrong[1, 1] += np.float32(change)

    with pytest.raises(CompileError, match=told):
        compare(wrong.tobytes(), REFERENCE.tobytes(), LOGITS)


def test_the_other_infinity_is_wrong():
    """An infinity only agrees with the same one."""
    reference = np.array([[1, 2, np.inf], [4, 6, 5]], np.float32)

    with pytest.raises(CompileError, match="infinities or NaN"):
        compare(np.where(np.isinf(reference), -reference, reference).tobytes(), reference.tobytes(), LOGITS)


def test_whole_numbers_must_be_equal():
    """One off is wrong, however large the numbers are."""
    described = product(TensorSpec(name="index", shape=(1,), dtype="int64"))
    reference = np.array([1_000_000, 5], np.int64)

    assert 0 == compare(reference.tobytes(), reference.tobytes(), described).max_abs_err
    with pytest.raises(CompileError, match="output index by up to 1 "):
        compare((reference + np.array([1, 0])).tobytes(), reference.tobytes(), described)


def test_each_output_has_its_own_tolerance():
    """A large output does not hide the error of a small one; only the wrong one is named."""
    specs = (TensorSpec(name="large", shape=(1,), dtype="float32"), TensorSpec(name="small", shape=(2,), dtype="float32"))
    reference = np.array([1e6, 0.5, 0.5], np.float32)
    wrong = np.array([1e6, 0.5, 0.6], np.float32)

    with pytest.raises(CompileError, match=r"inputs: output small by up to 0\.1 \(allowed 0\.0001\);"):
        compare(wrong.tobytes(), reference.tobytes(), product(*specs, count=1))
