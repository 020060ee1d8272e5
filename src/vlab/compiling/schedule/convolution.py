"""Direct convolution over NHWC data, transposed or not.

A tile of channels by columns stays in registers over the whole reduction. Each step loads one vector of weights for every
vector of channels, where they are packed in the order in which they lie in memory, and one value of the input for every
column; then bias, activation and residual are applied to the sums before they are stored. Where the window leaves the image no
zeros are read: rows are skipped, and the first and last columns have code of their own without the missing products.

A transposed convolution is several ordinary ones, whose outputs interlace (`windows.by_phase`): no zeros are put between its
inputs either.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from vlab.compiling.schedule.fused import Fused
from vlab.compiling.schedule.nests import Expr, Stmt, bind, integer, load, loop, sequence, spread
from vlab.compiling.schedule.registers import ANNOTATION, Registers
from vlab.compiling.schedule.sums import Sums
from vlab.compiling.schedule.windows import Span, Window, of_image


def convolution(function: Any, registers: Registers) -> Any:
    """Schedule a kernel whose computation is `direct` of `vlab.compiling.kernels.convolution`, or `transposed` beside it.

    Raises:
        UnfitError: what was fused to it is not elementwise.
    """
    fused = Fused.of(function, ANNOTATION)
    number = {key: int(value) for key, value in fused.attributes.items() if key != ANNOTATION}
    declarations: list[Stmt] = []
    if number["merged"] > 1:
        fused, declarations = fused.with_rows_merged(number["merged"])
    downs, acrosses = of_image(fused.data, fused.output, number)
    parts = [_Convolution(fused, registers.lanes, number, rows, wide).loops() for rows in downs for wide in acrosses]
    return fused.around(sequence([*declarations, *parts]))


def in_tiles(channels: int, tile: int, body: Callable[[Expr, int], Stmt]) -> Stmt:
    """All channels tile by tile, and the rest; the body takes the tile's first channel and its number of channels."""
    whole, rest = divmod(channels, tile)
    parts = [loop("tile", whole, lambda index: body(index * tile, tile))] if whole else []
    return sequence([*parts, *([body(integer(whole * tile), rest)] if rest else [])])


def in_columns(window: Window, tile: int, body: Callable[[Expr, Span], Stmt]) -> Stmt:
    """All columns tile by tile; the body takes the tile's first column and the span it is in."""

    def tiles(span: Span) -> Stmt:
        return loop("block", span.tiles, lambda index: body(index * span.length + span.start, span))

    return sequence([tiles(span) for span in window.spans(tile)])


def guarded(window: Window, row: Expr, tap: Any, body: Stmt) -> Stmt:
    """What one row of the window does, skipped where that row is outside the image."""
    if not window.padded:
        return body
    place = window.at(row, tap)
    return tirx.IfThenElse(tirx.all(place >= 0, place < window.size), body, None)


@dataclass(frozen=True)
class _Block:
    """One tile of columns by channels."""

    image: Expr
    group: Expr
    row: Expr
    channel: Expr
    """First channel of the tile within the group."""
    width: int
    """Channels of the tile."""
    column: Expr
    """First column."""
    span: Span


class _Convolution:
    """The places of the output that one pair of windows slides to."""

    def __init__(self, fused: Fused, lanes: int, number: Mapping[str, int], rows: Window, wide: Window) -> None:
        self.fused, self.lanes, self.rows, self.wide = fused, lanes, rows, wide
        self.tile, self.columns, self.groups = (number[key] for key in ("tile", "columns", "groups"))
        self.kernel = number["kernel_h"], number["kernel_w"]
        self.channels_first, self.packed = bool(number["channels_first"]), bool(number["packed"])
        self.batch, *_, channels = (int(extent) for extent in fused.output.shape)
        self.inputs, self.channels = int(fused.data.shape[3]) // self.groups, channels // self.groups

    def loops(self) -> Stmt:
        """All images, groups, channels, rows and columns."""
        return loop("image", self.batch, lambda image: loop("group", self.groups, lambda group: self._group(image, group)))

    def _group(self, image: Expr, group: Expr) -> Stmt:
        def line(row: Expr, channel: Expr, width: int) -> Stmt:
            return in_columns(
                self.wide,
                self.columns,
                lambda column, span: self._block(_Block(image, group, row, channel, width, column, span)),
            )

        rows, tile = self.rows.out, self.tile
        if self.channels_first:
            return in_tiles(
                self.channels, tile, lambda channel, width: loop("row", rows, lambda row: line(row, channel, width))
            )
        return loop("row", rows, lambda row: in_tiles(self.channels, tile, lambda channel, width: line(row, channel, width)))

    def _block(self, block: _Block) -> Stmt:
        """One tile, from zero sums to the stored result."""
        sums = Sums(block.span.length, block.width, self.lanes)
        reduction = loop(
            "down",
            self.rows.kernel if self.wide.kernel else 0,
            lambda down: guarded(self.rows, block.row, down, self._line(block, sums, down)),
        )

        def place(column: int, channel: Expr) -> list[Expr]:
            row, across = self.rows.to(block.row), self.wide.to(block.column + column)
            return [block.image, row, across, block.group * self.channels + block.channel + channel]

        return sequence([*sums.begin(0.0), reduction, *sums.results(self.fused, place)])

    def _line(self, block: _Block, sums: Sums, down: Expr) -> Stmt:
        """One row of the window."""
        every = range(block.span.length)
        if block.span.inner:
            return loop("across", self.wide.kernel, lambda across: self._tap(block, sums, down, across, every))
        taps = []
        for across in range(self.wide.kernel):
            columns = [column for column in every if self.wide.inside(block.span.start + column, across)]
            if columns:
                taps.append(self._tap(block, sums, down, integer(across), columns))
        return sequence(taps)

    def _tap(self, block: _Block, sums: Sums, down: Expr, across: Expr, columns: Sequence[int]) -> Stmt:
        """One place of the window: all input channels. LLVM unrolls the loop where it has registers for that."""
        return loop("channel", self.inputs, lambda channel: self._step(block, sums, down, across, channel, columns))

    def _step(self, block: _Block, sums: Sums, down: Expr, across: Expr, channel: Expr, columns: Sequence[int]) -> Stmt:
        """One input channel at one place of the window."""
        position = (self.rows.weight(down) * self.kernel[1] + self.wide.weight(across)) * self.inputs + channel
        first, steps = block.group * self.channels + block.channel, self.kernel[0] * self.kernel[1] * self.inputs
        at = first * steps + position * block.width if self.packed else position * self.groups * self.channels + first
        statements, weights = [], []
        for start, lanes in zip(sums.starts, sums.vectors, strict=True):
            weight, statement = bind("weight", load(self.fused.weights, [at + start], lanes))
            weights.append(weight)
            statements.append(statement)
        for column in columns:
            row, place = self.rows.at(block.row, down), self.wide.at(block.column + column, across)
            indices = [block.image, row, place, block.group * self.inputs + channel]
            value, statement = bind("value", load(self.fused.data, indices))
            statements.append(statement)
            statements += sums.update(column, _products(value, weights, sums.vectors))
        return sequence(statements)


def _products(value: Expr, weights: Sequence[Expr], lanes: Sequence[int]) -> Callable[[int, Expr], Expr]:
    """From a vector of sums to the same with one value times its weights added."""
    return lambda vector, old: old + spread(value, lanes[vector]) * weights[vector]
