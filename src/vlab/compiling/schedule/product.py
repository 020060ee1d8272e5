"""Matrix products as tiles of sums that stay in registers.

The inner kernel of Goto and van de Geijn 2008, "Anatomy of high-performance matrix multiplication"; the panels it reads are
laid out by `vlab.compiling.kernels.products`.
"""

from dataclasses import dataclass
from typing import Any

import tvm
from tvm.ir import Call
from tvm.s_tir import Schedule
from tvm_ffi import structural_walk

from vlab.compiling.schedule.registers import Registers, shape

RULE = "product"
AXES = "product_axes"
"""Annotation with one letter for each axis of the result: m for rows, n for columns, b for a batch, r for a batch whose right
matrix is the same for all."""


_FUNCTIONS = {f"tirx.{name}" for name in ("exp", "erf", "tanh", "sigmoid", "log", "pow")}

PANELS = "panels"
"""Name of the block that copies a variable right matrix."""


@dataclass(frozen=True)
class Tile:
    """A block of the result whose sums are kept in registers."""

    rows: int
    vectors: int
    """Vectors side by side in one row."""
    width: int
    """float32 values in a vector."""

    @property
    def columns(self) -> int:
        """Columns of the result that the tile covers."""
        return self.vectors * self.width


def pick_tile(rows: int, columns: int, registers: Registers, *, whole: bool = False) -> Tile:
    """The tile with the fewest instructions for the whole product, edges included.

    A step of the reduction loads each of the tile's vectors and row values once and multiplies all their pairs; tiles at the
    edges cost as much as full ones.

    Args:
        rows: of the result.
        columns: of the result.
        registers: the CPU's.
        whole: allow only tiles that divide the columns, where there are such.
    """
    widths = [registers.lanes >> shift for shift in range(registers.lanes.bit_length()) if registers.lanes >> shift > 1] or [1]
    if whole:
        widths.append(1)

    def cost(tile: Tile) -> tuple[bool, int, int]:
        tiles = -(-rows // tile.rows) * -(-columns // tile.columns)
        partial = whole and columns % tile.columns != 0
        return partial, tiles * (tile.rows * tile.vectors + tile.rows + tile.vectors), -tile.rows

    candidates = (
        Tile(height, vectors, width)
        for width in widths
        for vectors in range(1, min(registers.accumulators, -(-columns // width)) + 1)
        for height in range(1, min(rows, registers.accumulators // vectors) + 1)
        if registers.hold(vectors, height)
    )
    return min(candidates, key=cost)


def schedule_product(function: Any, registers: Registers) -> Any:
    """The rule of this module on one kernel."""
    return _Product(function, registers).apply()


class _Product:
    def __init__(self, function: Any, registers: Registers) -> None:
        self.schedule = Schedule(tvm.IRModule({"main": function.with_attr("global_symbol", "main")}))
        self.root = self.schedule.get_sblock("root", "main")
        self.registers = registers

    def apply(self) -> Any:
        """Tiles of columns outermost, so that a panel of the right matrix is read from memory once."""
        schedule = self.schedule
        blocks = self._blocks()
        place = next(index for index, block in enumerate(blocks) if AXES in schedule.get(block).annotations)
        sums, packing = blocks[place], [block for block in blocks[:place] if schedule.get(block).name_hint == PANELS]
        for block in blocks[:place]:
            if schedule.get(block).name_hint != PANELS:
                schedule.compute_inline(block)
        axes = str(schedule.get(sums).annotations[AXES])
        height, columns = self._shape(sums)[-2:]
        staged = self._stages(sums, axes)
        tail, rest = self._fold_epilogue(sums, keep=staged)

        loops: dict[str, list[Any]] = {axis: [] for axis in "brmn"}
        for loop, axis in zip(schedule.get_loops(tail), axes, strict=True):
            loops[axis].append(loop)
        row_outer, row_inner = schedule.split(loops["m"][0], [None, height])
        column_outer, *column_inner = self._split_columns(loops["n"][0], columns)
        schedule.reorder(*loops["b"], column_outer, *loops["r"], row_outer, row_inner, *column_inner)
        if staged:
            self._stage(self._after(sums)[0], row_outer, axes, columns)
            self._unroll(column_inner[-1])
        else:
            self._unroll(row_inner, *column_inner)
        schedule.compute_at(sums, row_outer, preserve_unit_loops=True)
        schedule.set_scope(sums, 0, "local")
        for block in packing:
            self._pack(block, column_outer)

        lane_rows, lane_columns, reduction = schedule.get_loops(sums)[-3:]
        vector, lane = schedule.split(lane_columns, [None, self._width(columns)])
        schedule.reorder(reduction, lane_rows, vector, lane)
        self._unroll(lane_rows, vector, lane)
        schedule.decompose_reduction(sums, reduction)
        for block in rest:
            self._vectorise(block)
        return schedule.mod["main"]

    def _blocks(self) -> list[Any]:
        return list(self.schedule.get_child_blocks(self.root))

    def _shape(self, block: Any) -> list[int]:
        return shape(self.schedule.get(block).writes[0].source)

    def _width(self, columns: int) -> int:
        """The widest vector that fills the columns of a tile."""
        lanes = self.registers.lanes
        return next(lanes >> shift for shift in range(lanes.bit_length()) if columns % (lanes >> shift) == 0)

    def _fold_epilogue(self, sums: Any, *, keep: bool) -> tuple[Any, list[Any]]:
        """Inline what follows the sums into the last block of the result's shape; the sums' own result stays if it is kept.

        Returns:
            That block, and those after it, which widen the result.
        """
        schedule = self.schedule
        result, *following = self._after(sums)
        for block in [result, *following][keep : self._same(sums)]:
            schedule.compute_inline(block)
        tail, *rest = self._after(sums)[keep:]
        return tail, rest

    def _same(self, sums: Any) -> int:
        """Number of blocks after the sums up to the last one of the result's shape, that one left out."""
        shapes = [self._shape(block) for block in self._after(sums)]
        return max(place for place, other in enumerate(shapes) if other == shapes[0])

    def _stages(self, sums: Any, axes: str) -> bool:
        """Whether a function of many instructions follows the sums; not where tiles reach beyond the result."""
        following = self._after(sums)[: self._same(sums) + 1]
        return self._whole_tiles(sums, axes) and any(self._calls(block) for block in following)

    def _whole_tiles(self, sums: Any, axes: str) -> bool:
        """Whether no tile reaches beyond the result."""
        panels, blocks, height, columns = self._shape(sums)[-4:]
        result = self._shape(self._after(sums)[0])
        return result[axes.index("m")] == blocks * height and result[axes.index("n")] == panels * columns

    def _calls(self, block: Any) -> bool:
        """Whether a block computes a function of many instructions."""
        names: list[str] = []
        structural_walk(self.schedule.get(block).body, (Call, lambda call: names.append(str(getattr(call.op, "name", "")))))
        return not _FUNCTIONS.isdisjoint(names)

    def _stage(self, result: Any, loop: Any, axes: str, columns: int) -> None:
        """Sums leave their registers for memory before a function of many instructions, whose constants then stay in some."""
        schedule = self.schedule
        schedule.compute_at(result, loop, preserve_unit_loops=True)
        schedule.set_scope(result, 0, "local")
        loops = schedule.get_loops(result)[-len(axes) :]
        vector, lane = schedule.split(loops[axes.index("n")], [None, self._width(columns)])
        schedule.reorder(loops[axes.index("m")], vector, lane)
        self._unroll(loops[axes.index("m")], vector, lane)

    def _after(self, sums: Any) -> list[Any]:
        """The blocks after the sums, in order."""
        blocks, name = self._blocks(), self.schedule.get(sums).name_hint
        place = next(index for index, block in enumerate(blocks) if self.schedule.get(block).name_hint == name)
        return blocks[place + 1 :]

    def _vectorise(self, block: Any) -> None:
        """What widens the result runs on its own."""
        loop, lanes = self.schedule.get_loops(block)[-1], self.registers.lanes
        if lanes > 1 and self._extent(loop) % lanes == 0:
            self.schedule.vectorize(self.schedule.split(loop, [None, lanes])[1])

    def _split_columns(self, loop: Any, columns: int) -> list[Any]:
        """Tiles, vectors of a tile, lanes; a test at the edge concerns whole vectors where these fill the columns."""
        schedule, width = self.schedule, self._width(columns)
        extent = int(schedule.get(loop).extent)
        if extent % width == 0:
            vectors, lane = schedule.split(loop, [None, width])
            outer, vector = schedule.split(vectors, [None, columns // width])
            return [outer, vector, lane]
        outer, vector, lane = schedule.split(loop, [None, columns // width, width])
        schedule.annotate(outer, "pragma_loop_partition_hint", 1)
        return [outer, vector, lane]

    def _pack(self, block: Any, loop: Any) -> None:
        """A panel of the right matrix, copied once before the rows that need it."""
        self.schedule.compute_at(block, loop, preserve_unit_loops=True)

    def _unroll(self, *loops: Any) -> None:
        """Unroll the loops over a tile; the last one becomes a vector."""
        *outer, lane = loops
        for loop in outer:
            self.schedule.unroll(loop)
        (self.schedule.vectorize if self._extent(lane) > 1 else self.schedule.unroll)(lane)

    def _extent(self, loop: Any) -> int:
        return int(self.schedule.get(loop).extent)
