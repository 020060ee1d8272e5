"""Convolution and matrix product over int8 codes, written loop by loop in the dialect of the target's CPU.

Data is NHWC, so what a window takes from one row of the image is one run of bytes: the kernel is a dot product of such runs
with rows of weights. Where the runs do not divide into the CPU's chunks, the windows of one row of outputs are copied first,
each to its own padded run. Padding of the image is with the zero point, so that the bias can hold `-zero_point * sum(weights)`
for all pixels alike.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from tvm.tirx.script import builder

from vlab.compiling.integer.dialects.dialect import Dialect
from vlab.compiling.integer.kernel import Kernel
from vlab.compiling.integer.rescaling import Rescaling
from vlab.compiling.integer.window import Window, copy_windows, padded
from vlab.compiling.integer.writing import loop, span, split, vector, written, zeros
from vlab.compiling.workload import MACS


class DotKernel(Kernel):
    """Dot products of runs of bytes, in chunks."""

    def __init__(
        self, window: Window, weights: npt.NDArray[np.int8], zero_point: int, rescaling: Rescaling, dialect: Dialect
    ) -> None:
        """`weights` are [outputs, kernel height, kernel width, channels]; the zero point is that of the data."""
        self.window, self.zero_point, self.rescaling, self.dialect = window.flattened(), zero_point, rescaling, dialect
        run = window.runs[2]
        self.copies = run % dialect.chunk != 0
        """Whether windows are copied to runs of their own."""
        if self.copies:
            length = weights[0].size
            rows = np.pad(weights.reshape(window.outputs, 1, length), ((0, 0), (0, 0), (0, -length % dialect.chunk)))
        else:
            rows = weights.reshape(window.outputs, -1, run)
        self.rows = rows
        """Weights as [outputs, runs, bytes]."""
        self.packed = self._pack()

    def _pack(self) -> npt.NDArray[np.int8]:
        """The weights in the order in which they are read."""
        chunk, length = self.dialect.chunk, self.rows.shape[2]
        pieces = [
            self.rows[first + index * size : first + (index + 1) * size].reshape(size, -1, length // chunk, chunk)
            for first, size, count in split(self.window.outputs, self.dialect.channels)
            for index in range(count)
        ]
        return np.concatenate([piece.transpose(1, 2, 0, 3).ravel() for piece in pieces])

    def build(self) -> Any:
        """The kernel as a PrimFunc of data, packed weights, the arrays of the rescaling, and output."""
        window = self.window
        high, wide = window.output
        with written() as kernel:
            data = builder.arg("data", builder.buffer((window.batch * window.height * window.width * window.channels,), "int8"))
            weights = builder.arg("weights", builder.buffer((self.packed.size,), "int8"))
            arrays = self.rescaling.arguments()
            output = builder.arg("output", builder.buffer((window.batch * high * wide, window.outputs), "int8"))
            image = padded(data, window, self.zero_point)
            with loop(window.batch) as batch, loop(high) as row:
                copied = None
                if self.copies:  # within the loop: threads that share it have one each
                    copied = builder.alloc_buffer((wide * self.rows.shape[2],), "int8")
                    copy_windows(image, copied, self.window, self.rows.shape[2], batch, row)
                for first, size, count in split(self.window.outputs, self.dialect.channels):
                    with loop(count) as tile:
                        for start, pixels, times in split(wide, self.dialect.pixels):
                            with loop(times) as index:
                                column = start + index * pixels
                                self._tile(
                                    copied if copied is not None else image,
                                    weights,
                                    arrays,
                                    output,
                                    (batch, row, column),
                                    pixels,
                                    (first + tile * size, size),
                                )
        return kernel.get().with_attr(MACS, window.macs)

    def _tile(
        self,
        data: Any,
        weights: Any,
        arrays: list[Any],
        output: Any,
        place: tuple[Any, Any, Any],
        pixels: int,
        tile: tuple[Any, int],
    ) -> None:
        """Sums of some neighbouring pixels and channels, and their codes."""
        batch, row, column = place
        first, channels = tile
        dialect, lanes, length = self.dialect, self.dialect.lanes, self.rows.shape[2]
        high, wide = self.window.output
        totals = [[builder.alloc_buffer((lanes,), "int32", scope="local") for _ in range(channels)] for _ in range(pixels)]
        for total in (one for pixel in totals for one in pixel):
            builder.buffer_store(total, zeros("int32", lanes), [span(0, lanes)])
        rows, columns, _ = (1, 1, 0) if self.copies else self.window.runs
        with loop(rows) as inner_row, loop(columns) as inner_column:
            sources = [
                (column + pixel) * length
                if self.copies
                else self.window.at(batch, row, column + pixel, inner_row, inner_column)
                for pixel in range(pixels)
            ]
            run = inner_row * columns + inner_column
            base = first * self.rows[0].size + run * (channels * length)
            with loop(length // dialect.chunk) as index:
                start = index * dialect.chunk
                taken = [builder.bind(vector(data, source + start, dialect.chunk)) for source in sources]
                for channel in range(channels):
                    read = base + start * channels + channel * dialect.chunk
                    factor = builder.bind(vector(weights, read, dialect.chunk))
                    for pixel in range(pixels):
                        total = totals[pixel][channel]
                        dot = dialect.dot(taken[pixel], factor, vector(total, 0, lanes))
                        builder.buffer_store(total, dot, [span(0, lanes)])
        for pixel in range(pixels):
            at = (batch * high + row) * wide + column + pixel
            for channel, total in enumerate(totals[pixel]):
                full = dialect.finish(vector(total, 0, lanes))
                code = self.rescaling.apply(full, first + channel, 1, arrays, dialect)
                builder.buffer_store(output, code, [at, first + channel])
