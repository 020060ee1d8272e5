"""Plain integer arithmetic: what every CPU can do, and what the others do better."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tvm import tirx
from tvm.tirx.script import builder

from vlab.compiling.integer.writing import clamp, typed, vector


@dataclass(frozen=True)
class Dialect:
    """Plain integer arithmetic, one product at a time: right for every CPU."""

    chunks: tuple[int, ...] = (1,)
    """Bytes that one step can take, the largest first; rows are padded to a multiple of the smallest."""
    pixels: int = 2
    channels: int = 4
    lanes: int = 1
    """int32 values of a partial sum."""
    vector: int = 1
    """int8 values that elementwise and depthwise kernels take at a time."""
    widths: tuple[int, ...] = ()
    """Channels side by side, the most first, where convolutions multiply vectors of weights by single bytes of data."""
    shifts_offset: bool = True
    """Whether an offset is best added by the addition that a rounding shift has anyway."""

    def chain(self, weights: npt.NDArray[np.int8]) -> int:
        """How many of the largest chunks one step may take for these weights [row, byte] without an overflow; 0: none."""
        del weights
        return 1

    def load(self, buffer: Any, offset: Any, size: int) -> Any:
        """`size` bytes of a buffer, in whatever form `dot` takes them."""
        return vector(buffer, offset, size)

    def dot(self, data: Sequence[Any], weights: Sequence[Any], size: int, total: Any) -> Any:
        """A partial sum plus the products of a chain of chunks, each of `size` bytes."""
        del size
        for x, w in zip(data, weights, strict=True):
            total = total + builder.cast(x, "int32") * builder.cast(w, "int32")
        return total

    def taps(self, weights: npt.NDArray[np.int8]) -> int:
        """How many products of one channel, of these weights [channel, tap], are summed up as int16; 1 if none are."""
        del weights
        return 1

    def finish(self, totals: Sequence[Any]) -> list[tuple[Any, int]]:
        """The full sums of neighbouring channels: vectors or scalars, and how many channels each holds."""
        return [(total, 1) for total in totals]

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


def reduced(total: Any, lanes: int) -> Any:
    """The sum of a vector of int32."""
    return tirx.call_llvm_pure_intrin("int32", f"llvm.vector.reduce.add.v{lanes}i32", total)
