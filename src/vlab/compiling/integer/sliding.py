"""Depthwise convolution over int8 codes for RISC-V's vectors.

A vector holds neighbouring channels of a pixel; where a pixel has fewer, it holds neighbouring pixels too, and the weights
are repeated for each. All is int16 before it is multiplied: a sum of int16 products takes one instruction in int32.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from tvm import tirx
from tvm.tirx.script import builder

from vlab.compiling.integer.broadcast import blocks, packed
from vlab.compiling.integer.dialects.rvv import Rvv
from vlab.compiling.integer.kernel import Kernel
from vlab.compiling.integer.rescaling import Rescaling
from vlab.compiling.integer.window import Window
from vlab.compiling.integer.writing import loop, span, split, typed, vector, written
from vlab.compiling.workload import MACS

_SUMS = 2
"""Vectors of sums at a time; with more LLVM spills what they are multiplied from."""


class SlidingKernel(Kernel):
    """Products of a vector of data and a vector of weights."""

    def __init__(
        self, window: Window, weights: npt.NDArray[np.int8], zero_point: int, rescaling: Rescaling, dialect: Rvv
    ) -> None:
        """`weights` are [channels, kernel height, kernel width]; the zero point is that of the data."""
        self.window, self.zero_point, self.dialect = window, zero_point, dialect
        self.neighbours = _neighbours(window, dialect.vector)
        """Pixels in a vector."""
        self.phases = window.strides[1] if self.neighbours > 1 else 1
        """Of the image's columns, every so many follow each other, so that a vector of pixels is one piece."""
        rows = np.tile(weights.reshape(window.channels, -1), (self.neighbours, 1))
        self.blocks = blocks(len(rows), dialect.widths)
        self.packed = packed(rows, self.blocks)
        self.rescaling = rescaling.repeated(self.neighbours)

    def build(self) -> Any:
        """The kernel as a PrimFunc of data, packed weights, the arrays of the rescaling, and output."""
        window = self.window
        high, wide = window.output
        taps = window.kernel[0] * window.kernel[1]
        step = self.neighbours
        with written() as kernel:
            size = window.batch * window.height * window.width * window.channels
            data = builder.arg("data", builder.buffer((size,), "int8"))
            weights = builder.arg("weights", builder.buffer((self.packed.size,), "int8"))
            arrays = self.rescaling.arguments()
            output = builder.arg("output", builder.buffer((window.batch * high * wide * window.channels,), "int8"))
            image = self._widened(data)
            factors = builder.alloc_buffer((taps * self.blocks[0][1],), "int16")
            for first, lanes, count in self.blocks:
                with loop(count) as block:
                    channel = first + block * lanes
                    for tap in range(taps):
                        read = vector(weights, channel * taps + tap * lanes, lanes)
                        builder.buffer_store(factors, builder.cast(read, typed("int16", lanes)), [span(tap * lanes, lanes)])
                    with loop(window.batch) as batch, loop(high) as row:
                        for start, width, times in _columns(wide, step):
                            with loop(times) as index:
                                column = start + index * width
                                columns = range(0, width, step)
                                place = (batch, row, column)
                                totals = self._sums(image, factors, place, (channel, lanes), columns, arrays)
                                sums = [vector(total, 0, lanes) for total in totals]
                                codes = self.rescaling.apply_to_all(sums, channel, lanes, arrays, self.dialect)
                                for offset, one in zip(columns, codes, strict=True):
                                    at = ((batch * high + row) * wide + column + offset) * window.channels + channel
                                    builder.buffer_store(output, one, [span(at, lanes)])
        return kernel.get().with_attr(MACS, window.macs)

    def _sums(
        self,
        image: Any,
        factors: Any,
        place: tuple[Any, Any, Any],
        channels: tuple[Any, int],
        columns: range,
        arrays: list[Any],
    ) -> list[Any]:
        """For some vectors of pixels of one row the sums of neighbouring channels, each a local buffer."""
        batch, row, column = place
        channel, lanes = channels
        height, width = self.window.kernel
        totals = [builder.alloc_buffer((lanes,), "int32", scope="local") for _ in columns]
        bias = self.rescaling.first_sum(channel, arrays, self.dialect, lanes)
        for total in totals:
            builder.buffer_store(total, bias, [span(0, lanes)])
        stride, dilation = self.window.strides[1], self.window.dilation[1]
        with self.dialect.rolled(height) as inner_row:
            line = batch * self._lines + row * self.window.strides[0] + inner_row * self.window.dilation[0]
            for tap in range(width):
                with self.dialect.rolled(1, apart=self.neighbours > 1 or stride > 1):
                    factor = self.dialect.reload(factors, (inner_row * width + tap) * lanes, lanes)
                    for offset, total in zip(columns, totals, strict=True):
                        at = self._at(line, column, offset * stride + tap * dilation) + channel
                        read = self.dialect.reload(image, at, lanes)
                        grown = self.dialect.multiply_add_vectors(vector(total, 0, lanes), read, factor, lanes)
                        builder.buffer_store(total, grown, [span(0, lanes)])
        return totals

    @property
    def _lines(self) -> int:
        return self.window.padded[0]

    @property
    def _pitch(self) -> int:
        """Columns of one phase."""
        return -(-self.window.padded[1] // self.phases)

    def _at(self, line: Any, column: Any, position: int) -> Any:
        """Offset in the widened image of a position relative to the first that the output in a column takes."""
        if self.phases == 1:
            return (line * self._pitch + column * self.window.strides[1] + position) * self.window.channels
        phase, further = position % self.phases, position // self.phases
        return ((line * self.phases + phase) * self._pitch + column + further) * self.window.channels

    def _widened(self, data: Any) -> Any:
        """The data as int16 within its padding of zero points, every column with those of its phase."""
        window, phases, pitch = self.window, self.phases, self._pitch
        top, left, _, _ = window.padding
        wide = pitch * phases
        image = builder.alloc_buffer((window.batch * self._lines * wide * window.channels,), "int16")

        def fill(start: Any, size: int) -> None:
            _each(
                size,
                self.dialect.widths,
                lambda at, lanes: builder.buffer_store(
                    image, tirx.const(self.zero_point, typed("int16", lanes)), [span(start + at, lanes)]
                ),
            )

        def copy(target: Any, source: Any, size: int) -> None:
            _each(
                size,
                self.dialect.widths,
                lambda at, lanes: builder.buffer_store(
                    image, builder.cast(vector(data, source + at, lanes), typed("int16", lanes)), [span(target + at, lanes)]
                ),
            )

        line = wide * window.channels
        with loop(window.batch) as batch:
            first = batch * (self._lines * line)
            fill(first, top * line)
            with loop(window.height) as row:
                start = first + (row + top) * line
                source = (batch * window.height + row) * (window.width * window.channels)
                if phases == 1:
                    fill(start, left * window.channels)
                    copy(start + left * window.channels, source, window.width * window.channels)
                    fill(start + (left + window.width) * window.channels, (wide - left - window.width) * window.channels)
                else:
                    for phase in range(phases):
                        before = -(-(left - phase) // phases) if left > phase else 0
                        held = len(range(before * phases + phase - left, window.width, phases))
                        own = start + phase * pitch * window.channels
                        fill(own, before * window.channels)
                        with loop(held) as column:
                            read = source + (before * phases + phase - left + column * phases) * window.channels
                            copy(own + (before + column) * window.channels, read, window.channels)
                        fill(own + (before + held) * window.channels, (pitch - before - held) * window.channels)
            below = top + window.height
            fill(first + below * line, (self._lines - below) * line)
        return image


def _neighbours(window: Window, lanes: int) -> int:
    """Pixels in a vector: as many as fill it, if a row of outputs has so many."""
    most = max(1, lanes // window.channels) if lanes % window.channels == 0 else 1
    while most > window.output[1]:
        most //= 2
    return most


def _columns(wide: int, step: int) -> list[tuple[int, int, int]]:
    """Start, width and count of pieces of a row of outputs; the last may start before the one before it ends."""
    pieces = [piece for piece in split(wide // step * step, _SUMS * step) if piece[2]]
    return pieces if wide % step == 0 else [*pieces, (wide - step, step, 1)]


def _each(size: int, widths: tuple[int, ...], write: Any) -> None:
    """Cover neighbouring values with vectors."""
    for first, lanes, count in blocks(size, widths):
        with loop(count) as index:
            write(first + index * lanes, lanes)
