"""Convolution and matrix product over int8 codes for RISC-V's vectors, which multiply a vector by a scalar.

A vector holds neighbouring output channels; each byte of the data is multiplied with the weights of all of them.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from tvm.tirx.script import builder

from vlab.compiling.integer.dialects.rvv import Rvv
from vlab.compiling.integer.kernel import Kernel
from vlab.compiling.integer.rescaling import Rescaling
from vlab.compiling.integer.window import Window, padded
from vlab.compiling.integer.writing import loop, span, split, typed, vector, written
from vlab.compiling.workload import MACS

_UNROLLED = 32
"""Taps of one turn of the innermost loop."""


class BroadcastKernel(Kernel):
    """Products of a byte of data and a vector of weights."""

    def __init__(
        self, window: Window, weights: npt.NDArray[np.int8], zero_point: int, rescaling: Rescaling, dialect: Rvv
    ) -> None:
        """`weights` are [outputs, kernel height, kernel width, channels]; the zero point is that of the data."""
        self.window, self.zero_point, self.rescaling, self.dialect = window.flattened(), zero_point, rescaling, dialect
        rows = weights.reshape(window.outputs, -1)
        self.taps = rows.shape[1]
        self.blocks = blocks(window.outputs, dialect.widths)
        """First channel, channels side by side, and how many such blocks follow each other."""
        self.packed = packed(rows, self.blocks)

    def build(self) -> Any:
        """The kernel as a PrimFunc of data, packed weights, the arrays of the rescaling, and output."""
        window = self.window
        high, wide = window.output
        with written() as kernel:
            size = window.batch * window.height * window.width * window.channels
            data = builder.arg("data", builder.buffer((size,), "int8"))
            weights = builder.arg("weights", builder.buffer((self.packed.size,), "int8"))
            arrays = self.rescaling.arguments()
            output = builder.arg("output", builder.buffer((window.batch * high * wide * window.outputs,), "int8"))
            image = padded(data, window, self.zero_point)
            factors = builder.alloc_buffer((self.taps * self.blocks[0][1],), "int16")
            for first, lanes, count in self.blocks:
                with loop(count) as block:
                    channel = first + block * lanes
                    with loop(self.taps) as tap:
                        read = vector(weights, channel * self.taps + tap * lanes, lanes)
                        builder.buffer_store(factors, builder.cast(read, typed("int16", lanes)), [span(tap * lanes, lanes)])
                    with loop(window.batch) as batch, loop(high) as row:
                        for start, pixels, times in split(wide, self.dialect.pixels):
                            with loop(times) as index:
                                column = start + index * pixels
                                place = (batch, row, column)
                                bias = self.rescaling.first_sum(channel, arrays, self.dialect, lanes)
                                totals = self._sums(image, factors, place, lanes, pixels, bias)
                                sums = [vector(total, 0, lanes) for total in totals]
                                products = self.rescaling.products(sums, channel, lanes, arrays, self.dialect)
                                for product, total in zip(products, totals, strict=True):
                                    builder.buffer_store(total, product, [span(0, lanes)])
                                with self.dialect.rolled(1, apart=True):
                                    codes = self.rescaling.codes(sums, channel, lanes, arrays, self.dialect)
                                    for pixel, one in enumerate(codes):
                                        at = ((batch * high + row) * wide + column + pixel) * window.outputs + channel
                                        builder.buffer_store(output, one, [span(at, lanes)])
        return kernel.get().with_attr(MACS, window.macs)

    def _sums(self, image: Any, factors: Any, place: tuple[Any, Any, Any], lanes: int, pixels: int, bias: Any) -> list[Any]:
        """For neighbouring pixels the sums of neighbouring channels, each a local buffer."""
        batch, row, column = place
        totals = [builder.alloc_buffer((lanes,), "int32", scope="local") for _ in range(pixels)]
        for total in totals:
            builder.buffer_store(total, bias, [span(0, lanes)])
        rows, columns, run = self.window.runs
        with self.dialect.rolled(rows) as inner_row, self.dialect.rolled(columns) as inner_column:
            sources = [self.window.at(batch, row, column + pixel, inner_row, inner_column) for pixel in range(pixels)]
            base = (inner_row * columns + inner_column) * run
            unrolled = max(size for size in range(1, min(run, _UNROLLED) + 1) if run % size == 0)
            for start, taps, count in split(run, unrolled if unrolled > _UNROLLED // 4 else _UNROLLED):
                with self.dialect.rolled(count, apart=rows * columns == 1) as index:
                    for tap in range(taps):
                        step = start + index * taps + tap
                        factor = self.dialect.reload(factors, (base + step) * lanes, lanes)
                        for source, total in zip(sources, totals, strict=True):
                            code = builder.cast(image[source + step], "int16")
                            grown = self.dialect.multiply_add(vector(total, 0, lanes), factor, code, lanes)
                            builder.buffer_store(total, grown, [span(0, lanes)])
        return totals


def blocks(outputs: int, widths: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """Channels by the widest vectors that they fill, then by narrower ones, down to one by one."""
    found, first = [], 0
    for lanes in (*widths, 1):
        count = (outputs - first) // lanes
        if count:
            found.append((first, lanes, count))
            first += lanes * count
    return found


def packed(rows: npt.NDArray[np.int8], blocks: list[tuple[int, int, int]]) -> npt.NDArray[np.int8]:
    """Weights [channel, tap] in the order in which they are read: block by block, tap by tap, channel by channel."""
    pieces = [
        rows[first + index * lanes : first + (index + 1) * lanes].T.ravel()
        for first, lanes, count in blocks
        for index in range(count)
    ]
    return np.concatenate(pieces)
