"""Plain integer arithmetic: what every CPU can do, and what the others do better."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tvm import tirx
from tvm.tirx.script import builder

from vlab.compiling.integer.writing import clamp, typed, vector

LARGEST_SHIFT = 22
"""Largest shift of a product that leaves room for a zero point in it: 2**30, which no sum reaches, plus 128 << 22."""


@dataclass(frozen=True)
class Dialect:
    """Plain integer arithmetic, one product at a time: right for every CPU."""

    chunk: int = 1
    """Bytes that one step takes."""
    pixels: int = 2
    channels: int = 4
    lanes: int = 1
    """int32 values of a partial sum."""
    vector: int = 1
    """int8 values that elementwise and depthwise kernels take at a time."""
    shifts_offset: bool = True
    """Whether an offset is best added by the addition that a rounding shift has anyway."""

    def dot(self, data: Any, weights: Any, total: Any) -> Any:
        """A partial sum plus the products of a chunk."""
        return total + builder.cast(data, "int32") * builder.cast(weights, "int32")

    def taps(self, weights: npt.NDArray[np.int8]) -> int:
        """How many products of one channel, of these weights [channel, tap], are summed up as int16; 1 if none are."""
        del weights
        return 1

    def finish(self, total: Any) -> Any:
        """The full sum that partial sums make."""
        return total

    def parameter(self, buffer: Any, channel: Any, lanes: int) -> Any:
        """Bias, multiplier or shift of neighbouring channels."""
        return vector(buffer, channel, lanes)

    def high_multiply(self, x: Any, mantissa: Any, lanes: int, *, rounding: bool) -> Any:
        """`x * mantissa / 2**31`, for |x| < 2**30; halves are rounded up, or all is rounded down."""
        wide = typed("int64", lanes)
        product = builder.cast(x + x, wide) * builder.cast(mantissa, wide)
        if rounding:
            product = product + tirx.const(1 << 31, wide)
        return builder.cast(tirx.shift_right(product, tirx.const(32, wide)), typed("int32", lanes))

    def rounding_shift(self, x: Any, right: Any, lanes: int, offset: int = 0) -> Any:
        """`x / 2**right + offset`, halves rounded up, for |x| < 2**30 and |offset| <= 128, which needs right at most 22."""
        dtype = typed("int32", lanes)
        added = tirx.shift_right(tirx.shift_left(tirx.const(1, dtype), right), tirx.const(1, dtype))
        if offset:
            added = added + tirx.const(offset, dtype) * tirx.shift_left(tirx.const(1, dtype), right)
        return tirx.shift_right(x + added, right)

    def clamp(self, x: Any, low: int, high: int, lanes: int) -> Any:
        """int32 values within bounds."""
        return clamp(x, low, high, lanes)

    def narrow(self, value: Any, zero_point: int, low: int, high: int, lanes: int) -> Any:
        """Codes, as int8 from low to high, of int32 values without their zero point."""
        if zero_point:
            value = builder.bind(value + tirx.const(zero_point, typed("int32", lanes)))
        return builder.cast(self.clamp(value, low, high, lanes), typed("int8", lanes))

    def shift_and_narrow(self, value: Any, right: Any, most: int, zero_point: int, bounds: tuple[int, int], lanes: int) -> Any:
        """Codes within bounds of int32 values that are first divided by 2**right, at most 2**most, halves rounded up."""
        offset = zero_point if self.shifts_offset and most <= LARGEST_SHIFT else 0
        shifted = builder.bind(self.rounding_shift(value, right, lanes, offset))
        return self.narrow(shifted, zero_point - offset, *bounds, lanes)
