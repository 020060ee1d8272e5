"""Convolution and matrix product over int8 codes, four bytes of data times four neighbouring output channels at a time.

A vector of 16 bytes holds the weights of four channels for four bytes of data, and the data's four bytes are spread over a
vector to meet them: sums of neighbouring channels come to lie side by side, with nothing to add up at the end. Where products
are summed up as int16 first, those of a step's 16 bytes go in an order that makes long sums possible whatever the data; it is
chosen for each block of channels, and the data is brought into it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
from tvm import tirx
from tvm.tirx.script import builder

from vlab.compiling.integer.dialects.neon import QUAD, Chains, Neon
from vlab.compiling.integer.kernel import Kernel
from vlab.compiling.integer.rescaling import Rescaling
from vlab.compiling.integer.window import Window, copy_windows, padded
from vlab.compiling.integer.writing import loop, span, split, vector, written
from vlab.compiling.workload import MACS

_BYTES = 16
"""Of a vector."""
_MOST_PIXELS = 6
"""More would not amortise the weights' load much further."""
_ALONE = 16
"""Vectors of sums where there is one pixel."""


_Chosen = list[tuple[Chains, list[npt.NDArray[np.int8]]]]
"""For chunks of each size what is summed up, and the order of the bytes in each chunk."""


@dataclass(frozen=True)
class _Block:
    """Channels that are computed in the same way, in tiles that follow each other."""

    first: int
    """Channel."""
    vectors: int
    """Of four channels, in a tile."""
    tiles: int
    weights: int
    """Offset of its packed weights."""
    spreads: int | None
    """Number of the first vectors that spread its data; None where bytes stay in their order."""
    chains: tuple[Chains, ...]
    """For chunks of each size in turn."""


class QuadKernel(Kernel):
    """Products of four bytes of data and the weights of four channels."""

    def __init__(
        self, window: Window, weights: npt.NDArray[np.int8], zero_point: int, rescaling: Rescaling, dialect: Neon
    ) -> None:
        """`weights` are [outputs, kernel height, kernel width, channels]; the zero point is that of the data."""
        self.window, self.zero_point, self.dialect = window.flattened(), zero_point, dialect
        self.rescaling = rescaling.padded(QUAD)
        rows, columns, run = window.runs
        self.copies = run % QUAD != 0 or (run < _BYTES and rows * columns > 1)
        """Whether windows are copied to runs of their own."""
        if self.copies:
            rows, columns, run = 1, 1, weights[0].size
        self.grid = rows, columns
        """Rows and columns of runs in a window."""
        self.length = -(-run // _BYTES) * _BYTES
        """Bytes of a copied window."""
        matrix = weights.reshape(window.outputs, rows * columns, run)
        self.rows = np.pad(matrix, ((0, -window.outputs % QUAD), (0, 0), (0, -run % QUAD)))
        """Weights as [outputs, runs, bytes]."""
        self.blocks, self.orders, packed = self._pack()
        self.packed = np.concatenate([self.orders, packed])

    def _chunks(self) -> list[tuple[int, int, int]]:
        """Start, size and count of the pieces of a run that are loaded at once; a copied one can be read to its end."""
        size, chunks, start = self.rows.shape[2], [], 0
        for chunk in (_BYTES, *((size % _BYTES,) if self.copies else (8, 4))):
            if chunk and (count := (size - start) // chunk):
                chunks.append((start, chunk, count))
                start += chunk * count
        return chunks

    def _pack(self) -> tuple[list[_Block], npt.NDArray[np.int8], npt.NDArray[np.int8]]:
        """The channels in blocks, the orders of bytes in the chunks of those that have their own, and the weights as read."""
        widest = _ALONE if self.window.output[1] == 1 else self.dialect.vectors
        tiles = [
            (start * QUAD + index * vectors * QUAD, vectors)
            for start, vectors, count in split(len(self.rows) // QUAD, widest)
            for index in range(count)
        ]
        chosen = [(first, vectors, self._chosen(self.rows[first : first + vectors * QUAD])) for first, vectors in tiles]
        blocks: list[_Block] = []
        orders: list[npt.NDArray[np.int8]] = []
        packed: list[npt.NDArray[np.int8]] = []
        for (vectors, chains, ordered, _), group in groupby(chosen, self._kind):
            members = list(group)
            spreads = len(orders) if ordered else None
            blocks.append(_Block(members[0][0], vectors, len(members), sum(one.size for one in packed), spreads, chains))
            for first, _, choice in members:
                for order, quads in self._packed_tile(self.rows[first : first + vectors * QUAD], choice):
                    packed.append(quads.ravel())
                    orders.extend([np.resize(order, _BYTES)] if ordered else [])
        return blocks, np.concatenate([*orders, np.zeros(0, np.int8)]), np.concatenate(packed)

    def _chosen(self, weights: npt.NDArray[np.int8]) -> _Chosen:
        """How the channels of a tile take the chunks of each size."""
        return [
            self.dialect.chains(
                [
                    weights[:, run, start + index * size : start + (index + 1) * size]
                    for run in range(weights.shape[1])
                    for index in range(count)
                ]
            )
            for start, size, count in self._chunks()
        ]

    def _kind(self, tile: tuple[int, int, _Chosen]) -> tuple[int, tuple[Chains, ...], bool, bool]:
        """What tiles have in common that the same code computes: size, chains, whether bytes are reordered, spare channels."""
        first, vectors, chosen = tile
        ordered = any((np.diff(order) != 1).any() for _, orders in chosen for order in orders)
        return vectors, tuple(chains for chains, _ in chosen), ordered, first + vectors * QUAD > self.window.outputs

    def _packed_tile(
        self, weights: npt.NDArray[np.int8], chosen: _Chosen
    ) -> Iterator[tuple[npt.NDArray[np.int8], npt.NDArray[np.int8]]]:
        """For each chunk in turn the order of its bytes, and vectors of four channels by four bytes."""
        orders = [iter(orders) for _, orders in chosen]
        for run in range(weights.shape[1]):
            for (start, size, count), order in zip(self._chunks(), orders, strict=True):
                for index in range(count):
                    places = next(order)
                    chunk = weights[:, run, start + index * size :][:, places]
                    yield places, self.dialect.arranged(chunk.reshape(-1, QUAD, size // QUAD, QUAD).swapaxes(1, 2))

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
            spreads = self._spreads(weights) if self.orders.size else None
            with loop(window.batch) as batch, loop(high) as row:
                read = image
                if self.copies:  # within the loop: threads that share it have one each
                    read = builder.alloc_buffer((wide * self.length,), "int8")
                    copy_windows(image, read, window, self.length, batch, row)
                for block in self.blocks:
                    with loop(block.tiles) as tile:
                        for start, pixels, times in split(wide, self._pixels(block)):
                            with loop(times) as index:
                                place = batch, row, start + index * pixels
                                totals = self._sums((read, weights, spreads), arrays, place, pixels, block, tile)
                                self._store(totals, arrays, output, place, block, tile)
        return kernel.get().with_attr(MACS, window.macs)

    def _pixels(self, block: _Block) -> int:
        """Of a tile: as many as the registers hold the sums of."""
        return min(_MOST_PIXELS, max(1, self.dialect.sums // block.vectors))

    def _spreads(self, weights: Any) -> Any:
        """Vectors that put a chunk's bytes into their order and spread them, made of the orders before the weights."""
        spreads = builder.alloc_buffer((self.orders.size * QUAD,), "int8")
        with loop(self.orders.size // _BYTES) as index:
            order = builder.bind(vector(weights, index * _BYTES, _BYTES))
            for step in range(QUAD):
                at = (index * QUAD + step) * _BYTES
                builder.buffer_store(spreads, self.dialect.spread(order, step), [span(at, _BYTES)])
        return spreads

    def _sums(
        self, given: tuple[Any, Any, Any], arrays: list[Any], place: tuple[Any, Any, Any], pixels: int, block: _Block, tile: Any
    ) -> list[list[Any]]:
        """For neighbouring pixels the sums of a tile's channels, from the bias on, as local buffers of four."""
        image, weights, spreads = given
        batch, row, column = place
        first = block.first + tile * (block.vectors * QUAD)
        totals = [[builder.alloc_buffer((QUAD,), "int32", scope="local") for _ in range(block.vectors)] for _ in range(pixels)]
        for index in range(block.vectors):
            bias = builder.bind(self.rescaling.first_sum(first + index * QUAD, arrays, self.dialect, QUAD))
            for pixel in totals:
                builder.buffer_store(pixel[index], bias, [span(0, QUAD)])
        rows, columns = self.grid
        with loop(rows) as inner_row, loop(columns) as inner_column:
            sources = [
                (column + pixel) * self.length
                if self.copies
                else self.window.at(batch, row, column + pixel, inner_row, inner_column)
                for pixel in range(pixels)
            ]
            run = tile * (rows * columns) + inner_row * columns + inner_column
            base = self.orders.size + block.weights + run * (self.rows.shape[2] * block.vectors * QUAD)
            number = 0
            for (start, size, count), chains in zip(self._chunks(), block.chains, strict=True):
                with loop(count) as index:
                    read = base + (start + index * size) * (block.vectors * QUAD)
                    data = [
                        builder.bind(_loaded(image, source + start + index * size, _BYTES if self.copies else size))
                        for source in sources
                    ]
                    places = None
                    if block.spreads is not None:
                        chunk = block.spreads + run * sum(count for _, _, count in self._chunks()) + number + index
                        at = [(chunk * QUAD + step) * _BYTES for step in range(size // QUAD)]
                        places = [builder.bind(vector(spreads, one, _BYTES)) for one in at]
                    self._chunk(data, places, (weights, read, size // QUAD), chains, totals)
                number += count
        return totals

    def _chunk(
        self,
        data: list[Any],
        places: list[Any] | None,
        weights: tuple[Any, Any, int],
        chains: Chains,
        totals: list[list[Any]],
    ) -> None:
        """Add what one chunk of the data gives; weights are the buffer, the place in it, and the steps of the chunk."""
        buffer, base, steps = weights
        spread: dict[int, list[Any]] = {}
        for chain in chains:
            needed = sorted({half // 2 for half in chain})
            for step in needed:
                if step not in spread:
                    place = None if places is None else places[step]
                    spread[step] = [builder.bind(self.dialect.spread(one, step, place)) for one in data]
            for index in range(len(totals[0])):
                factors = {
                    step: builder.bind(vector(buffer, base + (index * steps + step) * _BYTES, _BYTES)) for step in needed
                }
                for pixel, sums in enumerate(totals):
                    pairs = [(spread[half // 2][pixel], factors[half // 2], half % 2) for half in chain]
                    total = self.dialect.chained(vector(sums[index], 0, QUAD), pairs)
                    builder.buffer_store(sums[index], total, [span(0, QUAD)])

    def _store(
        self, totals: list[list[Any]], arrays: list[Any], output: Any, place: tuple[Any, Any, Any], block: _Block, tile: Any
    ) -> None:
        """The codes of all sums; channels that only fill the last vector are left out."""
        batch, row, column = place
        high, wide = self.window.output
        first = block.first + tile * (block.vectors * QUAD)
        spare = max(0, block.first + block.vectors * QUAD * block.tiles - self.window.outputs)
        for pixel, sums in enumerate(totals):
            at = (batch * high + row) * wide + column + pixel
            start = 0
            while start < len(sums):
                taken = 1 << min(2, (len(sums) - start).bit_length() - 1)
                lanes = taken * QUAD
                values = [vector(one, 0, QUAD) for one in sums[start : start + taken]]
                total = _joined(values)
                codes = self.rescaling.apply_biased(total, first + start * QUAD, lanes, arrays, self.dialect)
                start += taken
                if start < len(sums) or not spare:
                    builder.buffer_store(output, codes, [at, span(first + (start - taken) * QUAD, lanes)])
                    continue
                last = builder.alloc_buffer((lanes,), "int8", scope="local")
                builder.buffer_store(last, codes, [span(0, lanes)])
                for lane in range(lanes - spare):
                    builder.buffer_store(output, last[lane], [at, first + (start - taken) * QUAD + lane])


def _loaded(buffer: Any, offset: Any, size: int) -> Any:
    """A vector of 16 bytes, of which only `size` are read and the others repeat them."""
    if size == _BYTES:
        return vector(buffer, offset, _BYTES)
    word = builder.reinterpret(f"int{size * 8}", vector(buffer, offset, size))
    return builder.reinterpret("int8x16", builder.broadcast(word, _BYTES // size))


def _joined(values: list[Any]) -> Any:
    """Vectors of four side by side."""
    lanes = QUAD
    while len(values) > 1:
        lanes *= 2
        pairs = zip(values[::2], values[1::2], strict=True)
        values = [builder.bind(tirx.call_intrin(f"int32x{lanes}", "tirx.vectorcombine", *pair)) for pair in pairs]
    return values[0]
