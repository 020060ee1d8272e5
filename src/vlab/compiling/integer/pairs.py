"""Convolution and matrix product over int8 codes for CPUs that multiply pairs of int16 and add both products.

Taking int8 apart into such pairs costs more than multiplying them, so it is done once for many products: the windows of a block
of pixels become pairs, then for each few channels their weights do, and every product of the two takes nothing but words. Pairs
of neighbouring pixels and of neighbouring channels lie side by side, so that two are loaded at once.

A window of one pixel only, as a matrix product of one row has, meets each weight once; there weights are taken apart as they
are read.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tvm.tirx.script import builder

from vlab.compiling.integer.dialects.dsp import Dsp
from vlab.compiling.integer.rescaling import Rescaling
from vlab.compiling.integer.window import Window, copy_window, padded
from vlab.compiling.integer.writing import loop, split, written
from vlab.compiling.workload import MACS

_WORD = 4
"""Bytes that are taken apart at a time, into two pairs."""
_BLOCK_PIXELS = 16
"""Pixels that share the pairs of weights: with 16, taking weights apart is a sixteenth of an instruction for each product."""
_BLOCK_BYTES = 8192
"""Largest buffer of pairs, if it is not for one tile of pixels alone."""
_LEAST_PAIRS = 256
"""A smaller buffer would be on the stack, and realigning the stack for it costs a register."""
_UNROLLED = 8
"""Words of each window that one turn of the innermost loop takes."""


class PairsKernel:
    """One kernel: its packed weights, and its code."""

    def __init__(
        self, window: Window, weights: npt.NDArray[np.int8], zero_point: int, rescaling: Rescaling, dialect: Dsp
    ) -> None:
        """`weights` are [outputs, kernel height, kernel width, channels]; the zero point is that of the data."""
        self.window, self.zero_point, self.rescaling, self.dialect = window.flattened(), zero_point, rescaling, dialect
        self.pixels = min(dialect.pixels, self.window.output[1])
        self.channels = dialect.channels if self.pixels > 1 else dialect.channels * dialect.pixels // 2
        flat = weights.reshape(window.outputs, -1)
        rows = np.pad(flat, ((0, 0), (0, -flat.shape[1] % _WORD)))
        self.words: int = rows.shape[1] // _WORD
        """Of one window."""
        self.packed = np.concatenate(
            [
                rows[first + at * size : first + (at + 1) * size].reshape(size, self.words, _WORD).swapaxes(0, 1).ravel()
                for first, size, count in split(window.outputs, self.channels)
                for at in range(count)
            ]
        )
        """Weights as [tile, word, channel of the tile, byte]."""

    @property
    def factors(self) -> int:
        """Where, in the buffer of pairs, those of weights begin: after those of windows."""
        return self.block * self.words * 2

    @property
    def block(self) -> int:
        """Pixels whose windows are pairs at the same time: whole tiles."""
        most = min(_BLOCK_PIXELS, _BLOCK_BYTES // (2 * _WORD * self.words), self.window.output[1])
        return max(1, most // self.pixels) * self.pixels

    def build(self) -> Any:
        """The kernel as a PrimFunc of data, packed weights, the arrays of the rescaling, and output."""
        window = self.window
        high, wide = window.output
        with written() as kernel:
            data = builder.arg("data", builder.buffer((window.batch * window.height * window.width * window.channels,), "int8"))
            weights = builder.arg("weights", builder.buffer((self.packed.size,), "int8"))
            arrays = self.rescaling.arguments()
            output = builder.arg("output", builder.buffer((window.batch * high * wide * window.outputs,), "int8"))
            image = padded(data, window, self.zero_point)
            pairs = builder.alloc_buffer((max(_LEAST_PAIRS, self.factors + self.channels * self.words * 2),), "int32")
            gathered = builder.alloc_buffer((self.pixels * self.words * _WORD,), "int8") if window.runs[2] % _WORD else None
            with loop(window.batch) as batch, loop(high) as row:
                for start, size, count in split(wide, self.block):
                    with loop(count) as index:
                        block = _Block((batch, row, start + index * size), split(size, self.pixels))
                        self._take_windows_apart(image, gathered, pairs, block)
                        for first, channels, tiles in split(window.outputs, self.channels):
                            with loop(tiles) as tile:
                                channel = first + tile * channels
                                self._tile(pairs, weights, arrays, output, block, (channel, channels))
        return kernel.get().with_attr(MACS, window.macs)

    def _take_windows_apart(self, image: Any, gathered: Any, pairs: Any, block: "_Block") -> None:
        """The windows of a block as pairs [tile of pixels, pair, pixel]."""
        rows, columns, run = self.window.runs
        for start, pixels, count in block.tiles:
            with loop(count) as index:
                at = start + index * pixels
                batch, row, column = block.place
                target = at * self.words * 2
                if gathered is not None:
                    length = self.words * _WORD
                    with loop(pixels) as pixel:
                        copy_window(image, gathered, self.window, pixel * length, (batch, row, column + at + pixel))
                    self._split_words(gathered, [pixel * length for pixel in range(pixels)], _WORD, pairs, target, self.words)
                    continue
                with loop(rows) as inner_row, loop(columns) as inner_column:
                    sources = [
                        self.window.at(batch, row, column + at + pixel, inner_row, inner_column) for pixel in range(pixels)
                    ]
                    words = run // _WORD
                    first = (inner_row * columns + inner_column) * words
                    self._split_words(image, sources, _WORD, pairs, target + first * 2 * pixels, words)

    def _split_words(self, data: Any, sources: list[Any], apart: int, pairs: Any, target: Any, words: int) -> None:
        """Words, some bytes apart, of each source as pairs [pair, source]."""
        for start, unrolled, count in split(words, 2):
            with loop(count) as index:
                for word in range(unrolled):
                    at = start + index * unrolled + word
                    taken = [self.dialect.pairs(data, source + at * apart) for source in sources]
                    for half in range(2):
                        for place, both in enumerate(taken):
                            builder.buffer_store(pairs, both[half], [target + (at * 2 + half) * len(sources) + place])

    def _tile(self, pairs: Any, weights: Any, arrays: list[Any], output: Any, block: "_Block", tile: tuple[Any, int]) -> None:
        """Some neighbouring channels of all pixels of a block."""
        first, channels = tile
        base = first * self.words * _WORD
        if self.pixels > 1:
            sources = [base + channel * _WORD for channel in range(channels)]
            self._split_words(weights, sources, channels * _WORD, pairs, self.factors, self.words)
        first_sums = [
            builder.bind(self.rescaling.first_sum(first + channel, arrays, self.dialect)) for channel in range(channels)
        ]
        for start, pixels, count in block.tiles:
            with loop(count) as index:
                at = start + index * pixels
                totals = self._sums(pairs, at * self.words * 2, pixels, (weights, base), first_sums)
                self._store(totals, arrays, output, block, at, first)

    def _sums(self, pairs: Any, window: Any, pixels: int, weights: tuple[Any, Any], first_sums: list[Any]) -> list[list[Any]]:
        """The sums of biases and products, [pixel][channel]."""
        channels = len(first_sums)
        totals = [[builder.alloc_buffer((1,), "int32", scope="local") for _ in range(channels)] for _ in range(pixels)]
        for sums in totals:
            for total, first in zip(sums, first_sums, strict=True):
                builder.buffer_store(total, first, [0])
        for start, unrolled, count in split(self.words, _UNROLLED):
            with loop(count) as index:
                for word in range(unrolled):
                    at = start + index * unrolled + word
                    factors = self._factors(pairs, weights, at, channels)
                    for half in range(2):
                        place = window + (at * 2 + half) * pixels
                        data = [builder.bind(pairs[place + pixel]) for pixel in range(pixels)]
                        for channel in range(channels):
                            factor = builder.bind(factors(half, channel))
                            for pixel in range(pixels):
                                total = totals[pixel][channel]
                                builder.buffer_store(total, self.dialect.multiply_pairs(data[pixel], factor, total[0]), [0])
        return totals

    def _factors(self, pairs: Any, weights: tuple[Any, Any], word: Any, channels: int) -> Callable[[int, int], Any]:
        """From half of a word and channel to a pair of weights."""
        if self.pixels > 1:
            return lambda half, channel: pairs[self.factors + (word * 2 + half) * channels + channel]
        buffer, base = weights
        taken = [self.dialect.pairs(buffer, base + (word * channels + channel) * _WORD) for channel in range(channels)]
        return lambda half, channel: taken[channel][half]

    def _store(self, totals: list[list[Any]], arrays: list[Any], output: Any, block: "_Block", at: Any, first: Any) -> None:
        """The codes of sums."""
        high, wide = self.window.output
        batch, row, column = block.place
        for pixel, sums in enumerate(totals):
            place = ((batch * high + row) * wide + column + at + pixel) * self.window.outputs + first
            for channel, total in enumerate(sums):
                codes = self.rescaling.apply_biased(total[0], first + channel, 1, arrays, self.dialect)
                builder.buffer_store(output, codes, [place + channel])


@dataclass(frozen=True)
class _Block:
    """Neighbouring pixels of one row."""

    place: tuple[Any, Any, Any]
    """Batch, row and first column."""
    tiles: list[tuple[int, int, int]]
    """First pixel, pixels and count of the tiles that follow each other."""
