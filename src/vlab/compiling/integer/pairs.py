"""Convolution and matrix product over int8 codes for CPUs that multiply pairs of int16 and add both products.

Taking int8 apart into such pairs costs more than multiplying them, so it is done once for many products: the windows of a block
of pixels become pairs, then for each few channels their weights do, and every product of the two takes nothing but words. Pairs
of neighbouring pixels and of neighbouring channels lie side by side, so that two are loaded at once.

A window of one pixel only, as a matrix product of one row has, meets each weight once; there weights are taken apart as they
are read.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tvm import tirx
from tvm.tirx.script import builder

from vlab.compiling.integer.dialects.dsp import Dsp
from vlab.compiling.integer.kernel import Kernel
from vlab.compiling.integer.rescaling import Rescaling
from vlab.compiling.integer.window import Window, copy_window, padded
from vlab.compiling.integer.writing import loop, split, written
from vlab.compiling.workload import MACS

_WORD = 4
"""Bytes that are taken apart at a time, into two pairs."""
_BLOCK_PIXELS = 16
"""Pixels that share the pairs of weights: with 16, taking weights apart is a sixteenth of an instruction for each product."""
_BLOCK_BYTES = 12288
"""Largest buffer of pairs, if it is not for one tile of pixels alone."""
_LEAST_PAIRS = 256
"""A smaller buffer would be on the stack, and realigning the stack for it costs a register."""
_FEW_WORDS = 4
"""Words of weights that LLVM may keep in registers over a loop."""
_UNROLLED = 16
"""Words of each window that one turn of the innermost loop takes."""


class PairsKernel(Kernel):
    """Products of pairs of int16."""

    def __init__(
        self, window: Window, weights: npt.NDArray[np.int8], zero_point: int, rescaling: Rescaling, dialect: Dsp
    ) -> None:
        """`weights` are [outputs, kernel height, kernel width, channels]; the zero point is that of the data."""
        self.window, self.zero_point, self.rescaling, self.dialect = window.flattened(), zero_point, rescaling, dialect
        self.count = window.pixels
        """Pixels of the output, which the kernel takes as one row."""
        self.pixels = min(dialect.pixels, self.count)
        self.channels = dialect.channels if self.pixels > 1 else dialect.channels * dialect.pixels // 2
        flat = weights.reshape(window.outputs, -1)
        rows = np.pad(flat, ((0, 0), (0, -flat.shape[1] % _WORD)))
        self.words: int = rows.shape[1] // _WORD
        """Of one window."""
        self.pairs: int = 2 * self.words
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
    def block(self) -> int:
        """Pixels whose windows are pairs at the same time: whole tiles."""
        most = min(_BLOCK_PIXELS, _BLOCK_BYTES // (_WORD * self.pairs), self.count)
        return max(1, most // self.pixels) * self.pixels

    def build(self) -> Any:
        """The kernel as a PrimFunc of data, packed weights, the arrays of the rescaling, and output."""
        window = self.window
        with written() as kernel:
            data = builder.arg("data", builder.buffer((window.batch * window.height * window.width * window.channels,), "int8"))
            weights = builder.arg("weights", builder.buffer((self.packed.size,), "int8"))
            arrays = self.rescaling.arguments()
            output = builder.arg("output", builder.buffer((self.count * window.outputs,), "int8"))
            image = padded(data, window, self.zero_point)
            windows = _buffer(self.block * self.pairs)
            factors = _buffer(self.channels * self.pairs) if self.pixels > 1 else None
            gathered = builder.alloc_buffer((self.pixels * self.words * _WORD,), "int8") if window.runs[2] % _WORD else None
            for start, size, count in split(self.count, self.block):
                with loop(count) as index:
                    block = _Block(start + index * size, split(size, self.pixels))
                    self._take_windows_apart(image, gathered, windows, block)
                    for first, channels, tiles in split(window.outputs, self.channels):
                        with loop(tiles) as tile:
                            channel = first + tile * channels
                            self._channels(windows, (weights, factors), arrays, output, block, (channel, channels))
        return kernel.get().with_attr(MACS, window.macs)

    def _take_windows_apart(self, image: Any, gathered: Any, windows: Any, block: "_Block") -> None:
        """The windows of a block as pairs."""
        rows, columns, run = self.window.runs
        for start, pixels, count in block.tiles:
            with loop(count) as index:
                at = start + index * pixels
                places = [self._place(block.first + at + pixel) for pixel in range(pixels)]
                if gathered is not None:
                    sources = [pixel * self.words * _WORD for pixel in range(pixels)]
                    for source, place in zip(sources, places, strict=True):
                        copy_window(image, gathered, self.window, source, place)
                    self._take_apart(gathered, sources, _WORD, windows, at * self.pairs, (0, self.words))
                    continue
                corners = [builder.bind(self.window.at(*place)) for place in places]
                with loop(rows) as inner_row, loop(columns) as inner_column:
                    inner, words = self.window.at(0, 0, 0, inner_row, inner_column), run // _WORD
                    sources = [corner + inner for corner in corners]
                    first = (inner_row * columns + inner_column) * words
                    self._take_apart(image, sources, _WORD, windows, at * self.pairs, (first, words))

    def _place(self, pixel: Any) -> tuple[Any, Any, Any]:
        """Batch, row and column of a pixel of the output."""
        high, wide = self.window.output
        if high == 1 and self.window.batch == 1:
            return 0, 0, pixel
        row = tirx.floordiv(pixel, wide)
        return tirx.floordiv(row, high), tirx.floormod(row, high), tirx.floormod(pixel, wide)

    def _take_apart(self, data: Any, sources: list[Any], apart: int, pairs: Any, start: Any, words: tuple[Any, int]) -> None:
        """Words, some bytes apart, from each source on, as pairs; of the sources' words these are so many from a first on."""
        for begin, unrolled, count in split(words[1], 2):
            with loop(count) as index:
                for word in range(unrolled):
                    at = begin + index * unrolled + word
                    taken = [self.dialect.pairs(data, source + at * apart) for source in sources]
                    for half in range(2):
                        pair = (words[0] + at) * 2 + half
                        for one, both in enumerate(taken):
                            builder.buffer_store(pairs, both[half], [self._pair(start, pair, one, len(sources))])

    def _pair(self, start: Any, pair: Any, one: int, many: int) -> Any:
        """Where a pair of one of many windows is: those of two windows lie side by side, [two windows, pair, window]."""
        before = one // 2 * 2
        return start + before * self.pairs + pair * min(2, many - before) + one - before

    def _channels(
        self,
        windows: Any,
        weights: tuple[Any, Any],
        arrays: list[Any],
        output: Any,
        block: "_Block",
        tile: tuple[Any, int],
    ) -> None:
        """Some neighbouring channels of all pixels of a block."""
        first, channels = tile
        packed, factors = weights
        base = first * self.words * _WORD
        if factors is not None:
            sources = [base + channel * _WORD for channel in range(channels)]
            self._take_apart(packed, sources, channels * _WORD, factors, 0, (0, self.words))
        first_sums = [
            builder.bind(self.rescaling.first_sum(first + channel, arrays, self.dialect)) for channel in range(channels)
        ]
        for start, pixels, count in block.tiles:
            with loop(count) as index:
                at = start + index * pixels
                totals = [[builder.alloc_buffer((1,), "int32", scope="local") for _ in first_sums] for _ in range(pixels)]
                for total, value in ((total, value) for sums in totals for total, value in zip(sums, first_sums, strict=True)):
                    builder.buffer_store(total, value, [0])
                if factors is not None:
                    begin = self.dialect.unknown_zero(index) if self.words > _FEW_WORDS else 0
                    self._add_products(totals, (windows, at * self.pairs), (factors, begin))
                else:
                    self._add_products_once(totals[0], windows, packed, base)
                self._store(totals, arrays, output, block.first + at, first)

    def _add_products(self, totals: list[list[Any]], windows: tuple[Any, Any], factors: tuple[Any, Any]) -> None:
        """To the sums [pixel][channel], of pairs of windows and weights, each a buffer and where it begins.

        First of all the even pairs, then of the odd ones: LLVM makes one load of two words only where no third one follows.
        """
        pixels, channels = len(totals), len(totals[0])
        with loop(2) as half:
            for begin, unrolled, count in split(self.words, _UNROLLED):
                with loop(count) as index:
                    for step in range(unrolled):
                        pair = (begin + index * unrolled + step) * 2 + half
                        data = [
                            builder.bind(windows[0][self._pair(windows[1], pair, pixel, pixels)]) for pixel in range(pixels)
                        ]
                        for channel in range(channels):
                            factor = builder.bind(factors[0][self._pair(factors[1], pair, channel, channels)])
                            for pixel in range(pixels):
                                self._add(totals[pixel][channel], data[pixel], factor)

    def _add_products_once(self, totals: list[Any], window: Any, weights: Any, base: Any) -> None:
        """To the sums of one pixel, of its pairs and of weights that are taken apart here."""
        for begin, unrolled, count in split(self.words, _UNROLLED // 2):
            with loop(count) as index:
                for step in range(unrolled):
                    word = begin + index * unrolled + step
                    data = [builder.bind(window[word * 2 + half]) for half in range(2)]
                    for channel, total in enumerate(totals):
                        factors = self.dialect.pairs(weights, base + (word * len(totals) + channel) * _WORD)
                        for one, factor in zip(data, factors, strict=True):
                            self._add(total, one, factor)

    def _add(self, total: Any, data: Any, factor: Any) -> None:
        builder.buffer_store(total, self.dialect.multiply_pairs(data, factor, total[0]), [0])

    def _store(self, totals: list[list[Any]], arrays: list[Any], output: Any, pixel: Any, first: Any) -> None:
        """The codes of sums, of neighbouring pixels."""
        for place, sums in enumerate(totals):
            for channel, total in enumerate(sums):
                codes = self.rescaling.apply_biased(total[0], first + channel, 1, arrays, self.dialect)
                builder.buffer_store(output, codes, [(pixel + place) * self.window.outputs + first + channel])


def _buffer(pairs: int) -> Any:
    return builder.alloc_buffer((max(_LEAST_PAIRS, pairs),), "int32")


@dataclass(frozen=True)
class _Block:
    """Neighbouring pixels."""

    first: Any
    tiles: list[tuple[int, int, int]]
    """First pixel, pixels and count of the tiles that follow each other."""
