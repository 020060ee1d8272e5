"""Convolution and matrix product over int8 codes for CPUs with long vectors that multiply by a scalar.

A vector holds neighbouring output channels; each byte of the data is multiplied with the weights of all of them. Where one
pixel stands alone, products are summed up as int16 as far as the weights allow that for any data, before they are added to
int32 sums. Otherwise the data is copied as int16: a byte would be spread over a vector before it is widened.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from tvm.tirx.script import builder

from vlab.compiling.integer.dialects import Dialect
from vlab.compiling.integer.dialects.chains import longest_run
from vlab.compiling.integer.rescaling import Rescaling
from vlab.compiling.integer.window import Window, padded
from vlab.compiling.integer.writing import loop, span, split, typed, vector, written, zeros
from vlab.compiling.workload import MACS

_MOST_PIXELS = 6
"""More would not amortise the weights' load much further."""


class BroadcastKernel:
    """One kernel: its packed weights, and its code."""

    def __init__(
        self, window: Window, weights: npt.NDArray[np.int8], zero_point: int, rescaling: Rescaling, dialect: Dialect
    ) -> None:
        """`weights` are [outputs, kernel height, kernel width, channels]; the zero point is that of the data."""
        self.window, self.zero_point, self.rescaling, self.dialect = window.flattened(), zero_point, rescaling, dialect
        alone = self.window.output[1] == 1
        self.blocks = _blocks(window.outputs, dialect.widths if alone else dialect.widths[1:])
        """First channel, channels side by side, and how many such blocks follow each other."""
        rows = weights.reshape(window.outputs, -1)
        self.group = min(longest_run(rows), self._run()) if alone else 1
        """Bytes of data whose products are summed up as int16."""
        pieces = [
            rows[first + index * lanes : first + (index + 1) * lanes].T.ravel()
            for first, lanes, count in self.blocks
            for index in range(count)
        ]
        self.packed = np.concatenate(pieces)

    def _run(self) -> int:
        """Bytes that follow each other in a window."""
        return self.window.channels * (self.window.kernel[1] if self.window.dilation[1] == 1 else 1)

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
            image = padded(data, window, self.zero_point, "int8" if self.group > 1 else "int16")
            with loop(window.batch) as batch, loop(high) as row:
                for first, lanes, count in self.blocks:
                    with loop(count) as block:
                        for start, pixels, times in split(wide, 1 if self.group > 1 else _pixels(self.dialect, lanes)):
                            with loop(times) as index:
                                channel, column = first + block * lanes, start + index * pixels
                                totals = self._sums(image, weights, (batch, row, column), (channel, lanes), pixels)
                                for pixel, total in enumerate(totals):
                                    at = ((batch * high + row) * wide + column + pixel) * window.outputs + channel
                                    codes = self.rescaling.apply(vector(total, 0, lanes), channel, lanes, arrays, self.dialect)
                                    builder.buffer_store(output, codes, [span(at, lanes)])
        return kernel.get().with_attr(MACS, window.macs)

    def _sums(self, image: Any, weights: Any, place: tuple[Any, Any, Any], channels: tuple[Any, int], pixels: int) -> list[Any]:
        """For neighbouring pixels the sums of neighbouring channels, each a local buffer."""
        batch, row, column = place
        channel, lanes = channels
        totals = [builder.alloc_buffer((lanes,), "int32", scope="local") for _ in range(pixels)]
        for total in totals:
            builder.buffer_store(total, zeros("int32", lanes), [span(0, lanes)])
        height, width = self.window.kernel
        run = self._run()
        columns = 1 if self.window.dilation[1] == 1 else width
        with loop(height) as inner_row, loop(columns) as inner_column:
            sources = [self.window.at(batch, row, column + pixel, inner_row, inner_column) for pixel in range(pixels)]
            base = channel * (height * columns * run) + (inner_row * columns + inner_column) * (run * lanes)
            for start, group, count in split(run, self.group):
                with loop(count) as index:
                    step = start + index * group
                    factors = [vector(weights, base + (step + one) * lanes, lanes) for one in range(group)]
                    narrow = "int16" if group > 1 else "int32"
                    held = [builder.bind(builder.cast(one, typed(narrow, lanes))) for one in factors]
                    for source, total in zip(sources, totals, strict=True):
                        partial = zeros(narrow, lanes)
                        for one in range(group):
                            code = builder.cast(image[source + step + one], narrow)
                            partial = partial + held[one] * (code if lanes == 1 else builder.broadcast(code, lanes))
                        wide = builder.cast(partial, typed("int32", lanes))
                        builder.buffer_store(total, vector(total, 0, lanes) + wide, [span(0, lanes)])
        return totals


def _pixels(dialect: Dialect, lanes: int) -> int:
    """Pixels whose sums fit the registers: as many as the dialect says at its widest, more of narrower blocks."""
    return min(_MOST_PIXELS, dialect.pixels * max(1, dialect.vector // lanes))


def _blocks(outputs: int, widths: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """Channels by the widest vectors that they fill, then by narrower ones, down to one by one."""
    blocks, first = [], 0
    for lanes in (*widths, 1):
        count = (outputs - first) // lanes
        if count:
            blocks.append((first, lanes, count))
            first += lanes * count
    return blocks
