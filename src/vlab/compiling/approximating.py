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

_TANH = (-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1)
"""tanh(x) = x + x^3 p(x^2) for |x| <= 0.625. Cephes, single/tanhf.c."""
_TANH_SMALL = 0.625

_ERF_SMALL = 0.927734375
_ERF = (-5.96761703e-4, 4.99119423e-3, -2.67681349e-2, 1.12819925e-1, -3.76125336e-1, 1.28379166e-1)
"""erf(x) = x + x p(x^2) for |x| <= 0.927734375. N. Juffa, my_erff, https://stackoverflow.com/a/35148199 (BSD 2-clause)."""
_ERFC = (-1.72853470e-5, 3.83197126e-4, -3.88396438e-3, 2.42546219e-2, -1.06777877e-1, -6.34846687e-1, -1.28717512e-1)
"""erf(x) = 1 - exp(x p(x) - x) above. Same source."""

_ROUNDER = 12582912.0
"""1.5 * 2^23: a float32 below 2^22 plus this one has its whole part in the lowest bits."""
_ROUNDER_BITS = 0x4B400000
_SIGN = -0x80000000
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
    below = tirx.Select(x < _like(x, _EXP_LOWEST), _like(x, _EXP_LOWEST), x)  # a comparison with NaN is false: it stays
    return _let(tirx.Select(below > _like(x, _EXP_HIGHEST), _like(x, _EXP_HIGHEST), below), _exponential_within)


def _exponential_within(x: Any) -> Any:
    def scaled(shifted: Any) -> Any:
        whole = shifted - _like(x, _ROUNDER)
        rest = x - whole * _like(x, _LN2_HIGH) - whole * _like(x, _LN2_LOW)
        mantissa = _let(rest, lambda r: _polynomial(_EXP, r) * (r * r) + r + _like(r, 1.0))
        exponent = _bits(shifted) - _like_bits(x, _ROUNDER_BITS)
        half = exponent >> _like_bits(x, 1)  # two factors: 2^128 and 2^-149 are no normal numbers
        return mantissa * _power_of_two(x, half) * _power_of_two(x, exponent - half)

    return _let(x * _like(x, _LOG2_E) + _like(x, _ROUNDER), scaled)


def logistic(x: Any) -> Any:
    """1 / (1 + exp(-x)), at most 2.5 units off above -87; below that zero for what is subnormal."""
    return _like(x, 1.0) / (_like(x, 1.0) + exponential(_like(x, 0.0) - x))


def hyperbolic_tangent(x: Any) -> Any:
    """tanh(x), at most 1.4 units off."""

    def either(value: Any) -> Any:
        size = _magnitude(value)
        near = _let(value * value, lambda square: _polynomial(_TANH, square) * square * value + value)
        far = _like(x, 1.0) - _like(x, 2.0) / (exponential(size + size) + _like(x, 1.0))
        return _choose(size <= _like(x, _TANH_SMALL), near, _with_sign(far, value))

    return _let(x, either)


def error_function(x: Any) -> Any:
    """erf(x), at most 1.2 units off."""

    def either(value: Any) -> Any:
        size = _magnitude(value)
        near = _let(value * value, lambda square: _polynomial(_ERF, square) * value + value)
        far = _let(size, lambda s: _like(x, 1.0) - exponential(_polynomial(_ERFC, s) * s - s))
        return _choose(size <= _like(x, _ERF_SMALL), near, _with_sign(far, value))

    return _let(x, either)


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


def _choose(condition: Any, near: Any, far: Any) -> Any:
    """Both sides where values are vectors; a branch where one is enough."""
    return tirx.if_then_else(condition, near, far) if _lanes(near) == 1 else tirx.Select(condition, near, far)


def _polynomial(coefficients: Sequence[float], x: Any) -> Any:
    """Horner's scheme, from the highest power down."""
    first, *rest = (_like(x, coefficient) for coefficient in coefficients)
    return reduce(lambda total, coefficient: total * x + coefficient, rest, first)


def _magnitude(x: Any) -> Any:
    return _floats(_bits(x) & _like_bits(x, ~_SIGN))


def _with_sign(size: Any, x: Any) -> Any:
    return _floats(_bits(size) | (_bits(x) & _like_bits(x, _SIGN)))


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
