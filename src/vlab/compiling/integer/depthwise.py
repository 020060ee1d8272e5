"""Depthwise convolution over int8 codes: each channel with a window of its own, neighbouring channels in one vector.

Products are summed up as int16 as far as the weights allow that for any data, then as int32.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from tvm.tirx.script import builder

from vlab.compiling.integer.dialects.dialect import Dialect
from vlab.compiling.integer.kernel import Kernel
from vlab.compiling.integer.rescaling import Rescaling
from vlab.compiling.integer.window import Window, padded
from vlab.compiling.integer.writing import loop, span, split, typed, vector, written, zeros
from vlab.compiling.workload import MACS

_LEAST_LANES = 8
"""Values of a vector that is worth its while."""


class DepthwiseKernel(Kernel):
    """Sums of neighbouring channels side by side, of some pixels at a time."""

    def __init__(
        self, window: Window, weights: npt.NDArray[np.int8], zero_point: int, rescaling: Rescaling, dialect: Dialect
    ) -> None:
        """`weights` are [channels, kernel height, kernel width]; the zero point is that of the data."""
        self.window, self.zero_point, self.rescaling, self.dialect = window, zero_point, rescaling, dialect
        rows = weights.reshape(window.channels, -1)
        self.group = dialect.taps(rows)
        """Products that are summed up as int16."""
        self.packed = rows.T.ravel()

    def build(self) -> Any:
        """The kernel as a PrimFunc of data, packed weights, the arrays of the rescaling, and output."""
        window, rescaling, dialect = self.window, self.rescaling, self.dialect
        high, wide = window.output
        with written() as kernel:
            data = builder.arg("data", builder.buffer((window.batch * window.height * window.width * window.channels,), "int8"))
            weights = builder.arg("weights", builder.buffer((self.packed.size,), "int8"))
            arrays = rescaling.arguments()
            output = builder.arg("output", builder.buffer((window.batch * high * wide * window.channels,), "int8"))
            image = padded(data, window, self.zero_point)
            with loop(window.batch) as batch, loop(high) as row:
                for first, lanes, count in split_lanes(window.channels, dialect.vector):
                    with loop(count) as block:
                        channel = first + block * lanes
                        for start, pixels, times in split(wide, dialect.pixels):
                            with loop(times) as index:
                                column = start + index * pixels
                                bias = builder.bind(rescaling.first_sum(channel, arrays, dialect, lanes))
                                totals = self._sums((image, weights, bias), (batch, row, column), (channel, lanes), pixels)
                                for pixel, total in enumerate(totals):
                                    at = ((batch * high + row) * wide + column + pixel) * window.channels + channel
                                    codes = rescaling.apply_biased(total, channel, lanes, arrays, dialect)
                                    builder.buffer_store(output, codes, [span(at, lanes)])
        return kernel.get().with_attr(MACS, window.macs)

    def _sums(
        self, given: tuple[Any, Any, Any], place: tuple[Any, Any, Any], channels: tuple[Any, int], pixels: int
    ) -> list[Any]:
        """For neighbouring pixels the sums of neighbouring channels; given are the image, the weights and the bias."""
        image, weights, bias = given
        batch, row, column = place
        channel, lanes = channels
        window = self.window
        height, width = window.kernel
        narrow = "int16" if self.group > 1 else "int32"
        totals = [bias] * pixels
        for start in range(0, height * width, self.group):
            taps = range(start, min(start + self.group, height * width))
            factors = [
                builder.bind(builder.cast(vector(weights, tap * window.channels + channel, lanes), typed(narrow, lanes)))
                for tap in taps
            ]
            for pixel in range(pixels):
                partial = zeros(narrow, lanes)
                for tap, factor in zip(taps, factors, strict=True):
                    at = window.at(batch, row, column + pixel, tap // width, tap % width) + channel
                    partial = partial + builder.cast(vector(image, at, lanes), typed(narrow, lanes)) * factor
                wide = builder.cast(partial, typed("int32", lanes))
                totals[pixel] = builder.bind(totals[pixel] + wide)
        return totals


def split_lanes(size: int, lanes: int) -> list[tuple[int, int, int]]:
    """Start, width and count of whole vectors, of the halves that what is left fills, and of single values."""
    parts, start = [], 0
    while start < size:
        if count := (size - start) // lanes:
            parts.append((start, lanes, count))
            start += lanes * count
        lanes = lanes // 2 if lanes > _LEAST_LANES else 1
    return parts
