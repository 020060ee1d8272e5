"""How a CPU multiplies int8 by int8 into int32: the innermost step of the dot-product kernels, one class for each way.

A kernel takes rows of codes in chunks of bytes. For each of `pixels` rows of data and `channels` rows of weights it keeps one
sum, which is a vector of `lanes` partial sums.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tvm import tirx
from tvm.tirx.script import builder

from vlab.compiling.integer.writing import typed, vector, zeros
from vlab.targets import Target

_LARGEST_CODE = 128
"""Largest magnitude of an int8."""
_LARGEST_INT16 = 2**15 - 1
_LONGEST_CHAIN = 8


def dialect(target: Target) -> "Dialect":
    """The way of a target's CPU."""
    emit = target.emit or target.lower
    if emit.mtriple.startswith("aarch64"):
        return Neon()
    if emit.mtriple.startswith("thumbv7em"):
        return Dsp()
    if emit.mtriple.startswith("riscv64") and "+v" in emit.mattr:
        return Rvv()
    if emit.mtriple.startswith("x86_64"):
        return Avx2() if target.lanes >= 8 else Dialect()
    return Dialect()


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

    def rounding_shift(self, x: Any, right: Any, lanes: int) -> Any:
        """`x / 2**right`, halves rounded up, for sums that do not overflow."""
        dtype = typed("int32", lanes)
        half = tirx.shift_right(tirx.shift_left(tirx.const(1, dtype), right), tirx.const(1, dtype))
        return tirx.shift_right(x + half, right)


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
        return _longest_chain(weights, self.chunks[0], 8)

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
        return [(_reduced(total, self.lanes), 1) for total in totals]

    def high_multiply(self, x: Any, mantissa: Any, lanes: int, *, rounding: bool) -> Any:
        """With SQDMULH or SQRDMULH."""
        if lanes < self.lanes:
            return super().high_multiply(x, mantissa, lanes, rounding=rounding)
        return _by_fours(f"llvm.aarch64.neon.{'sqrdmulh' if rounding else 'sqdmulh'}.v4i32", x, mantissa, lanes)

    def rounding_shift(self, x: Any, right: Any, lanes: int) -> Any:
        """With SRSHL."""
        if lanes < self.lanes:
            return super().rounding_shift(x, right, lanes)
        return _by_fours("llvm.aarch64.neon.srshl.v4i32", x, zeros("int32", lanes) - right, lanes)


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
        return [(_reduced(total, self.lanes), 1) for total in totals]


@dataclass(frozen=True)
class Rvv(Dialect):
    """RISC-V vectors of 128 bits or more: VWMACC by a scalar, with int32 sums in groups of eight registers."""

    pixels: int = 3
    vector: int = 32
    widths: tuple[int, ...] = (64, 32, 16, 8)

    def taps(self, weights: npt.NDArray[np.int8]) -> int:
        """As far as int16 holds the products."""
        return longest_run(weights)


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


def _reduced(total: Any, lanes: int) -> Any:
    return tirx.call_llvm_pure_intrin("int32", f"llvm.vector.reduce.add.v{lanes}i32", total)


def _longest_chain(weights: npt.NDArray[np.int8], chunk: int, lanes: int) -> int:
    """Chunks whose products one int16 can sum up, whatever the data; 0 if not even one.

    A lane sums up the products of every `lanes`-th byte, and the data may be -128 throughout.
    """
    steps = weights.shape[1] // chunk
    magnitudes = np.abs(weights[:, : steps * chunk].astype(np.int64)).reshape(len(weights), steps, chunk // lanes, lanes)
    return _longest(magnitudes.sum(axis=2), _LONGEST_CHAIN)


def longest_run(weights: npt.NDArray[np.int8]) -> int:
    """Neighbouring taps [channel, tap] whose products one int16 can sum up, whatever the data; at least 1."""
    return max(1, _longest(np.abs(weights.astype(np.int64))[:, :, np.newaxis], weights.shape[1]))


def _longest(magnitudes: npt.NDArray[np.int64], most: int) -> int:
    """Longest groups of steps, of [row, step, lane], that no lane sums up to more than an int16 holds; 0 if not even one."""
    rows, steps, lanes = magnitudes.shape
    for length in range(min(most, steps), 0, -1):
        filled = np.pad(magnitudes, ((0, 0), (0, -steps % length), (0, 0)))
        sums = filled.reshape(rows, -1, length, lanes).sum(axis=2)
        if sums.max(initial=0) * _LARGEST_CODE <= _LARGEST_INT16:
            return length
    return 0
