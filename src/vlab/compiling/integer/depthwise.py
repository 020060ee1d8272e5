"""Depthwise convolution over int8 codes: each channel with a window of its own, neighbouring channels in one vector.

Products are summed up as int16 as far as the weights allow that for any data, then as int32.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from tvm.tirx.script import builder

from vlab.compiling.integer.dialects import Dialect
from vlab.compiling.integer.rescaling import Rescaling
from vlab.compiling.integer.window import Window, padded
from vlab.compiling.integer.writing import loop, span, split, typed, vector, written, zeros
from vlab.compiling.workload import MACS

_LEAST_LANES = 8
"""Values of a vector that is worth its while."""


def depthwise_kernel(
    window: Window, weights: npt.NDArray[np.int8], zero_point: int, rescaling: Rescaling, dialect: Dialect
) -> tuple[Any, npt.NDArray[np.int8]]:
    """The kernel, a PrimFunc of data, weights, the arrays of the rescaling, and output; and the weights as it reads them.

    Args:
        window: as many outputs as channels.
        weights: [channels, kernel height, kernel width].
        zero_point: of the data.
        rescaling: from sums to codes.
        dialect: of the target's CPU.
    """
    taps = weights.shape[1] * weights.shape[2]
    group = dialect.taps(weights.reshape(-1, taps))
    high, wide = window.output
    packed = np.ascontiguousarray(weights.reshape(-1, taps).T)
    with written() as kernel:
        data = builder.arg("data", builder.buffer((window.batch * window.height * window.width * window.channels,), "int8"))
        read = builder.arg("weights", builder.buffer((packed.size,), "int8"))
        arrays = rescaling.arguments()
        output = builder.arg("output", builder.buffer((window.batch * high * wide * window.channels,), "int8"))
        image = padded(data, window, zero_point)
        with loop(window.batch) as batch, loop(high) as row:
            for first, lanes, count in split_lanes(window.channels, dialect.vector):
                with loop(count) as block:
                    channel = first + block * lanes
                    for start, pixels, times in split(wide, dialect.pixels):
                        with loop(times) as index:
                            column = start + index * pixels
                            bias = builder.bind(rescaling.first_sum(channel, arrays, dialect, lanes))
                            totals = _sums((image, read, bias), window, (batch, row, column), (channel, lanes), pixels, group)
                            for pixel, total in enumerate(totals):
                                at = ((batch * high + row) * wide + column + pixel) * window.channels + channel
                                codes = rescaling.apply_biased(total, channel, lanes, arrays, dialect)
                                builder.buffer_store(output, codes, [span(at, lanes)])
    return kernel.get().with_attr(MACS, window.macs // window.channels), packed


def split_lanes(size: int, lanes: int) -> list[tuple[int, int, int]]:
    """Start, width and count of whole vectors, of the halves that what is left fills, and of single values."""
    parts, start = [], 0
    while start < size:
        if count := (size - start) // lanes:
            parts.append((start, lanes, count))
            start += lanes * count
        lanes = lanes // 2 if lanes > _LEAST_LANES else 1
    return parts


def _sums(
    given: tuple[Any, Any, Any], window: Window, place: tuple[Any, Any, Any], channels: tuple[Any, int], pixels: int, group: int
) -> list[Any]:
    """For neighbouring pixels the sums of neighbouring channels; given are the image, the weights and the bias."""
    image, weights, bias = given
    batch, row, column = place
    channel, lanes = channels
    height, width = window.kernel
    narrow = "int16" if group > 1 else "int32"
    totals = [bias] * pixels
    for start in range(0, height * width, group):
        taps = range(start, min(start + group, height * width))
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
