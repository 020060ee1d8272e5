"""The registers of one tile: a vector for every column and every run of neighbouring channels."""

from collections.abc import Callable, Sequence

from tvm import tirx

from vlab.compiling.schedule.fused import Fused
from vlab.compiling.schedule.nests import Expr, Stmt, load, loop, register, spread, store
from vlab.compiling.schedule.tiles import pieces


class Sums:
    """Sums (or maxima) of a tile of columns by channels, in registers."""

    def __init__(self, columns: int, channels: int, lanes: int) -> None:
        self.columns = columns
        self.vectors = pieces(channels, lanes)
        """Lanes of each vector."""
        self.starts = [sum(self.vectors[:index]) for index in range(len(self.vectors))]
        """First channel of each vector, counted from the tile's."""
        self._registers = [[register("sum", size) for size in self.vectors] for _ in range(columns)]

    def begin(self, value: float) -> list[Stmt]:
        """Take the registers and set them all."""
        each = [pair for row in self._registers for pair in zip(row, self.vectors, strict=True)]
        initial = tirx.FloatImm("float32", value)
        clear = [store(one, spread(initial, lanes), [0], lanes) for one, lanes in each]
        return [*(tirx.AllocBuffer(one) for one, _ in each), *clear]

    def update(self, column: int, change: Callable[[int, Expr], Expr]) -> list[Stmt]:
        """Replace a column's vectors by what a function makes of their numbers and values."""
        row = list(zip(self._registers[column], self.vectors, strict=True))
        return [store(one, change(index, load(one, [0], lanes)), [0], lanes) for index, (one, lanes) in enumerate(row)]

    def results(self, fused: Fused, place: Callable[[int, Expr], Sequence[Expr]]) -> list[Stmt]:
        """Apply the epilogue and store.

        Args:
            fused: the kernel.
            place: from a column and a channel of the tile to the indices in the output.
        """

        def result(column: int, vector: int) -> Stmt:
            one, start = self._registers[column][vector], self.starts[vector]

            def lane(number: Expr) -> Stmt:
                indices = place(column, number + start)
                return store(fused.output, fused.replaced(indices, load(one, [number])), indices)

            return loop("lane", self.vectors[vector], lane, vector=True)

        return [result(column, vector) for column in range(self.columns) for vector in range(len(self.vectors))]
