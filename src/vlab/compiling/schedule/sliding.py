"""Windows that slide over each channel by itself: depthwise convolution, maximum and average pooling, over NHWC data.

Vectors run along the channels. A tile of neighbouring columns stays in registers; their windows overlap, and what they share is
loaded once. The weights of a small window stay in registers over a whole row.
"""

from collections.abc import Callable, Sequence
from typing import Any

from tvm import tirx

from vlab.compiling.schedule.convolution import guarded, in_columns, in_tiles
from vlab.compiling.schedule.fused import Fused
from vlab.compiling.schedule.nests import Expr, Stmt, bind, load, loop, sequence
from vlab.compiling.schedule.registers import ANNOTATION, Registers, as_int
from vlab.compiling.schedule.sums import Sums
from vlab.compiling.schedule.windows import Span, of_image

_LARGEST_UNROLLED = 9
"""Taps of a window whose rows are unrolled as well."""
_LOWEST = -3.4028234663852886e38
"""Of float32."""


def sliding(function: Any, registers: Registers) -> Any:
    """Schedule a kernel whose computation is one of `vlab.compiling.sliding`.

    Raises:
        UnfitError: what was fused to it is not elementwise.
    """
    return _Sliding(Fused.of(function, ANNOTATION), registers).kernel()


class _Sliding:
    def __init__(self, fused: Fused, registers: Registers) -> None:
        number = {key: as_int(value) for key, value in fused.attributes.items() if key not in (ANNOTATION, "operation")}
        self.fused, self.registers = fused, registers
        self.operation = str(fused.attributes["operation"])
        self.batch, _, out_width, self.channels = (as_int(extent) for extent in fused.output.shape)
        self.rows, self.wide = of_image(fused.data, fused.output, number)
        self.taps = self.rows.kernel * self.wide.kernel
        self.unrolled = self.taps <= _LARGEST_UNROLLED
        self.kept = self.operation == "product" and self.unrolled and self.taps <= registers.accumulators // 2
        """Whether the weights stay in registers."""
        most = max(1, registers.accumulators - (self.taps if self.kept else 1))
        self.columns = -(-out_width // -(-out_width // most))

    def kernel(self) -> Any:
        """All images, rows, channels and columns."""

        def line(image: Expr, row: Expr, channel: Expr, width: int) -> Stmt:
            weights, statements = self._weights(channel, width) if self.kept else ({}, [])
            columns = in_columns(
                self.wide,
                self.columns,
                lambda column, span: self._block(image, row, channel, width, column, span, weights),
            )
            return sequence([*statements, columns])

        return self.fused.around(
            loop(
                "image",
                self.batch,
                lambda image: loop(
                    "row",
                    self.rows.out,
                    lambda row: in_tiles(
                        self.channels,
                        min(self.registers.lanes, self.channels),
                        lambda channel, width: line(image, row, channel, width),
                    ),
                ),
            )
        )

    def _weights(self, channel: Expr, width: int) -> tuple[dict[tuple[int, int], list[Expr]], list[Stmt]]:
        """Names of the weights of each tap, and the statements that load them."""
        sums = Sums(0, width, self.registers.lanes)
        names: dict[tuple[int, int], list[Expr]] = {}
        statements = []
        for down in range(self.rows.kernel):
            for across in range(self.wide.kernel):
                bound = [bind("weight", value) for value in self._tap_weights(sums, channel, down, across)]
                names[down, across] = [name for name, _ in bound]
                statements += [statement for _, statement in bound]
        return names, statements

    def _tap_weights(self, sums: Sums, channel: Expr, down: Any, across: Any) -> list[Expr]:
        vectors = zip(sums.starts, sums.vectors, strict=True)
        return [load(self.fused.weights, [down, across, channel + start], lanes) for start, lanes in vectors]

    def _block(
        self,
        image: Expr,
        row: Expr,
        channel: Expr,
        width: int,
        column: Expr,
        span: Span,
        weights: dict[tuple[int, int], list[Expr]],
    ) -> Stmt:
        sums = Sums(span.length, width, self.registers.lanes)
        every = range(span.length)

        def tap(down: Any, across: Any, columns: Sequence[int]) -> Stmt:
            statements: list[Stmt] = []
            named = weights.get((down, across)) if self.kept else None
            if named is None and self.operation == "product":
                bound = [bind("weight", value) for value in self._tap_weights(sums, channel, down, across)]
                named, statements = [name for name, _ in bound], [statement for _, statement in bound]
            for one in columns:
                place = [image, self.rows.at(row, down), self.wide.at(column + one, across)]
                values = [
                    load(self.fused.data, [*place, channel + start], lanes)
                    for start, lanes in zip(sums.starts, sums.vectors, strict=True)
                ]
                statements += sums.update(one, self._combined(values, named))
            return sequence(statements)

        def line(down: Any) -> Stmt:
            if span.inner and not self.unrolled:
                return loop("across", self.wide.kernel, lambda across: tap(down, across, every))
            taps = []
            for across in range(self.wide.kernel):
                columns = [one for one in every if span.inner or self.wide.inside(span.start + one, across)]
                if columns:
                    taps.append(tap(down, across, columns))
            return sequence(taps)

        if self.unrolled:
            reduction = [guarded(self.rows, row, down, line(down)) for down in range(self.rows.kernel)]
        else:
            reduction = [loop("down", self.rows.kernel, lambda down: guarded(self.rows, row, down, line(down)))]

        def place(one: int, lane: Expr) -> list[Expr]:
            return [image, row, column + one, channel + lane]

        first = _LOWEST if self.operation == "maximum" else 0.0
        return sequence([*sums.begin(first), *reduction, *sums.results(self.fused, place)])

    def _combined(self, values: Sequence[Expr], weights: Sequence[Expr] | None) -> Callable[[int, Expr], Expr]:
        """From a vector of what a window gave so far to the same with one more tap."""
        if self.operation == "maximum":
            return lambda vector, old: tirx.max(old, values[vector])
        if weights is None:
            return lambda vector, old: old + values[vector]
        return lambda vector, old: old + values[vector] * weights[vector]
