"""Kernels over int8 codes that take one value, or two, at a time; each computes what LiteRT's reference kernel does.

Shapes are flat: the same number of values in and out.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from tvm import tirx
from tvm.tirx.script import builder

from vlab.compiling.integer.depthwise import split_lanes
from vlab.compiling.integer.dialects.dialect import Dialect
from vlab.compiling.integer.fixed_point import Multiplier, quantize_multiplier
from vlab.compiling.integer.rescaling import Codes, check_sum, multiplied_twice
from vlab.compiling.integer.writing import loop, span, typed, vector, written

_ADD_SHIFT = 20
"""Bits that both summands are scaled up by (add.cc, left_shift)."""

_Formula = Callable[[Sequence[Any], int], Any]
"""From int32 vectors of one or two inputs, and their lanes, to int32 codes that are still to be clamped."""


def add_kernel(size: int, left: Codes, right: Codes, output: Codes, sign: int, dialect: Dialect) -> Any:
    """Add (add.cc, integer_ops/add.h), or Sub (sub.cc) with sign -1; each of its products is rounded twice."""
    twice = 2 * max(left.scale, right.scale)
    first, second = quantize_multiplier(left.scale / twice), quantize_multiplier(right.scale / twice)
    back = quantize_multiplier(twice / (2**_ADD_SHIFT * output.scale))
    check_sum(255 << _ADD_SHIFT << max(0, back.shift))

    def formula(values: Sequence[Any], lanes: int) -> Any:
        up = tirx.const(_ADD_SHIFT, typed("int32", lanes))
        a = _multiplied_twice(tirx.shift_left(_offset(values[0], left, lanes), up), first, lanes, dialect)
        b = _multiplied_twice(tirx.shift_left(_offset(values[1], right, lanes), up), second, lanes, dialect)
        return _multiplied_twice(a + b if sign > 0 else a - b, back, lanes, dialect)

    return _kernel(size, 2, formula, output, dialect)


def multiply_kernel(size: int, left: Codes, right: Codes, output: Codes, dialect: Dialect) -> Any:
    """Mul (mul.cc, integer_ops/mul.h), rounded twice; the scales are multiplied as float32, as there."""
    scale = np.float32(left.scale) * np.float32(right.scale) / np.float32(output.scale)
    multiplier = quantize_multiplier(float(scale))
    check_sum(255 * 255 << max(0, multiplier.shift))

    def formula(values: Sequence[Any], lanes: int) -> Any:
        return _multiplied_twice(_offset(values[0], left, lanes) * _offset(values[1], right, lanes), multiplier, lanes, dialect)

    return _kernel(size, 2, formula, output, dialect)


def table_kernel(size: int) -> Any:
    """Any function of one code, looked up: a PrimFunc of data, the 256 codes for -128 to 127, and output."""
    with written() as kernel:
        data = builder.arg("data", builder.buffer((size,), "int8"))
        table = builder.arg("table", builder.buffer((256,), "int8"))
        output = builder.arg("output", builder.buffer((size,), "int8"))
        with loop(size) as at:
            builder.buffer_store(output, table[builder.cast(data[at], "int32") + 128], [at])
    return kernel.get()


def table(function: Callable[[npt.NDArray[np.float32]], Any], data: Codes, output: Codes) -> npt.NDArray[np.int8]:
    """The codes of a function for the codes -128 to 127 (internal/common.h, LUTPopulate): computed in float32, as there."""
    codes = np.arange(-128, 128, dtype=np.float32)
    with np.errstate(all="ignore"):
        real = np.asarray(function(np.float32(data.scale) * (codes - np.float32(data.zero_point))), np.float32)
        scaled = real * (np.float32(1) / np.float32(output.scale))
        rounded = np.trunc(scaled + np.copysign(np.float32(0.5), scaled)) + np.float32(output.zero_point)
    return np.asarray(np.clip(np.nan_to_num(rounded, nan=output.zero_point), output.low, output.high), np.int8)


def _kernel(size: int, inputs: int, formula: _Formula, output: Codes, dialect: Dialect) -> Any:
    with written() as kernel:
        buffers = [builder.arg(f"input{index}", builder.buffer((size,), "int8")) for index in range(inputs)]
        target = builder.arg("output", builder.buffer((size,), "int8"))
        for start, lanes, count in split_lanes(size, dialect.vector):
            dtype = typed("int32", lanes)
            with loop(count) as index:
                at = start + index * lanes
                codes = formula([builder.cast(vector(buffer, at, lanes), dtype) for buffer in buffers], lanes)
                codes = dialect.narrow(codes, output.zero_point, output.low, output.high, lanes)
                builder.buffer_store(target, codes, [span(at, lanes)])
    return kernel.get()


def _offset(value: Any, codes: Codes, lanes: int) -> Any:
    return value - tirx.const(codes.zero_point, typed("int32", lanes))


def _multiplied_twice(value: Any, multiplier: Multiplier, lanes: int, dialect: Dialect) -> Any:
    """MultiplyByQuantizedMultiplier by a constant, rounded twice."""
    dtype = typed("int32", lanes)
    if multiplier.shift > 0:
        value = tirx.shift_left(value, tirx.const(multiplier.shift, dtype))
    mantissa, right = tirx.const(multiplier.mantissa, dtype), tirx.const(max(0, -multiplier.shift), dtype)
    return multiplied_twice(value, mantissa, right, lanes, dialect, exact=multiplier.shift >= 0)
