"""Arm's 64-bit vectors without dot product."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tvm import tirx
from tvm.tirx.script import builder

from vlab.compiling.integer.dialects.chains import longest_chain, longest_run
from vlab.compiling.integer.dialects.dialect import Dialect, reduced
from vlab.compiling.integer.writing import zeros


@dataclass(frozen=True)
class Neon(Dialect):
    """AArch64 without dot product: SMULL and SMLAL into int16, then pairwise into int32 with SADALP."""

    chunks: tuple[int, ...] = (16, 8)
    pixels: int = 2
    channels: int = 4
    lanes: int = 4
    vector: int = 8

    def chain(self, weights: npt.NDArray[np.int8]) -> int:
        """As far as int16 holds the products."""
        return longest_chain(weights, self.chunks[0], 8)

    def taps(self, weights: npt.NDArray[np.int8]) -> int:
        """As far as int16 holds the products."""
        return longest_run(weights)

    def dot(self, data: Sequence[Any], weights: Sequence[Any], size: int, total: Any) -> Any:
        """With the instructions above."""
        halves = [(builder.cast(x, "int16x8"), builder.cast(w, "int16x8")) for x, w in _halves(data, weights, size)]
        products = halves[0][0] * halves[0][1]
        for x, w in halves[1:]:
            products = products + x * w
        return total + tirx.call_llvm_pure_intrin("int32x4", "llvm.aarch64.neon.saddlp.v4i32.v8i16", products)

    def finish(self, totals: Sequence[Any]) -> list[tuple[Any, int]]:
        """By pairwise additions, or one by one."""
        if len(totals) == self.lanes:
            pair = "llvm.aarch64.neon.addp.v4i32"
            low, high = (tirx.call_llvm_pure_intrin("int32x4", pair, *totals[at : at + 2]) for at in (0, 2))
            return [(tirx.call_llvm_pure_intrin("int32x4", pair, low, high), self.lanes)]
        return [(reduced(total, self.lanes), 1) for total in totals]

    def high_multiply(self, x: Any, mantissa: Any, lanes: int, *, rounding: bool) -> Any:
        """With SQDMULH or SQRDMULH."""
        if lanes < self.lanes:
            return super().high_multiply(x, mantissa, lanes, rounding=rounding)
        return _by_fours(f"llvm.aarch64.neon.{'sqrdmulh' if rounding else 'sqdmulh'}.v4i32", x, mantissa, lanes)

    def rounding_shift(self, x: Any, right: Any, lanes: int, offset: int = 0) -> Any:
        """With SRSHL."""
        if lanes < self.lanes:
            return super().rounding_shift(x, right, lanes, offset)
        shifted = _by_fours("llvm.aarch64.neon.srshl.v4i32", x, zeros("int32", lanes) - right, lanes)
        return shifted + tirx.const(offset, f"int32x{lanes}") if offset else shifted


def _halves(data: Sequence[Any], weights: Sequence[Any], size: int) -> list[tuple[Any, Any]]:
    """Chunks of 16 bytes as two of 8."""
    if size == 8:
        return list(zip(data, weights, strict=True))
    return [
        (tirx.call_intrin("int8x8", f"tirx.{part}", x), tirx.call_intrin("int8x8", f"tirx.{part}", w))
        for x, w in zip(data, weights, strict=True)
        for part in ("vectorlow", "vectorhigh")
    ]


def _by_fours(intrinsic: str, a: Any, b: Any, lanes: int) -> Any:
    """An intrinsic over vectors of 4, on vectors of 4 or 8."""
    if lanes == 4:
        return tirx.call_llvm_pure_intrin("int32x4", intrinsic, a, b)
    a, b = builder.bind(a), builder.bind(b)
    low, high = (
        tirx.call_llvm_pure_intrin("int32x4", intrinsic, *(tirx.call_intrin("int32x4", f"tirx.{part}", one) for one in (a, b)))
        for part in ("vectorlow", "vectorhigh")
    )
    return tirx.call_intrin("int32x8", "tirx.vectorcombine", low, high)
