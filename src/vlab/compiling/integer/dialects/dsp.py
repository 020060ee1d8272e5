"""The DSP instructions of Cortex-M."""

from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder

from vlab.compiling.integer.dialects.dialect import Dialect
from vlab.compiling.integer.writing import vector


@dataclass(frozen=True)
class Dsp(Dialect):
    """Cortex-M with the DSP extension: SXTB16 takes two bytes of a word apart, SMLAD multiplies two pairs and adds both."""

    pixels: int = 3
    channels: int = 2

    def pairs(self, buffer: Any, offset: Any) -> tuple[Any, Any]:
        """A word of int8 as its bytes 0 and 2, and 1 and 3, each as two int16: order does not matter in a sum of products."""
        word = builder.bind(builder.reinterpret("int32", vector(buffer, offset, 4)))
        turned = tirx.call_llvm_pure_intrin("int32", "llvm.fshr.i32", word, word, tirx.const(8, "int32"))
        even, odd = (tirx.call_llvm_pure_intrin("int32", "llvm.arm.sxtb16", one) for one in (word, turned))
        return builder.bind(even), builder.bind(odd)

    def multiply_pairs(self, data: Any, weights: Any, total: Any) -> Any:
        """With SMLAD."""
        return tirx.call_llvm_pure_intrin("int32", "llvm.arm.smlad", data, weights, total)

    def unknown_zero(self, varying: Any) -> Any:
        """0 for whatever varies in a loop, by USAT to no bits; LLVM does not know, and leaves what depends on it in the loop.

        Out of it, it would move more words than there are registers, and read them back from the stack.
        """
        return builder.bind(tirx.call_llvm_pure_intrin("int32", "llvm.arm.usat", varying, tirx.const(0, "int32")))

    def high_multiply(self, x: Any, mantissa: Any, lanes: int, *, rounding: bool) -> Any:
        """With SMMULR or SMMUL, of twice the sum: doubled by a shift, as LLVM would double the product of 64 bits instead."""
        del lanes
        doubled = tirx.shift_left(x, tirx.const(1, "int32"))
        product = builder.cast(doubled, "int64") * builder.cast(mantissa, "int64")
        if rounding:
            product = product + tirx.const(1 << 31, "int64")
        return builder.cast(tirx.shift_right(product, tirx.const(32, "int64")), "int32")

    def clamp(self, x: Any, low: int, high: int, lanes: int) -> Any:
        """With SSAT where all codes are allowed."""
        if (low, high) != (-128, 127):
            return super().clamp(x, low, high, lanes)
        return tirx.call_llvm_pure_intrin("int32", "llvm.arm.ssat", x, tirx.const(8, "int32"))
