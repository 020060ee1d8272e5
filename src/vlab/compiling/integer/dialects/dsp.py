"""The DSP instructions of Cortex-M."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder

from vlab.compiling.integer.dialects.dialect import Dialect
from vlab.compiling.integer.writing import vector


@dataclass(frozen=True)
class Dsp(Dialect):
    """Cortex-M with the DSP extension: SXTB16 takes two bytes of a word apart, SMLAD multiplies two pairs and adds both."""

    chunks: tuple[int, ...] = (4,)
    pixels: int = 2
    channels: int = 2

    def load(self, buffer: Any, offset: Any, size: int) -> Any:
        """A word as its bytes 0 and 2, and 1 and 3, each as two int16: order does not matter in a sum of products."""
        word = builder.bind(builder.reinterpret("int32", vector(buffer, offset, size)))
        even = tirx.call_llvm_pure_intrin("int32", "llvm.arm.sxtb16", word)
        turned = tirx.bitwise_or(
            tirx.bitwise_and(tirx.shift_right(word, tirx.const(8, "int32")), tirx.const(0x00FFFFFF, "int32")),
            tirx.shift_left(word, tirx.const(24, "int32")),
        )
        odd = tirx.call_llvm_pure_intrin("int32", "llvm.arm.sxtb16", turned)
        return builder.bind(even), builder.bind(odd)

    def dot(self, data: Sequence[Any], weights: Sequence[Any], size: int, total: Any) -> Any:
        """With the instructions above."""
        del size
        for x, w in zip(data, weights, strict=True):
            for part in range(2):
                total = tirx.call_llvm_pure_intrin("int32", "llvm.arm.smlad", x[part], w[part], total)
        return total
