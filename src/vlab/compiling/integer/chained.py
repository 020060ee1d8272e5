"""Matrix product of one row over int8 codes for RISC-V's vectors.

A vector holds neighbouring outputs; each byte of the data is multiplied with the weights of all of them. Nothing but the vector
of weights is loaded for a product, so it is to be long: products are summed up as int16 as far as the weights allow that for
any data, before they are added to int32 sums.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from tvm.tirx.script import builder

from vlab.compiling.integer.broadcast import blocks, packed
from vlab.compiling.integer.dialects.chains import longest_run
from vlab.compiling.integer.dialects.rvv import Rvv
from vlab.compiling.integer.kernel import Kernel
from vlab.compiling.integer.rescaling import Rescaling
from vlab.compiling.integer.window import Window
from vlab.compiling.integer.writing import loop, span, vector, written, zeros
from vlab.compiling.workload import MACS

_UNROLLED = 2
"""Products in one turn of the innermost loop; more would have LLVM load more weights ahead than there are registers."""
_SPAN = 32
"""Taps that are summed up in equal chains."""


class ChainedKernel(Kernel):
    """Products of a byte of data and a vector of weights, summed up as int16 first."""

    def __init__(self, window: Window, weights: npt.NDArray[np.int8], rescaling: Rescaling, dialect: Rvv) -> None:
        """`weights` are [outputs, 1, 1, channels]; the window has one output pixel."""
        self.window, self.rescaling, self.dialect = window, rescaling, dialect
        rows = weights.reshape(window.outputs, -1)
        self.taps = rows.shape[1]
        self.blocks = blocks(window.outputs, (2 * dialect.vector, *dialect.widths))
        self.packed = packed(rows, self.blocks)
        self.segments = _segments(rows)

    def build(self) -> Any:
        """The kernel as a PrimFunc of data, packed weights, the arrays of the rescaling, and output."""
        with written() as kernel:
            data = builder.arg("data", builder.buffer((self.taps,), "int8"))
            weights = builder.arg("weights", builder.buffer((self.packed.size,), "int8"))
            arrays = self.rescaling.arguments()
            output = builder.arg("output", builder.buffer((self.window.outputs,), "int8"))
            for first, lanes, count in self.blocks:
                with loop(count) as block:
                    channel = first + block * lanes
                    for offset, total in self._sums(data, weights, arrays, channel, lanes):
                        width = min(lanes, self.dialect.vector)
                        sums = [vector(total, 0, width)]
                        (codes,) = self.rescaling.apply_to_all(sums, channel + offset, width, arrays, self.dialect)
                        builder.buffer_store(output, codes, [span(channel + offset, width)])
        return kernel.get().with_attr(MACS, self.window.macs)

    def _sums(self, data: Any, weights: Any, arrays: list[Any], channel: Any, lanes: int) -> list[tuple[int, Any]]:
        """The sums of neighbouring outputs in vectors of int32, each a local buffer, and the first output of each."""
        width = min(lanes, self.dialect.vector)
        totals = [(offset, builder.alloc_buffer((width,), "int32", scope="local")) for offset in range(0, lanes, width)]
        for offset, total in totals:
            bias = self.rescaling.first_sum(channel + offset, arrays, self.dialect, width)
            builder.buffer_store(total, bias, [span(0, width)])
        for start, group, count in self.segments:
            with self.dialect.rolled(count) as index:
                base = channel * self.taps + (start + index * group) * lanes
                chain = self._chain(data, weights, (start + index * group, base), group, lanes)
                for offset, total in totals:
                    grown = vector(total, 0, width) + self.dialect.part(chain, offset, width, lanes)
                    builder.buffer_store(total, grown, [span(0, width)])
        return totals

    def _chain(self, data: Any, weights: Any, start: tuple[Any, Any], taps: int, lanes: int) -> Any:
        """The sums of so many products from a byte of the data and of the weights on."""
        step, base = start
        unrolled = next(size for size in (_UNROLLED, 1) if taps % size == 0)
        narrow = "int16" if lanes > 1 else "int32"
        sums = builder.alloc_buffer((lanes,), narrow, scope="local")
        builder.buffer_store(sums, zeros(narrow, lanes), [span(0, lanes)])
        with self.dialect.rolled(taps // unrolled) as turn:
            for inner in range(unrolled):
                tap = turn * unrolled + inner
                factors = self.dialect.reload(weights, base + tap * lanes, lanes)
                grown = self.dialect.multiply_add(vector(sums, 0, lanes), factors, data[step + tap], lanes, narrow)
                builder.buffer_store(sums, grown, [span(0, lanes)])
        return vector(sums, 0, lanes)


def _segments(rows: npt.NDArray[np.int8]) -> list[tuple[int, int, int]]:
    """First tap, taps in a chain, and how many such chains follow each other, of [output, tap]."""
    segments: list[tuple[int, int, int]] = []
    for start in range(0, rows.shape[1], _SPAN):
        part = rows[:, start : start + _SPAN]
        size = part.shape[1]
        group = max(divisor for divisor in range(1, longest_run(part) + 1) if size % divisor == 0)
        if segments and segments[-1][1] == group:
            first, _, count = segments.pop()
            segments.append((first, group, count + size // group))
        else:
            segments.append((start, group, size // group))
    return segments
