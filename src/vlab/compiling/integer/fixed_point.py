"""Fixed-point arithmetic of LiteRT's reference kernels, exact, over numpy: what the integer kernels must compute.

Names are those of gemmlowp/fixedpoint/fixedpoint.h and of tflite/kernels/internal/{common,quantization_util}.cc. The latter
have two ways to multiply by a fixed-point number, with one rounding (TFLITE_SINGLE_ROUNDING) and with two. LiteRT's packages
compute matrix products with one and everything else with two, as comparing outputs shows.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]

SOFTMAX_INTEGER_BITS = 5
"""Integer bits of the argument of exp in a quantised softmax (reference/softmax.h, kScaledDiffIntegerBits)."""


class OverflowingError(ValueError):
    """A kernel's values could pass what its arithmetic can hold."""


class NoMultiplierError(ValueError):
    """A real number that no multiplier stands for."""


@dataclass(frozen=True)
class Multiplier:
    """A positive real number as `mantissa * 2 ** (shift - 31)`, mantissa in [2**30, 2**31) or 0."""

    mantissa: int
    shift: int
    """Positive to the left."""


def quantize_multiplier(real: float) -> Multiplier:
    """QuantizeMultiplier (quantization_util.cc): the nearest such number; below 2**-32 it is 0.

    Raises:
        OverflowingError: it is negative, not finite, or 2**31 or more.
    """
    if not (math.isfinite(real) and 0 <= real < 2**31):
        raise OverflowingError(f"a rescaling by {real} has no fixed-point form; expected 0 or more, and less than 2**31")
    if real == 0:
        return Multiplier(0, 0)
    fraction, shift = math.frexp(real)
    mantissa = _round_half_away(fraction * 2**31)
    if mantissa == 2**31:
        mantissa, shift = mantissa // 2, shift + 1
    if shift > 30:
        return Multiplier(2**31 - 1, 30)
    return Multiplier(0, 0) if shift < -31 else Multiplier(mantissa, shift)


def saturating_rounding_doubling_high_mul(a: Integers, b: Integers | int) -> Integers:
    """SaturatingRoundingDoublingHighMul over int32 values, b not negative: `a * b / 2**31`, halves rounded up.

    gemmlowp's nudge, which depends on the sign, and its truncating division come to the same for every product.
    """
    return (a.astype(np.int64) * b + 2**30) >> 31


def rounding_divide_by_pot(x: Integers, exponent: Integers | int) -> Integers:
    """RoundingDivideByPOT: `x / 2**exponent`, halves rounded away from zero; exponent in [0, 31]."""
    half = (np.int64(1) << np.asarray(exponent, np.int64)) >> 1
    away = np.where((x < 0) & (half > 0), 1, 0)
    return np.asarray((x + half - away) >> np.asarray(exponent, np.int64), np.int64)


def multiply_by_quantized_multiplier(x: Integers, mantissa: Integers | int, shift: Integers | int) -> Integers:
    """MultiplyByQuantizedMultiplier with one rounding (common.cc), over int32 values: halves are rounded up."""
    total = 31 - np.asarray(shift, np.int64)
    return np.asarray((x * np.asarray(mantissa, np.int64) + (np.int64(1) << (total - 1))) >> total, np.int64)


def multiply_rounding_twice(x: Integers, mantissa: Integers | int, shift: Integers | int) -> Integers:
    """MultiplyByQuantizedMultiplier with two roundings (common.cc), over int32 values."""
    left, right = np.maximum(shift, 0), np.maximum(np.negative(shift), 0)
    return rounding_divide_by_pot(saturating_rounding_doubling_high_mul(x << left, mantissa), right)


def activation_range(scale: float, zero_point: int, low: float, high: float, dtype: Any) -> tuple[int, int]:
    """CalculateActivationRangeQuantized (kernel_util.cc): the codes that [low, high] is clamped to; in float32 as there."""
    limits = np.iinfo(dtype)

    def code(bound: float, unbounded: int) -> int:
        if math.isinf(bound):
            return int(unbounded)
        return zero_point + _round_half_away(float(np.float32(bound) / np.float32(scale)))

    return max(int(limits.min), code(low, limits.min)), min(int(limits.max), code(high, limits.max))


def exp_on_negative_values(a: Integers) -> Integers:
    """exp_on_negative_values (fixedpoint.h) of numbers with 5 integer bits, at most 0: int32 with no integer bits."""
    fractional = 31 - SOFTMAX_INTEGER_BITS
    quarter = 1 << (fractional - 2)
    offset = (a & (quarter - 1)) - quarter
    result = _exp_between_negative_quarter_and_zero(offset << SOFTMAX_INTEGER_BITS)
    remainder = offset - a
    for exponent, factor in EXP_FACTORS:
        bit = (remainder >> (fractional + exponent)) & 1
        result = np.where(bit == 1, saturating_rounding_doubling_high_mul(result, factor), result)
    return np.asarray(np.where(a == 0, 2**31 - 1, result), np.int64)


EXP_FACTORS = (
    *((-2, 1672461947), (-1, 1302514674), (0, 790015084), (1, 290630308)),
    *((2, 39332535), (3, 720401), (4, 242)),
)
"""exp(-2**exponent) with 31 fractional bits (fixedpoint.h, GEMMLOWP_EXP_BARREL_SHIFTER)."""


def _exp_between_negative_quarter_and_zero(a: Integers) -> Integers:
    """exp_on_interval_between_negative_one_quarter_and_0_excl (fixedpoint.h): four Taylor terms around -1/8."""
    x = a + (1 << 28)
    x2 = saturating_rounding_doubling_high_mul(x, x)
    x3 = saturating_rounding_doubling_high_mul(x2, x)
    x4 = saturating_rounding_doubling_high_mul(x2, x2)
    third = saturating_rounding_doubling_high_mul(rounding_divide_by_pot(x4, 2) + x3, 715827883)
    tail = rounding_divide_by_pot(third + x2, 1)
    return 1895147668 + saturating_rounding_doubling_high_mul(x + tail, 1895147668)


def _round_half_away(x: float) -> int:
    return math.floor(abs(x) + 0.5) * (1 if x >= 0 else -1)
