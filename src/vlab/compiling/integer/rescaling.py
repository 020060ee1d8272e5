"""From int32 sums to codes: the multiplier of each channel, and the arithmetic of `fixed_point` as TIR expressions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tvm import tirx
from tvm.tirx.script import builder

from vlab.compiling.integer.dialects import Dialect
from vlab.compiling.integer.fixed_point import quantize_multiplier
from vlab.compiling.integer.writing import clamp, typed, vector

LARGEST_SUM = 2**30 - 1
"""Sums must stay below 2**30: then no step of the rescaling overflows an int32."""


class OverflowingError(ValueError):
    """Sums of a kernel could pass what its arithmetic can hold."""


@dataclass(frozen=True)
class Rescaling:
    """What turns the sums of a kernel into codes: `clamp((sum + bias) * multiplier + zero point)`, for each channel."""

    bias: npt.NDArray[np.int32]
    mantissa: npt.NDArray[np.int32]
    left: npt.NDArray[np.int8]
    """Bits that sums are shifted up by before they are multiplied."""
    right: npt.NDArray[np.int8]
    """Bits that products are shifted down by."""
    twice: bool
    """Whether it is rounded twice."""
    zero_point: int
    low: int
    high: int

    @classmethod
    def of(
        cls,
        bias: npt.NDArray[np.int64],
        largest: npt.NDArray[np.int64],
        scales: npt.NDArray[np.float64],
        output: "Codes",
        *,
        twice: bool,
    ) -> "Rescaling":
        """Multipliers for scales, checked against the largest magnitude of each channel's sums without bias.

        Raises:
            OverflowingError: a sum could reach 2**30.
        """
        multipliers = [quantize_multiplier(float(scale)) for scale in scales]
        shift = np.array([one.shift for one in multipliers])
        left = np.maximum(shift, 0) if twice else np.full_like(shift, max(0, shift.max() + 1))
        check_sum(int(((np.abs(bias) + largest) << left).max()))
        return cls(
            bias=bias.astype(np.int32),
            mantissa=np.array([one.mantissa for one in multipliers], np.int64).astype(np.int32),
            left=left.astype(np.int8),
            right=(left - shift).astype(np.int8),
            twice=twice,
            zero_point=output.zero_point,
            low=output.low,
            high=output.high,
        )

    @property
    def arrays(self) -> list[npt.NDArray[np.generic]]:
        """What the kernel reads for each channel; values that all channels share are constants of its code."""
        return [array for array in (self.bias, self.mantissa, self.left, self.right) if not _uniform(array)]

    def arguments(self) -> list[Any]:
        """The arrays as parameters of the kernel that is being written."""
        return [
            builder.arg(f"array{index}", builder.buffer(array.shape, str(array.dtype)))
            for index, array in enumerate(self.arrays)
        ]

    def apply(self, total: Any, channel: Any, lanes: int, buffers: Sequence[Any], dialect: Dialect) -> Any:
        """The codes, as int8, of the sums of `lanes` neighbouring channels."""
        dtype, given = typed("int32", lanes), list(buffers)

        def value(array: npt.NDArray[np.generic]) -> Any:
            if _uniform(array):
                return tirx.const(int(array[0]), dtype)
            return builder.cast(vector(given.pop(0), channel, lanes), dtype)

        total = builder.bind(total + value(self.bias))
        mantissa, left, right = value(self.mantissa), value(self.left), value(self.right)
        if self.left.any():
            total = tirx.shift_left(total, left)
        if self.twice:
            high = multiplied_twice(total, mantissa, right, lanes, dialect, exact=bool((self.right == 0).any()))
        else:
            high = multiplied(total, mantissa, right, lanes, dialect)
        return clamped(high, self.zero_point, self.low, self.high, lanes)


@dataclass(frozen=True)
class Codes:
    """How the codes of an int8 tensor stand for real numbers, and the range that an activation leaves."""

    scale: float
    zero_point: int
    low: int = -128
    high: int = 127


def multiplied(total: Any, mantissa: Any, right: Any, lanes: int, dialect: Dialect) -> Any:
    """MultiplyByQuantizedMultiplier (common.cc, one rounding): `(total * mantissa + 2**(30 + right)) >> (31 + right)`.

    With right at least 1 that is the product without its lowest 31 bits, shifted with rounding.
    """
    high = builder.bind(dialect.high_multiply(builder.bind(total), mantissa, lanes, rounding=False))
    return builder.bind(dialect.rounding_shift(high, right, lanes))


def multiplied_twice(total: Any, mantissa: Any, right: Any, lanes: int, dialect: Dialect, *, exact: bool) -> Any:
    """MultiplyByQuantizedMultiplier (common.cc, two roundings), the second with halves away from zero if it shifts at all."""
    dtype = typed("int32", lanes)
    high = builder.bind(dialect.high_multiply(builder.bind(total), mantissa, lanes, rounding=True))
    away = tirx.shift_right(high, tirx.const(31, dtype))
    if exact:
        away = tirx.Select(right > tirx.const(0, dtype), away, tirx.const(0, dtype))
    return builder.bind(dialect.rounding_shift(high + away, right, lanes))


def clamped(value: Any, zero_point: int, low: int, high: int, lanes: int) -> Any:
    """Codes, as int8, of values without their zero point."""
    dtype = typed("int32", lanes)
    return builder.cast(clamp(value + tirx.const(zero_point, dtype), low, high, lanes), typed("int8", lanes))


def check_sum(largest: int) -> None:
    """Make sure that no sum overflows.

    Raises:
        OverflowingError: one could.
    """
    if largest > LARGEST_SUM:
        raise OverflowingError(f"a sum may reach {largest}, and int32 arithmetic holds {LARGEST_SUM}")


def _uniform(array: npt.NDArray[np.generic]) -> bool:
    return bool((array == array[0]).all())
