"""Windows that slide over each channel by itself: depthwise convolution, maximum and average pooling, over NHWC data.

Vectors run along the channels. A tile of neighbouring columns stays in registers; their windows overlap, and what they share is
loaded once. The weights of a small window stay in registers over a row at least where there are enough.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from vlab.compiling.schedule.convolution import guarded, in_columns, in_tiles
from vlab.compiling.schedule.fused import Fused
from vlab.compiling.schedule.nests import Expr, Stmt, bind, load, loop, sequence
from vlab.compiling.schedule.registers import ANNOTATION, Registers
from vlab.compiling.schedule.sums import Sums
from vlab.compiling.schedule.windows import Span, Window, of_image

_LARGEST_UNROLLED = 9
"""Taps of a window whose rows are unrolled as well."""
_CHANNELS_OF_A_LINE = 16
"""float32 values in 64 bytes, the cache line of nearly every CPU that has a cache."""
_FEW_PLACES = 128
"""Of an image: a line of each stays in the nearest cache even where they lie in few of its sets."""
_NEAREST_CACHE_BYTES = 16 * 1024
"""That windows may fill: half of what small CPUs have."""
_FLOAT_BYTES = 4
_MOST_VECTORS = 4
_FEWEST_COLUMNS = 4
"""For which it pays to keep weights in registers."""
_LOWEST = -3.4028234663852886e38
"""Of float32."""


def sliding(function: Any, registers: Registers) -> Any:
    """Schedule a kernel whose computation is a depthwise convolution, transposed or not, or a pooling of ours.

    Raises:
        UnfitError: what was fused to it is not elementwise.
    """
    fused = Fused.of(function, ANNOTATION)
    number = {key: int(value) for key, value in fused.attributes.items() if key not in (ANNOTATION, "operation")}
    downs, acrosses = of_image(fused.data, fused.output, number)
    return fused.around(sequence([_Sliding(fused, registers, rows, wide).loops() for rows in downs for wide in acrosses]))


Weights = dict[tuple[int, int], list[Expr]]
"""Names of the weights' vectors by tap: row and column of the window."""


@dataclass(frozen=True)
class _Block:
    """One tile of columns by channels."""

    image: Expr
    row: Expr
    channel: Expr
    """First channel."""
    column: Expr
    """First column."""
    span: Span
    sums: Sums
    weights: Weights
    """Those that are in registers already."""


class _Sliding:
    """The places of the output that one pair of windows slides to."""

    def __init__(self, fused: Fused, registers: Registers, rows: Window, wide: Window) -> None:
        self.fused, self.lanes, self.rows, self.wide = fused, registers.lanes, rows, wide
        self.operation = str(fused.attributes["operation"])
        self.batch, _, _, self.channels = (int(extent) for extent in fused.output.shape)
        taps = self.rows.kernel * self.wide.kernel
        self.unrolled = taps <= _LARGEST_UNROLLED
        product = self.operation == "product"
        self.kept = product and self.unrolled and taps + self._held(_FEWEST_COLUMNS) <= registers.total
        """Whether the weights stay in registers."""
        weights = taps if self.kept else int(product)
        columns = range(max(1, registers.accumulators - 1), 1, -1)
        most = next((count for count in columns if not self.unrolled or self._held(count) + weights <= registers.total), 1)
        self.columns = -(-wide.out // -(-wide.out // most))
        self.vectors = 1 if self.operation == "product" else max(1, min(most // self.columns, _MOST_VECTORS))
        """Of channels side by side: without weights there are registers for several."""

    def _held(self, columns: int) -> int:
        """Registers for the sums of so many columns and one row of the values under their windows.

        LLVM loads what windows share once, and where it has no register left for that stores it elsewhere.
        """
        reach = (columns - 1) * self.wide.stride + (self.wide.kernel - 1) * self.wide.dilation + 1
        return columns + min(reach, columns * self.wide.kernel)

    def loops(self) -> Stmt:
        """All images, channels, rows and columns.

        As many channels go over the whole image together as the nearest cache holds the rows of a window for; one tile of them
        where the image is so small that it stays there, as the weights then stay in registers.
        """
        part = self.lanes * self.vectors
        if self.rows.size * self.wide.size > _FEW_PLACES:
            part = max(part, _CHANNELS_OF_A_LINE)
            part = max(part, _NEAREST_CACHE_BYTES // (self.rows.kernel * self.wide.size * _FLOAT_BYTES) // part * part)
        return loop(
            "image", self.batch, lambda image: in_tiles(self.channels, part, lambda *channels: self._rows(image, *channels))
        )

    def _rows(self, image: Expr, first: Expr, width: int) -> Stmt:
        """The whole output, in some neighbouring channels."""
        tile = self.lanes * self.vectors

        def row(row: Expr) -> Stmt:
            return in_tiles(width, tile, lambda channel, width: self._tile(image, row, first + channel, width))

        return loop("row", self.rows.out, row)

    def _tile(self, image: Expr, row: Expr, channel: Expr, width: int) -> Stmt:
        """A row of the output, in the channels of a tile."""
        weights: Weights = {}
        statements: list[Stmt] = []
        for down in range(self.rows.kernel if self.kept else 0):
            for across in range(self.wide.kernel):
                weights[down, across], loads = self._load_weights(Sums(0, width, self.lanes), channel, down, across)
                statements += loads

        def columns(column: Expr, span: Span) -> Stmt:
            return self._block(_Block(image, row, channel, column, span, Sums(span.length, width, self.lanes), weights))

        return sequence([*statements, in_columns(self.wide, self.columns, columns)])

    def _load_weights(self, sums: Sums, channel: Expr, down: Any, across: Any) -> tuple[list[Expr], list[Stmt]]:
        """Names for the weights of a tap, and the statements that load them."""
        vectors, tap = zip(sums.starts, sums.vectors, strict=True), [self.rows.weight(down), self.wide.weight(across)]
        bound = [bind("weight", load(self.fused.weights, [*tap, channel + start], lanes)) for start, lanes in vectors]
        return [name for name, _ in bound], [statement for _, statement in bound]

    def _block(self, block: _Block) -> Stmt:
        """One tile, from its first values to the stored result."""

        def line(down: Any) -> Stmt:
            return guarded(self.rows, block.row, down, self._line(block, down))

        def place(column: int, channel: Expr) -> list[Expr]:
            row, across = self.rows.to(block.row), self.wide.to(block.column + column)
            return [block.image, row, across, block.channel + channel]

        height = self.rows.kernel
        reduction = [line(down) for down in range(height)] if self.unrolled else [loop("down", height, line)]
        first = _LOWEST if self.operation == "maximum" else 0.0
        return sequence([*block.sums.begin(first), *reduction, *block.sums.results(self.fused, place)])

    def _line(self, block: _Block, down: Any) -> Stmt:
        """One row of the window."""
        every, span = range(block.span.length), block.span
        if span.inner and not self.unrolled:
            return loop("across", self.wide.kernel, lambda across: self._tap(block, down, across, every))
        taps = []
        for across in range(self.wide.kernel):
            columns = [column for column in every if span.inner or self.wide.inside(span.start + column, across)]
            if columns:
                taps.append(self._tap(block, down, across, columns))
        return sequence(taps)

    def _tap(self, block: _Block, down: Any, across: Any, columns: Sequence[int]) -> Stmt:
        """One place of the window."""
        statements: list[Stmt] = []
        weights = block.weights[down, across] if self.kept else None
        if weights is None and self.operation == "product":
            weights, statements = self._load_weights(block.sums, block.channel, down, across)
        for column in columns:
            place = [block.image, self.rows.at(block.row, down), self.wide.at(block.column + column, across)]
            vectors = zip(block.sums.starts, block.sums.vectors, strict=True)
            values = [load(self.fused.data, [*place, block.channel + start], lanes) for start, lanes in vectors]
            statements += block.sums.update(column, self._combined(values, weights))
        return sequence(statements)

    def _combined(self, values: Sequence[Expr], weights: Sequence[Expr] | None) -> Callable[[int, Expr], Expr]:
        """From a vector of what a window gave so far to the same with one more tap."""
        if self.operation == "maximum":
            return lambda vector, old: tirx.max(old, values[vector])
        if weights is None:
            return lambda vector, old: old + values[vector]
        return lambda vector, old: old + values[vector] * weights[vector]
