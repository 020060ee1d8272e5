"""Vectors of x86-64."""

from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder

from vlab.compiling.integer.dialects.dialect import Dialect


@dataclass(frozen=True)
class Avx2(Dialect):
    """x86-64 with AVX2: sign-extend to int16, VPMADDWD."""

    chunk: int = 16
    pixels: int = 3
    channels: int = 4
    lanes: int = 8
    vector: int = 8

    def dot(self, data: Any, weights: Any, total: Any) -> Any:
        """With the instructions above."""
        pairs = (builder.cast(data, "int16x16"), builder.cast(weights, "int16x16"))
        return total + tirx.call_llvm_pure_intrin("int32x8", "llvm.x86.avx2.pmadd.wd", *pairs)

    def finish(self, total: Any) -> Any:
        """By pairwise additions."""
        return tirx.call_llvm_pure_intrin("int32", f"llvm.vector.reduce.add.v{self.lanes}i32", total)
