"""Convolution to few channels over int8 codes for RISC-V's vectors, which multiply a vector by a scalar.

A vector holds neighbouring pixels of one channel; each weight is multiplied with all of them. For that the image is laid out as
planes, one of each channel, row after row with its padding: a vector may reach over the end of a row, and what it holds there
is left out in the end. Where the convolution takes every so many pixels, these lie in planes of their own.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from tvm import tirx
from tvm.tirx.script import builder

from vlab.compiling.integer.broadcast import blocks
from vlab.compiling.integer.dialects.rvv import Rvv
from vlab.compiling.integer.kernel import Kernel
from vlab.compiling.integer.rescaling import Rescaling
from vlab.compiling.integer.window import Window
from vlab.compiling.integer.writing import loop, span, split, typed, vector, written, zeros
from vlab.compiling.workload import MACS

_UNROLLED = 20
"""Taps in the innermost loop, at most, if a window has no more in one channel."""
_WORTH = 0.9
"""Share of the vectors that is worth it."""


class PlanarKernel(Kernel):
    """Products of a weight and a vector of pixels."""

    def __init__(
        self, window: Window, weights: npt.NDArray[np.int8], zero_point: int, rescaling: Rescaling, dialect: Rvv
    ) -> None:
        """`weights` are [outputs, kernel height, kernel width, channels]; the zero point is that of the data."""
        self.window, self.zero_point, self.rescaling, self.dialect = window, zero_point, rescaling, dialect
        self.planes = window.planes
        self.packed = np.ascontiguousarray(weights.transpose(0, 3, 1, 2)).ravel()
        self.rows, self.pitch = (-(-size // stride) for size, stride in zip(window.padded, window.strides, strict=True))
        """Rows and columns of a plane."""
        self.plane = self.rows * self.pitch
        self.aligned, self.vectors = _vectors(window, dialect.vector)

    def build(self) -> Any:
        """The kernel as a PrimFunc of data, packed weights, the arrays of the rescaling, and output."""
        window, lanes = self.window, self.dialect.vector
        high, wide = window.output
        down, across = window.strides
        planes = down * across * window.channels
        with written() as kernel:
            size = window.batch * window.height * window.width * window.channels
            data = builder.arg("data", builder.buffer((size,), "int8"))
            weights = builder.arg("weights", builder.buffer((self.packed.size,), "int8"))
            arrays = self.rescaling.arguments()
            output = builder.arg("output", builder.buffer((window.batch * high * wide * window.outputs,), "int8"))
            beyond = self._reach() + self._place(self.vectors - 1) + lanes - self.plane
            image = builder.alloc_buffer((planes * self.plane + max(0, beyond),), "int16")
            codes = builder.alloc_buffer((window.outputs * self.vectors * lanes,), "int8")
            with loop(window.batch) as batch:
                self._copy_in(data, image, batch, planes * self.plane + max(0, beyond))
                for first, channels, count in split(window.outputs, self.dialect.pixels):
                    with loop(count) as index, loop(self.vectors) as place:
                        channel = first + index * channels
                        totals = self._sums(image, weights, self._place(place), (channel, channels))
                        for offset, total in enumerate(totals):
                            bias = self.rescaling.first_sum(channel + offset, arrays, self.dialect)
                            sums = [builder.bind(vector(total, 0, lanes) + builder.broadcast(bias, lanes))]
                            (one,) = self.rescaling.apply_to_all(
                                sums, channel + offset, lanes, arrays, self.dialect, shared=True
                            )
                            at = ((channel + offset) * self.vectors + place) * lanes
                            builder.buffer_store(codes, one, [span(at, lanes)])
                self._copy_out(codes, output, batch)
        return kernel.get().with_attr(MACS, window.macs)

    def _place(self, index: Any) -> Any:
        """Offset in a plane of the first output in a vector."""
        if not self.aligned:
            return index * self.dialect.vector
        return index // self.aligned * self.pitch + index % self.aligned * self.dialect.vector

    def _reach(self) -> int:
        """Farthest offset of a tap in its plane."""
        return max(self._tap(row, column) % self.plane for row, column in np.ndindex(*self.window.kernel))

    def _tap(self, row: int, column: int) -> int:
        """Offset in the planes of a channel of what a tap takes for the first output."""
        (down, across), (high, wide) = self.window.strides, self.window.dilation
        place, inner = divmod(row * high, down), divmod(column * wide, across)
        return (place[1] * across + inner[1]) * self.plane + place[0] * self.pitch + inner[0]

    def _sums(self, image: Any, weights: Any, place: Any, outputs: tuple[Any, int]) -> list[Any]:
        """For neighbouring pixels the sums of some channels, each a local buffer."""
        window, lanes = self.window, self.dialect.vector
        channel, channels = outputs
        totals = [builder.alloc_buffer((lanes,), "int32", scope="local") for _ in range(channels)]
        for total in totals:
            builder.buffer_store(total, zeros("int32", lanes), [span(0, lanes)])
        height, width = window.kernel
        taps = height * width
        planes = window.strides[0] * window.strides[1] * self.plane
        places = [self._tap(*divmod(tap, width)) for tap in range(taps)]
        turn = max(
            size
            for size in range(1, window.channels + 1)
            if window.channels % size == 0 and size * taps <= max(taps, _UNROLLED)
        )
        with self.dialect.rolled(window.channels // turn) as index:
            for inner in (index * turn + one for one in range(turn)):
                for tap in range(taps):
                    pixels = self.dialect.reload(image, inner * planes + place + places[tap], lanes)
                    for offset, total in enumerate(totals):
                        weight = weights[((channel + offset) * window.channels + inner) * taps + tap]
                        grown = self.dialect.multiply_add(vector(total, 0, lanes), pixels, builder.cast(weight, "int16"), lanes)
                        builder.buffer_store(total, grown, [span(0, lanes)])
        return totals

    def _copy_in(self, data: Any, image: Any, batch: Any, size: int) -> None:
        """The data to planes within its padding of zero points."""
        window, widths = self.window, self.dialect.widths
        for first, lanes, count in blocks(size, widths):
            with loop(count) as index:
                value = tirx.const(self.zero_point, typed("int16", lanes))
                builder.buffer_store(image, value, [span(first + index * lanes, lanes)])
        (down, across), (top, left, _, _) = window.strides, window.padding
        pixel, line, channel_step = (
            (1, window.width, window.height * window.width)
            if self.planes
            else (window.channels, window.width * window.channels, 1)
        )
        start = batch * (window.height * window.width * window.channels)
        for row_phase in range(down):
            above, rows = _of_phase(row_phase, top, window.height, down)
            for column_phase in range(across):
                before, columns = _of_phase(column_phase, left, window.width, across)
                own = (row_phase * across + column_phase) * self.plane
                if not rows or not columns:
                    continue
                with loop(window.channels) as channel, loop(rows) as row:
                    first_row, first_column = above * down + row_phase - top, before * across + column_phase - left
                    source = start + channel * channel_step + (first_row + row * down) * line + first_column * pixel
                    target = channel * (down * across * self.plane) + own + (above + row) * self.pitch + before
                    for first, lanes, count in blocks(columns, widths):
                        with loop(count) as index:
                            at = first + index * lanes
                            taken = self.dialect.load_apart(data, source + at * (across * pixel), across * pixel, lanes)
                            builder.buffer_store(image, builder.cast(taken, typed("int16", lanes)), [span(target + at, lanes)])

    def _copy_out(self, codes: Any, output: Any, batch: Any) -> None:
        """Planes of codes, without what is between their rows, to pixels."""
        window = self.window
        high, wide = window.output
        with loop(window.outputs) as channel, loop(high) as row:
            line = self.aligned * self.dialect.vector or self.pitch
            source = channel * (self.vectors * self.dialect.vector) + row * line
            target = ((batch * high + row) * wide) * window.outputs + channel
            for first, lanes, count in blocks(wide, self.dialect.widths):
                with loop(count) as index:
                    at = first + index * lanes
                    taken = builder.bind(vector(codes, source + at, lanes))
                    self.dialect.store_apart(output, target + at * window.outputs, window.outputs, taken, lanes)


def is_shorter(window: Window, dialect: Rvv) -> bool:
    """Whether fewer vectors are multiplied than if each held channels of a pixel; by enough to lay out the planes."""
    pixels = window.batch * window.output[0] * window.output[1]
    across_channels = pixels * sum(count for _, _, count in blocks(window.outputs, dialect.widths))
    return window.batch * window.outputs * _vectors(window, dialect.vector)[1] < across_channels * _WORTH


def _vectors(window: Window, lanes: int) -> tuple[int, int]:
    """Vectors of pixels in a row, or 0 where fewer do if they reach over the ends of rows; and how many there are in all."""
    high, wide = window.output
    pitch = -(-window.padded[1] // window.strides[1])
    aligned, flat = -(-wide // lanes), -(-((high - 1) * pitch + wide) // lanes)
    return (aligned, high * aligned) if high * aligned <= flat else (0, flat)


def _of_phase(phase: int, before: int, size: int, stride: int) -> tuple[int, int]:
    """Where in a plane of one phase the image begins, after so much padding, and how much of it there is."""
    first = -(-max(0, before - phase) // stride)
    return first, len(range(first * stride + phase - before, size, stride))
