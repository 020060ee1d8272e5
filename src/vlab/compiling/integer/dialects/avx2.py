"""Vectors of x86-64."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder

from vlab.compiling.integer.dialects.dialect import Dialect, reduced


@dataclass(frozen=True)
class Avx2(Dialect):
    """x86-64 with AVX2: sign-extend to int16, VPMADDWD."""

    chunks: tuple[int, ...] = (16,)
    pixels: int = 3
    channels: int = 4
    lanes: int = 8
    vector: int = 8

    def dot(self, data: Sequence[Any], weights: Sequence[Any], size: int, total: Any) -> Any:
        """With the instructions above."""
        del size
        for x, w in zip(data, weights, strict=True):
            pairs = (builder.cast(x, "int16x16"), builder.cast(w, "int16x16"))
            total = total + tirx.call_llvm_pure_intrin("int32x8", "llvm.x86.avx2.pmadd.wd", *pairs)
        return total

    def finish(self, totals: Sequence[Any]) -> list[tuple[Any, int]]:
        """By pairwise additions, or one by one."""
        return [(reduced(total, self.lanes), 1) for total in totals]
