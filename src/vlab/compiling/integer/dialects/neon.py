"""Arm's 64-bit vectors, without and with dot product."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from tvm import tirx
from tvm.tirx.script import builder

from vlab.compiling.integer.dialects.chains import groupings, longest_run
from vlab.compiling.integer.dialects.dialect import Dialect
from vlab.compiling.integer.writing import typed, zeros

QUAD = 4
"""Bytes of data that are multiplied with the weights of as many channels at once."""


Chains = tuple[tuple[int, ...], ...]
"""What of a chunk of data is summed up before it is added to the totals: numbers of half steps, each of two bytes."""


@dataclass(frozen=True)
class Neon(Dialect):
    """AArch64 without dot product: SMULL and SMLAL into int16, then pairwise into int32 with SADALP."""

    pixels: int = 4
    sums: int = 12
    """Vectors of them in a tile."""
    vectors: int = 4
    """Of four channels, side by side in a tile."""
    vector: int = 16
    shifts_offset: bool = False

    def chains(self, chunks: Sequence[npt.NDArray[np.int8]]) -> tuple[Chains, list[npt.NDArray[np.int8]]]:
        """The longest sums that int16 holds in all chunks of weights [channel, byte], and each chunk's order for that.

        They end where a step does: what two of them shared would wait in registers for the second.
        """
        size = chunks[0].shape[1]
        steps = np.arange(size // 2).reshape(-1, 2)
        for count in range(1, len(steps) + 1):
            parts = [part.ravel().tolist() for part in np.array_split(steps, count)]
            orders = groupings(np.stack(chunks), [len(part) for part in parts])
            if orders is not None:
                return tuple(tuple(part) for part in parts), orders
        return tuple((half,) for half in range(size // 2)), [np.arange(size, dtype=np.int8)] * len(chunks)

    def arranged(self, quads: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
        """Weights [..., channel, byte] as a vector: of all four channels the first two bytes, then the others."""
        shape = quads.shape[:-2]
        return np.ascontiguousarray(quads.reshape(*shape, QUAD, 2, 2).swapaxes(-3, -2))

    def spread(self, data: Any, step: int, places: Any = None) -> Any:
        """Two bytes of a vector four times, and the two after them, with TBL; or the bytes at other places."""
        if places is None:
            numbers = [QUAD * step + 2 * half + byte for half in range(2) for _ in range(QUAD) for byte in range(2)]
            places = tirx.Shuffle([tirx.const(number, "int8") for number in numbers], list(range(len(numbers))))
        return tirx.call_llvm_pure_intrin("int8x16", "llvm.aarch64.neon.tbl1.v16i8", data, places)

    def chained(self, total: Any, pairs: Sequence[tuple[Any, Any, int]]) -> Any:
        """A total plus the products of halves, 0 or 1, of spread data and weights."""
        products: Any = None
        for data, weights, half in pairs:
            taken = [tirx.call_intrin("int8x8", f"tirx.vector{('low', 'high')[half]}", one) for one in (data, weights)]
            x, w = (builder.cast(one, "int16x8") for one in taken)
            products = x * w if products is None else products + x * w
        return total + tirx.call_llvm_pure_intrin("int32x4", "llvm.aarch64.neon.saddlp.v4i32.v8i16", products)

    def taps(self, weights: npt.NDArray[np.int8]) -> int:
        """As far as int16 holds the products."""
        return longest_run(weights)

    def high_multiply(self, x: Any, mantissa: Any, lanes: int, *, rounding: bool) -> Any:
        """With SQDMULH or SQRDMULH."""
        if lanes < QUAD:
            return super().high_multiply(x, mantissa, lanes, rounding=rounding)
        return _by_fours(f"llvm.aarch64.neon.{'sqrdmulh' if rounding else 'sqdmulh'}.v4i32", lanes, x, mantissa)

    def rounding_shift(self, x: Any, right: Any, lanes: int, offset: int = 0) -> Any:
        """With SRSHL."""
        if lanes < QUAD or offset:
            return super().rounding_shift(x, right, lanes, offset)
        return _by_fours("llvm.aarch64.neon.srshl.v4i32", lanes, x, zeros("int32", lanes) - right)

    def narrow(self, value: Any, zero_point: int, low: int, high: int, lanes: int) -> Any:
        """With SQXTN to int16, SQADD of the zero point, SQXTN to int8, which clamp most of what there is to clamp."""
        if lanes < 2 * QUAD:
            return super().narrow(value, zero_point, low, high, lanes)

        def sixteen(part: Any) -> Any:
            return tirx.call_llvm_pure_intrin("int16x4", "llvm.aarch64.neon.sqxtn.v4i16", part)

        def eight(part: Any) -> Any:
            moved = tirx.call_llvm_pure_intrin("int16x8", "llvm.sadd.sat.v8i16", part, tirx.const(zero_point, "int16x8"))
            return tirx.call_llvm_pure_intrin("int8x8", "llvm.aarch64.neon.sqxtn.v8i8", moved)

        words = _in_parts(QUAD, ("int32", "int16"), lanes, sixteen, value)
        codes = _in_parts(2 * QUAD, ("int16", "int8"), lanes, eight, words)
        dtype = typed("int8", lanes)
        if high < np.iinfo(np.int8).max:
            codes = tirx.call_llvm_pure_intrin(dtype, f"llvm.smin.v{lanes}i8", codes, tirx.const(high, dtype))
        if low > np.iinfo(np.int8).min:
            codes = tirx.call_llvm_pure_intrin(dtype, f"llvm.smax.v{lanes}i8", codes, tirx.const(low, dtype))
        return codes


@dataclass(frozen=True)
class NeonDot(Neon):
    """AArch64 with dot product (Armv8.2): SDOT adds four products to each of four sums, by four bytes out of sixteen."""

    sums: int = 16

    def chains(self, chunks: Sequence[npt.NDArray[np.int8]]) -> tuple[Chains, list[npt.NDArray[np.int8]]]:
        """Each step by itself: nothing overflows."""
        size = chunks[0].shape[1]
        steps = tuple((half, half + 1) for half in range(0, size // 2, 2))
        return steps, [np.arange(size, dtype=np.int8)] * len(chunks)

    def arranged(self, quads: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
        """Each channel's bytes side by side."""
        return np.ascontiguousarray(quads)

    def spread(self, data: Any, step: int, places: Any = None) -> Any:
        """Four bytes four times, which the instruction itself does."""
        del places
        return builder.reinterpret("int8x16", tirx.Shuffle([builder.reinterpret("int32x4", data)], [step] * QUAD))

    def chained(self, total: Any, pairs: Sequence[tuple[Any, Any, int]]) -> Any:
        """With SDOT, of both halves at once."""
        data, weights, _ = pairs[0]
        return tirx.call_llvm_pure_intrin("int32x4", "llvm.aarch64.neon.sdot.v4i32.v16i8", total, weights, data)


def _by_fours(intrinsic: str, lanes: int, a: Any, b: Any) -> Any:
    """An intrinsic over vectors of 4 int32."""
    return _in_parts(QUAD, ("int32", "int32"), lanes, partial(tirx.call_llvm_pure_intrin, "int32x4", intrinsic), a, b)


def _in_parts(width: int, dtypes: tuple[str, str], lanes: int, function: Callable[..., Any], *values: Any) -> Any:
    """A function of vectors of `width`, on longer ones; given are the types of values and result."""
    if lanes == width:
        return function(*values)
    given, result = dtypes
    bound, half = [builder.bind(value) for value in values], lanes // 2
    low, high = (
        _in_parts(
            width,
            dtypes,
            half,
            function,
            *(tirx.call_intrin(typed(given, half), f"tirx.{part}", one) for one in bound),
        )
        for part in ("vectorlow", "vectorhigh")
    )
    return tirx.call_intrin(typed(result, lanes), "tirx.vectorcombine", low, high)
