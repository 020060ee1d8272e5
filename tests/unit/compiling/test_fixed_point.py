"""The fixed-point arithmetic against gemmlowp's and LiteRT's, spelt out in Python's own integers and fractions."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlab.compiling.integer import fixed_point

INT32 = st.integers(-(2**30) + 1, 2**30 - 1)
MANTISSA = st.integers(2**30, 2**31 - 1)


def truncated(numerator: int, denominator: int) -> int:
    """C's division, towards zero."""
    quotient = abs(numerator) // denominator
    return quotient if numerator >= 0 else -quotient


def doubling_high_mul(a: int, b: int) -> int:
    """gemmlowp/fixedpoint/fixedpoint.h, SaturatingRoundingDoublingHighMul, line by line."""
    product = a * b
    nudge = 2**30 if product >= 0 else 1 - 2**30
    return truncated(product + nudge, 2**31)


def divide_by_pot(x: int, exponent: int) -> int:
    """gemmlowp/fixedpoint/fixedpoint.h, RoundingDivideByPOT, line by line."""
    mask = (1 << exponent) - 1
    remainder = x & mask
    threshold = (mask >> 1) + (1 if x < 0 else 0)
    return (x >> exponent) + (1 if remainder > threshold else 0)


@given(INT32, MANTISSA)
def test_the_high_half_of_a_product_is_gemmlowps(a: int, b: int):
    """Halves rounded up is what gemmlowp's nudge and truncation come to."""
    assert doubling_high_mul(a, b) == int(fixed_point.saturating_rounding_doubling_high_mul(np.int64(a), b))


@given(INT32, st.integers(0, 31))
def test_a_division_by_a_power_of_two_is_gemmlowps(x: int, exponent: int):
    """Halves go away from zero."""
    assert divide_by_pot(x, exponent) == int(fixed_point.rounding_divide_by_pot(np.int64(x), exponent))


@given(INT32, MANTISSA, st.integers(-31, 0))
def test_two_roundings_are_those_of_the_convolutions(x: int, mantissa: int, shift: int):
    """MultiplyByQuantizedMultiplier without TFLITE_SINGLE_ROUNDING."""
    expected = divide_by_pot(doubling_high_mul(x, mantissa), -shift)

    assert expected == int(fixed_point.multiply_rounding_twice(np.int64(x), mantissa, shift))


@given(INT32, MANTISSA, st.integers(-31, 0))
def test_one_rounding_is_that_of_the_real_product(x: int, mantissa: int, shift: int):
    """MultiplyByQuantizedMultiplier with TFLITE_SINGLE_ROUNDING: the exact product, halves rounded up."""
    exact = Fraction(x * mantissa) * Fraction(2) ** (shift - 31)

    assert math.floor(exact + Fraction(1, 2)) == int(fixed_point.multiply_by_quantized_multiplier(np.int64(x), mantissa, shift))


@given(st.floats(2.0**-20, 2.0**20))
def test_a_multiplier_is_the_nearest_with_31_bits(real: float):
    """QuantizeMultiplier keeps 31 bits of the number."""
    got = fixed_point.quantize_multiplier(real)

    assert 2**30 <= got.mantissa < 2**31
    assert abs(Fraction(real) - Fraction(got.mantissa) * Fraction(2) ** (got.shift - 31)) <= Fraction(2) ** (got.shift - 32)


@pytest.mark.parametrize("real", [-1.0, math.nan, math.inf, 2.0**31])
def test_what_has_no_multiplier_is_refused(real: float):
    """A scale that is not a usable number does not become one."""
    with pytest.raises(ValueError, match="no fixed-point form"):
        fixed_point.quantize_multiplier(real)


@given(st.integers(-(2**31), 0))
def test_exp_is_near_the_real_one(a: int):
    """Five integer bits in, none out: within 2**-21 of the exponential."""
    got = int(fixed_point.exp_on_negative_values(np.asarray([a], np.int64))[0])

    assert math.isclose(math.exp(a / 2**26), got / 2**31, rel_tol=0, abs_tol=2**-21)
