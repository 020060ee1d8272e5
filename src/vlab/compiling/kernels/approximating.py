"""Exponential, error function, hyperbolic tangent and logistic function of float32 as arithmetic: no call of a C library.

Vectors stay vectors, and every target that rounds alike (with or without fused multiply-add) computes the same bits. Errors are
in units in the last place of the correctly rounded value, the largest seen over every 37th float32, with and without fused
multiply-add. Where a result is subnormal, targets that flush subnormal values (the vector unit of 32-bit Arm) give zero.
"""

from collections.abc import Callable, Sequence
from functools import cache, reduce
from typing import Any

import tvm
from tvm import tirx

_LEVEL = 99
"""Priority of a lowering rule; TVM's own are at 10."""

_LOG2_E = 1.44269504088896341
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4
"""Their sum is ln 2; the first has so few bits that its product with a whole number below 2^12 is exact."""
_EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
"""exp(r) = 1 + r + r^2 p(r) for |r| <= ln(2) / 2. Cephes, single/expf.c."""
_EXP_LOWEST, _EXP_HIGHEST = -104.0, 89.0
"""Beyond them the result is zero or infinity."""

_TANH_MOST = 9.0
_TANH = (
    (1.3354676e-08, 2.0609094e-05, 3.4955887e-03, 1.3381027e-01, 1.0),
    (7.7765640e-07, 3.2856360e-04, 2.5876984e-02, 4.6714342e-01, 1.0),
)
"""tanh(x) = x p(x^2) / q(x^2) for |x| <= 9, beyond which it is 1; the largest relative error of exact arithmetic is 2.1e-8. Own
fit: least squares of the relative error, reweighted by it until it was level (Lawson 1961), p and q by Sanathanan and Koerner
1963."""
_ERF_MOST = 3.92
_ERF = (
    (1.9924352e-08, -1.9578433e-06, 1.4185082e-04, 3.7016107e-03, 5.0573320e-02, 1.9992444e-01, 1.1283791),
    (9.5604050e-04, 1.4353201e-02, 1.1499838e-01, 5.1051010e-01, 1.0),
)
"""erf(x) likewise for |x| <= 3.92, with 5.2e-8; the same fit."""

_ROUNDER = 12582912.0
"""1.5 * 2^23: a float32 below 2^22 plus this one has its whole part in the lowest bits."""
_ROUNDER_BITS = 0x4B400000
_EXPONENT_SHIFT, _EXPONENT_OF_ONE = 23, 0x3F800000


@cache  # TVM refuses a second registration
def register() -> None:
    """Have TVM lower these functions of float32 this way, for every target that LLVM emits."""
    rules = {"exp": exponential, "erf": error_function, "tanh": hyperbolic_tangent, "sigmoid": logistic}
    for name, rule in rules.items():
        tirx.register_intrin_lowering(f"tirx.{name}", target="llvm", f=_of_float32(name, rule), level=_LEVEL)
        tvm.ir.register_op_attr(f"tirx.{name}", "TVectorizable", True, level=_LEVEL)


def exponential(x: Any) -> Any:
    """exp(x), at most 1.1 units off; subnormal results included."""
    return _let(_within(x, _EXP_LOWEST, _EXP_HIGHEST), _exponential_within)


def _exponential_within(x: Any) -> Any:
    def scaled(shifted: Any) -> Any:
        whole = shifted - _like(x, _ROUNDER)
        rest = x - whole * _like(x, _LN2_HIGH) - whole * _like(x, _LN2_LOW)
        mantissa = _let(rest, lambda r: _polynomial(_EXP, r) * (r * r) + r + _like(r, 1.0))
        exponent = _bits(shifted) - _like_bits(x, _ROUNDER_BITS)
        half = exponent >> _like_bits(x, 1)  # two factors: 2^128 and 2^-149 are no normal numbers
        # A product that underflows to zero is as slow as a subnormal one on x86, and masked softmax has many.
        other = tirx.Select(x <= _like(x, _EXP_LOWEST), _like(x, 0.0), _power_of_two(x, exponent - half))
        return mantissa * _power_of_two(x, half) * other

    return _let(x * _like(x, _LOG2_E) + _like(x, _ROUNDER), scaled)


def logistic(x: Any) -> Any:
    """1 / (1 + exp(-x)), at most 2.5 units off above -87; below that zero for what is subnormal."""
    return _like(x, 1.0) / (_like(x, 1.0) + exponential(_like(x, 0.0) - x))


def hyperbolic_tangent(x: Any) -> Any:
    """tanh(x), at most 6 units off, and nowhere beyond 1."""
    return _sigmoidal(x, *_TANH, _TANH_MOST)


def error_function(x: Any) -> Any:
    """erf(x), at most 7.5 units off, and nowhere beyond 1."""
    return _sigmoidal(x, *_ERF, _ERF_MOST)


def _sigmoidal(x: Any, over: Sequence[float], under: Sequence[float], most: float) -> Any:
    """X over(x^2) / under(x^2), which is 1 or just above it where x reaches `most`, cut to -1 and 1."""

    def quotient(value: Any) -> Any:
        return _let(value * value, lambda square: value * _polynomial(over, square) / _polynomial(under, square))

    return _within(_let(_within(x, -most, most), quotient), -1.0, 1.0)


def _within(x: Any, lowest: float, highest: float) -> Any:
    """The nearest value between the two; a comparison with NaN is false, so that it stays."""
    low, high = _like(x, lowest), _like(x, highest)
    above = _let(x, lambda value: tirx.Select(value < low, low, value))
    return _let(above, lambda value: tirx.Select(value > high, high, value))


def _of_float32(name: str, rule: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The rule; float16 is computed in float32, and float64 by the C library, or what LLVM has in its place."""

    def lower(call: Any) -> Any:
        (x,), dtype = call.args, call.ty.dtype
        if dtype.with_lanes(1) == "float32":
            return rule(x)
        if dtype.with_lanes(1) == "float16":
            return rule(x.astype(tvm.DataType("float32").with_lanes(int(dtype.lanes)))).astype(dtype)
        if name == "sigmoid":
            return _like(x, 1.0) / (_like(x, 1.0) + tirx.exp(_like(x, 0.0) - x))
        return tirx.call_llvm_pure_intrin(dtype, f"llvm.{name}", x)

    return lower


def _let(value: Any, body: Callable[[Any], Any]) -> Any:
    """The body over a name for the value, so that it is computed once."""
    variable = tirx.Var("v", value.ty)
    return tirx.Let(variable, value, body(variable))


def _polynomial(coefficients: Sequence[float], x: Any) -> Any:
    """Horner's scheme, from the highest power down."""
    first, *rest = (_like(x, coefficient) for coefficient in coefficients)
    return reduce(lambda total, coefficient: total * x + coefficient, rest, first)


def _power_of_two(x: Any, exponent: Any) -> Any:
    return _floats((exponent << _like_bits(x, _EXPONENT_SHIFT)) + _like_bits(x, _EXPONENT_OF_ONE))


def _lanes(x: Any) -> int:
    return int(x.ty.dtype.lanes)


def _like(x: Any, value: float) -> Any:
    return tirx.const(value, x.ty.dtype)


def _like_bits(x: Any, value: int) -> Any:
    return tirx.const(value, tvm.DataType("int32").with_lanes(_lanes(x)))


def _bits(x: Any) -> Any:
    return tirx.reinterpret(tvm.ir.PrimType(tvm.DataType("int32").with_lanes(_lanes(x))), x)


def _floats(bits: Any) -> Any:
    return tirx.reinterpret(tvm.ir.PrimType(tvm.DataType("float32").with_lanes(_lanes(bits))), bits)
