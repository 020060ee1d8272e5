"""From int32 sums to codes: the multiplier of each channel, and the arithmetic of `fixed_point` as TIR expressions."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from tvm import tirx
from tvm.tirx.script import builder

from vlab.compiling.integer.dialects.dialect import Dialect
from vlab.compiling.integer.fixed_point import OverflowingError, quantize_multiplier
from vlab.compiling.integer.writing import typed

LARGEST_SUM = 2**30 - 1
"""Sums must stay below 2**30: then no step of the rescaling overflows an int32."""


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
        bias = self._read(self.bias, channel, lanes, buffers, dialect)
        return self.apply_biased(builder.bind(total + bias), channel, lanes, buffers, dialect)

    def apply_biased(self, total: Any, channel: Any, lanes: int, buffers: Sequence[Any], dialect: Dialect) -> Any:
        """The codes, as int8, of sums that began with the bias."""
        (codes,) = self.apply_to_all([total], channel, lanes, buffers, dialect)
        return codes

    def apply_to_all(
        self,
        totals: Sequence[Any],
        channel: Any,
        lanes: int,
        buffers: Sequence[Any],
        dialect: Dialect,
        *,
        shared: bool = False,
    ) -> list[Any]:
        """The codes of several sums of the same channels that began with the bias; shared, all lanes are of one channel."""
        products = self.products(totals, channel, lanes, buffers, dialect, shared=shared)
        return self.codes(products, channel, lanes, buffers, dialect, shared=shared)

    def products(
        self,
        totals: Sequence[Any],
        channel: Any,
        lanes: int,
        buffers: Sequence[Any],
        dialect: Dialect,
        *,
        shared: bool = False,
    ) -> list[Any]:
        """The first half of that: the sums times the mantissa, int32."""
        mantissa, left, right = (
            self._spread(one, channel, lanes, buffers, dialect, shared=shared) for one in (self.mantissa, self.left, self.right)
        )
        highs = []
        for total in totals:
            shifted = tirx.shift_left(total, left) if self.left.any() else total
            if self.twice:
                exact, signed = bool((self.right == 0).any()), self.low < self.zero_point
                highs.append(high_product(shifted, mantissa, right, lanes, dialect, exact=exact, signed=signed))
            else:
                highs.append(builder.bind(dialect.high_multiply(builder.bind(shifted), mantissa, lanes, rounding=False)))
        return highs

    def codes(
        self,
        products: Sequence[Any],
        channel: Any,
        lanes: int,
        buffers: Sequence[Any],
        dialect: Dialect,
        *,
        shared: bool = False,
    ) -> list[Any]:
        """The second half: the products shifted, clamped and narrowed to int8."""
        right = self._spread(self.right, channel, lanes, buffers, dialect, shared=shared)
        most, bounds = int(self.right.max()), (self.low, self.high)
        return [dialect.shift_and_narrow(one, right, most, self.zero_point, bounds, lanes) for one in products]

    def first_sum(self, channel: Any, buffers: Sequence[Any], dialect: Dialect, lanes: int = 1) -> Any:
        """The bias of neighbouring channels, for sums to begin with."""
        return self._read(self.bias, channel, lanes, buffers, dialect)

    def repeated(self, times: int) -> "Rescaling":
        """The same for all channels several times over."""

        def more(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
            return np.tile(array, times)

        return replace(self, bias=more(self.bias), mantissa=more(self.mantissa), left=more(self.left), right=more(self.right))

    def padded(self, multiple: int) -> "Rescaling":
        """The same for a multiple of channels, of which the last repeats."""

        def more(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
            return np.pad(array, (0, -len(array) % multiple), "edge")

        return replace(self, bias=more(self.bias), mantissa=more(self.mantissa), left=more(self.left), right=more(self.right))

    def _spread(
        self, array: npt.NDArray[Any], channel: Any, lanes: int, buffers: Sequence[Any], dialect: Dialect, *, shared: bool
    ) -> Any:
        if shared:
            return builder.broadcast(self._read(array, channel, 1, buffers, dialect), lanes)
        return self._read(array, channel, lanes, buffers, dialect)

    def _read(self, array: npt.NDArray[np.generic], channel: Any, lanes: int, buffers: Sequence[Any], dialect: Dialect) -> Any:
        """Values of one of the arrays for `lanes` neighbouring channels, as int32."""
        dtype = typed("int32", lanes)
        if _uniform(array):
            return tirx.const(int(array[0]), dtype)
        place = next(place for place, one in enumerate(self.arrays) if one is array)
        return builder.cast(dialect.parameter(buffers[place], channel, lanes), dtype)


@dataclass(frozen=True)
class Codes:
    """How the codes of an int8 tensor stand for real numbers, and the range that an activation leaves."""

    scale: float
    zero_point: int
    low: int = -128
    high: int = 127


def multiplied_twice(total: Any, mantissa: Any, right: Any, lanes: int, dialect: Dialect, *, exact: bool) -> Any:
    """MultiplyByQuantizedMultiplier (common.cc, two roundings), the second with halves away from zero if it shifts at all."""
    high = high_product(total, mantissa, right, lanes, dialect, exact=exact, signed=True)
    return builder.bind(dialect.rounding_shift(high, right, lanes))


def high_product(total: Any, mantissa: Any, right: Any, lanes: int, dialect: Dialect, *, exact: bool, signed: bool) -> Any:
    """What rounded and shifted to the right is the product rounded twice.

    Args:
        total: |total| < 2**30.
        mantissa: of the multiplier.
        right: bits that the product will be shifted by.
        lanes: of the vectors that these are.
        dialect: of the target's CPU.
        exact: whether some may be shifted by none.
        signed: whether products below 0 matter; if they are clamped away, so is which way their halves are rounded.
    """
    dtype = typed("int32", lanes)
    high = builder.bind(dialect.high_multiply(builder.bind(total), mantissa, lanes, rounding=True))
    if not signed:
        return high
    away = tirx.shift_right(high, tirx.const(31, dtype))
    if exact:
        away = tirx.Select(right > tirx.const(0, dtype), away, tirx.const(0, dtype))
    return builder.bind(high + away)


def check_sum(largest: int) -> None:
    """Make sure that no sum overflows.

    Raises:
        OverflowingError: one could.
    """
    if largest > LARGEST_SUM:
        raise OverflowingError(f"a sum may reach {largest}, and int32 arithmetic holds {LARGEST_SUM}")


def _uniform(array: npt.NDArray[np.generic]) -> bool:
    return bool((array == array[0]).all())
