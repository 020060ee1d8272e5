"""Exponential, error function, hyperbolic tangent and logistic function without a C library."""

import math
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from tests.unit.compiling import native
from tests.unit.compiling.conftest import onnx_model, tensor
from vlab.targets import Target

COUNT = 1 << 18
SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 1e-39, 88.7228, 88.7229, 89.5, 3.4e38, -3.4e38, -103.9, -104.1]
MOST_UNITS = {"Exp": 1.1, "Erf": 7.5, "Tanh": 6.0, "Sigmoid": 2.5}


def sample() -> native.Array:
    """Float32 of every magnitude: bit patterns at equal distances, and the values where something ends."""
    bits = np.arange(COUNT, dtype=np.uint64) * ((1 << 32) // COUNT) + 1201
    values = bits.astype(np.uint32).view(np.float32)
    values[: len(SPECIAL)] = SPECIAL
    return values


def units(got: native.Array, exact: native.Array) -> native.Array:
    """Distance in units in the last place of the correctly rounded value."""
    unit = np.spacing(np.abs(exact.astype(np.float32))).astype(np.float64)
    return np.asarray(np.abs(got.astype(np.float64) - exact) / unit)


@pytest.mark.parametrize("target", [native.AVX2, native.SCALAR], ids=["vectors", "scalar"])
def test_functions_are_as_accurate_as_stated_over_all_magnitudes(target: Target, tmp_path: Path):
    """Zeros, subnormal numbers, overflow, infinities and NaN included, with one rounding and with two."""
    x = sample()
    nodes = [helper.make_node(kind, ["x"], [kind], name=kind) for kind in MOST_UNITS]
    model = onnx_model(nodes, [tensor("x", [COUNT])], [tensor(kind, [COUNT]) for kind in MOST_UNITS])

    outputs, _ = native.run(model, [x], target, tmp_path)

    with np.errstate(all="ignore"):
        wide = x.astype(np.float64)
        exact = [np.exp(wide), np.vectorize(math.erf)(wide), np.tanh(wide), 1 / (1 + np.exp(-wide))]
        for got, expected, (kind, most) in zip(outputs, exact, MOST_UNITS.items(), strict=True):
            single = expected.astype(np.float32)
            finite = np.isfinite(single)
            if kind == "Sigmoid":  # what is subnormal may be zero
                finite &= (single == 0) | (single >= np.finfo(np.float32).tiny)
                assert float(got[x < -87.5].max()) <= np.finfo(np.float32).tiny
            assert np.array_equal(got[~np.isfinite(single)], single[~np.isfinite(single)], equal_nan=True)
            assert float(units(got[finite], expected[finite]).max()) <= most, kind
        assert float(np.nanmax(np.abs(outputs[1:]))) == 1.0
    assert [False, True] == [bool(sign) for sign in np.signbit(outputs[1][:2])]
