"""RISC-V's vectors.

What LLVM does not find by itself is said by its intrinsics over scalable vectors, which stand for as many lanes as the fixed
vectors that go in and out of them, however long the CPU's registers are.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder

from vlab.compiling.integer.dialects.dialect import Dialect
from vlab.compiling.integer.writing import span, typed, vector

_BLOCK_BITS = 64
"""Bits of a scalable vector of length 1 (llvm/docs/LangRef, vscale; RISCV::RVVBitsPerBlock)."""
_WIDTHS = 4
"""Of vectors; of the narrowest a scalable one still has two lanes."""
_SHIFTS = ("vssra", "vnclip")
"""They take a scalar as an address is."""
_LOWEST, _HIGHEST = -128, 127
_WIDER = {"int8": "int16", "int16": "int32"}
_NARROWER = {wide: narrow for narrow, wide in _WIDER.items()}
_UP = tirx.const(0, "int64")
"""Rounding mode rnu: halves are rounded up."""
_AGNOSTIC = tirx.const(3, "int64")
"""Policy: elements past the last may become anything."""


@dataclass(frozen=True)
class Rvv(Dialect):
    """RISC-V vectors: VWMACC by a scalar, with int32 sums in groups of eight registers."""

    pixels: int = 3
    """Sums in 24 of 32 registers; the others hold the int16 vector that is multiplied."""
    vector: int = 32
    shifts_offset: bool = False
    widths: tuple[int, ...] = ()
    """Vectors of the full width, of half of it, and so on."""
    bits: int = 128
    """Least length of a register."""

    @classmethod
    def of(cls, features: Sequence[str]) -> "Rvv":
        """As wide as the features of LLVM's target allow: a vector of int32 is a group of eight registers."""
        lengths = [int(found[1]) for found in (re.fullmatch(r"\+zvl(\d+)b", feature) for feature in features) if found]
        bits = max(lengths, default=128)
        vector = bits // 4
        return cls(vector=vector, bits=bits, widths=tuple(vector >> shift for shift in range(_WIDTHS)))

    def reload(self, buffer: Any, offset: Any, lanes: int) -> Any:
        """Neighbouring values of a buffer, loaded where it is said: LLVM would keep more of them than there are registers."""
        if lanes == 1:
            return buffer[offset]
        dtype = str(buffer.dtype)
        address = tirx.call_llvm_pure_intrin("handle", "llvm.launder.invariant.group", tirx.address_of(buffer[offset]))
        loaded = self._call("vle", dtype, lanes, self._anything(dtype, lanes), address, _length(lanes))
        return builder.bind(self._fixed(loaded, dtype, lanes))

    def load_apart(self, buffer: Any, offset: Any, stride: int, lanes: int) -> Any:
        """Values of a buffer that are so far from each other, with VLSE."""
        if lanes == 1 or stride == 1:
            return vector(buffer, offset, lanes)
        dtype = str(buffer.dtype)
        operands = (self._anything(dtype, lanes), tirx.address_of(buffer[offset]), _length(stride), _length(lanes))
        return builder.bind(self._fixed(self._call("vlse", dtype, lanes, *operands), dtype, lanes))

    def store_apart(self, buffer: Any, offset: Any, stride: int, value: Any, lanes: int) -> None:
        """Values to where they are so far from each other in a buffer, with VSSE."""
        if lanes == 1 or stride == 1:
            builder.buffer_store(buffer, value, [span(offset, lanes)])
            return
        taken = self._scalable(value, str(buffer.dtype), lanes)
        operands = (taken, tirx.address_of(buffer[offset]), _length(stride), _length(lanes))
        builder.evaluate(tirx.call_llvm_intrin("void", "llvm.riscv.vsse", *operands))

    @contextmanager
    def rolled(self, extent: int, *, apart: bool = False) -> Iterator[Any]:
        """A loop that LLVM does not unroll, since it does not know that no CPU has vectors this long.

        Unrolled, it would interleave its turns, and spill their sums.
        """
        if extent == 1 and not apart:
            yield 0
            return
        nothing = tirx.shift_right(tirx.vscale(), tirx.const(20, "int32"))
        with builder.serial(0, nothing + extent) as index:
            yield index

    def parameter(self, buffer: Any, channel: Any, lanes: int) -> Any:
        """Loaded when it is needed: there are no registers to keep it in."""
        return self.reload(buffer, channel, lanes)

    def multiply_add(self, total: Any, factors: Any, scalar: Any, lanes: int, dtype: str = "int32") -> Any:
        """Sums plus a vector times a number, both half as wide as the sums."""
        if lanes == 1:
            return total + builder.cast(factors, dtype) * builder.cast(scalar, dtype)
        return self._multiply_add(total, scalar, factors, lanes, dtype)

    def multiply_add_vectors(self, total: Any, left: Any, right: Any, lanes: int) -> Any:
        """int32 sums plus an int16 vector times another."""
        if lanes == 1:
            return total + builder.cast(left, "int32") * builder.cast(right, "int32")
        return self._multiply_add(total, self._scalable(left, "int16", lanes), right, lanes, "int32")

    def _multiply_add(self, total: Any, left: Any, right: Any, lanes: int, dtype: str) -> Any:
        operands = (self._scalable(total, dtype, lanes), left, self._scalable(right, _NARROWER[dtype], lanes))
        return self._fixed(self._call("vwmacc", dtype, lanes, *operands, _length(lanes), _AGNOSTIC), dtype, lanes)

    def part(self, sums: Any, offset: int, width: int, lanes: int) -> Any:
        """Of such sums some that follow each other, as int32."""
        if lanes == 1:
            return sums
        if width < lanes:
            sums = tirx.call_llvm_pure_intrin(typed("int16", width), "llvm.vector.extract", sums, _length(offset))
        return builder.cast(sums, typed("int32", width))

    def high_multiply(self, x: Any, mantissa: Any, lanes: int, *, rounding: bool) -> Any:
        """With VSMUL, which saturates only where both are -2**31; or with VMULH."""
        if lanes == 1:
            return super().high_multiply(x, mantissa, lanes, rounding=rounding)
        if rounding:
            return self._binary("vsmul", "int32", x, mantissa, lanes, _UP)
        return self._binary("vmulh", "int32", x + x, mantissa, lanes)

    def rounding_shift(self, x: Any, right: Any, lanes: int, offset: int = 0) -> Any:
        """With VSSRA."""
        if lanes == 1 or offset:
            return super().rounding_shift(x, right, lanes, offset)
        return self._binary("vssra", "int32", x, right, lanes, _UP)

    def narrow(self, value: Any, zero_point: int, low: int, high: int, lanes: int) -> Any:
        """As below."""
        if lanes == 1:
            return super().narrow(value, zero_point, low, high, lanes)
        return self.shift_and_narrow(value, tirx.const(0, typed("int32", lanes)), 0, zero_point, (low, high), lanes)

    def shift_and_narrow(self, value: Any, right: Any, most: int, zero_point: int, bounds: tuple[int, int], lanes: int) -> Any:
        """With VNCLIP, which shifts, rounds and saturates: to int16, and from there to int8."""
        if lanes == 1:
            return super().shift_and_narrow(value, right, most, zero_point, bounds, lanes)
        codes = self._binary("vnclip", "int16", value, right, lanes, _UP)
        if zero_point:
            codes = self._binary("vsadd", "int16", codes, tirx.const(zero_point, typed("int16", lanes)), lanes)
        codes = self._binary("vnclip", "int8", codes, tirx.const(0, typed("int8", lanes)), lanes, _UP)
        low, high = bounds
        if high < _HIGHEST:
            codes = tirx.call_llvm_pure_intrin(typed("int8", lanes), "llvm.smin", codes, tirx.const(high, typed("int8", lanes)))
        if low > _LOWEST:
            codes = tirx.call_llvm_pure_intrin(typed("int8", lanes), "llvm.smax", codes, tirx.const(low, typed("int8", lanes)))
        return codes

    def _binary(self, name: str, dtype: str, a: Any, b: Any, lanes: int, *mode: Any) -> Any:
        """An instruction of a vector and a vector or, where all lanes of it are the same, a scalar."""
        left = self._scalable(a, _WIDER[dtype] if name == "vnclip" else dtype, lanes)
        if isinstance(b, tirx.Broadcast):
            right = builder.cast(b.value, "int64" if name in _SHIFTS else dtype)
        else:
            right = self._scalable(builder.cast(b, typed(dtype, lanes)), dtype, lanes)
        result = self._call(name, dtype, lanes, self._anything(dtype, lanes), left, right, *mode, _length(lanes))
        return builder.bind(self._fixed(result, dtype, lanes))

    def _call(self, name: str, dtype: str, lanes: int, *operands: Any) -> Any:
        return tirx.call_llvm_pure_intrin(self._scalable_type(dtype, lanes), f"llvm.riscv.{name}", *operands)

    def _scalable(self, value: Any, dtype: str, lanes: int) -> Any:
        operands = (self._anything(dtype, lanes), value, tirx.const(0, "int64"))
        return tirx.call_llvm_pure_intrin(self._scalable_type(dtype, lanes), "llvm.vector.insert", *operands)

    def _fixed(self, value: Any, dtype: str, lanes: int) -> Any:
        return tirx.call_llvm_pure_intrin(typed(dtype, lanes), "llvm.vector.extract", value, tirx.const(0, "int64"))

    def _anything(self, dtype: str, lanes: int) -> Any:
        """A vector whose lanes are undefined, as LLVM has it after counting the trailing zeros of 0."""
        undefined = tirx.call_llvm_pure_intrin(dtype, "llvm.cttz", tirx.const(0, dtype), tirx.const(True, "bool"))
        return tirx.Broadcast(undefined, tirx.vscale() * self._scale(lanes))

    def _scale(self, lanes: int) -> int:
        return lanes * _BLOCK_BITS // self.bits

    def _scalable_type(self, dtype: str, lanes: int) -> str:
        return f"{dtype}xvscalex{self._scale(lanes)}"


def _length(lanes: int) -> Any:
    return tirx.const(lanes, "int64")
