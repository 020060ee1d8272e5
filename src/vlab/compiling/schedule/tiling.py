"""One fixed rule of register tiling for every kernel with one reduction.

Convolution, depthwise convolution, matrix product, pooling and mean over NHWC data with HWIO weights all become: tiles of
output channels outermost, then rows and tiles of the width, then the reduction, innermost as many sums as stay in registers.
"""

from collections.abc import Sequence
from typing import Any

import tvm
from tvm.s_tir import Schedule

from vlab.compiling.schedule.elementwise import elementwise
from vlab.compiling.schedule.registers import Registers, UnfitError, shape

_SPATIAL, _REDUCE = 0, 2
"""Kinds of block iterators (tirx.IterVar)."""
_SERIAL = 0
"""Kind of a loop that is neither vectorised nor unrolled yet (tirx.ForKind)."""
_LARGEST_WINDOW = 5
"""Reductions no longer than this in any direction are windows of depthwise kernels, and are unrolled."""


def pick_tiles(channels: int, width: int, registers: Registers) -> tuple[int, int]:
    """Channel and width tile that keep the most sums in registers.

    Args:
        channels: extent of the innermost spatial loop; the channel tile divides it.
        width: extent of the loop before it; the width tile divides it.
        registers: the CPU's.

    Returns:
        Tile of channels and tile of width, both at least 1.
    """
    lanes = registers.lanes
    candidates = [lanes, lanes * 2, lanes * 4, lanes // 2, lanes // 4] if lanes > 1 else [1, 2, 4]
    best, best_score = (1, 1), (0, 0, 0)
    for channel_tile in candidates:
        if channel_tile < 1 or channels % channel_tile:
            continue
        vectors = -(-channel_tile // lanes)
        for width_tile in range(1, width + 1):
            if width % width_tile or vectors * width_tile > registers.accumulators:
                continue
            score = (min(channel_tile, lanes) * vectors * width_tile, min(vectors, 2), width_tile)
            if score > best_score:
                best, best_score = (channel_tile, width_tile), score
    return best


def general(function: Any, registers: Registers) -> Any:
    """Schedule a kernel.

    Raises:
        UnfitError: it has no reduction and does more than compute each value of its output by itself; or it has any, and then
            the error carries the kernel as far as the rule applied.
    """
    return Tiling(function, registers).apply()


class Tiling:
    """The rule at work on one kernel."""

    def __init__(self, function: Any, registers: Registers) -> None:
        self.function = function
        self.schedule = Schedule(tvm.IRModule({"main": function.with_attr("global_symbol", "main")}))
        self.root = self.schedule.get_sblock("root", "main")
        self.registers = registers

    def apply(self) -> Any:
        """The scheduled kernel."""
        if not any(map(self._reduces, self._blocks())):
            return elementwise(self.function, self.registers)
        self._inline_producers()
        reductions = [index for index, block in enumerate(self._blocks()) if self._reduces(block)]
        if len(reductions) == 1:
            self._tile(reductions[0])
        self._vectorise_rest()
        kernel = self.schedule.mod["main"]
        if len(reductions) > 1:
            raise UnfitError(
                f"it has {len(reductions)} reductions and the rule tiles one; only what is elementwise is vectorised", kernel
            )
        raise UnfitError("no rule is made for what it reduces; tiles of the general one", kernel)

    def _blocks(self) -> list[Any]:
        return list(self.schedule.get_child_blocks(self.root))

    def _kinds(self, block: Any) -> list[int]:
        return [int(variable.iter_type) for variable in self.schedule.get(block).iter_vars]

    def _reduces(self, block: Any) -> bool:
        return _REDUCE in self._kinds(block)

    def _extent(self, loop: Any) -> int:
        return int(self.schedule.get(loop).extent)

    def _try_inline(self, block: Any) -> None:
        try:
            self.schedule.compute_inline(block)
        except RuntimeError:  # not inlinable: the block stays
            return

    def _inline_producers(self) -> None:
        """Inline elementwise producers; keep a padding that changes the shape: inlined it is a branch in every load."""
        for block in self._blocks()[:-1]:
            if not self._reduces(block) and not self._pads(self.schedule.get(block)):
                self._try_inline(block)

    @staticmethod
    def _pads(block: Any) -> bool:
        if not block.name_hint.startswith("pad_temp"):
            return False
        return len(block.reads) != 1 or shape(block.reads[0].source) != shape(block.writes[0].source)

    def _tile(self, index: int) -> None:
        schedule, lanes = self.schedule, self.registers.lanes
        main = self._blocks()[index]
        for block in self._blocks()[index + 1 : -1]:  # fold the epilogue into one block
            self._try_inline(block)
        index = next(place for place, block in enumerate(self._blocks()) if self._reduces(block))
        epilogue = self._blocks()[index + 1 :]

        loops, kinds = schedule.get_loops(main), self._kinds(main)
        spatial = [loop for loop, kind in zip(loops, kinds, strict=False) if kind == _SPATIAL]
        reduction = [loop for loop, kind in zip(loops, kinds, strict=False) if kind == _REDUCE]
        if len(loops) != len(kinds) or not spatial:
            raise ValueError("its loops do not match its iterators")
        sizes = [self._extent(loop) for loop in reduction]

        wide = len(spatial) >= 2 and self._extent(spatial[-2]) > 1
        width = self._extent(spatial[-2]) if wide else 1
        channel_tile, width_tile = pick_tiles(self._extent(spatial[-1]), width, self.registers)
        channel_outer, channel_inner = schedule.split(spatial[-1], [None, channel_tile])
        outer, inner = [channel_outer, *spatial[: -2 if wide else -1]], []
        if wide:
            width_outer, width_inner = schedule.split(spatial[-2], [None, width_tile])
            outer.append(width_outer)
            inner.append(width_inner)
        schedule.reorder(*outer, *reduction, *inner, channel_inner)

        if epilogue:
            schedule.set_scope(main, 0, "local")
            tail = epilogue[0]
        else:
            tail = schedule.cache_write(main, 0, "local")
        schedule.reverse_compute_at(tail, outer[-1])
        own = schedule.get_loops(tail)[len(outer) :]  # none where the tile is a single element: what is left is shared
        if lanes > 1 and own:
            schedule.vectorize(own[-1])
        if channel_tile > 1:
            (schedule.vectorize if lanes > 1 else schedule.unroll)(channel_inner)
        if width_tile > 1:
            schedule.unroll(inner[0])
        self._unroll_window(reduction, sizes)
        init = schedule.get_loops(schedule.decompose_reduction(main, reduction[0]))
        if lanes > 1 and channel_tile > 1:
            schedule.vectorize(init[-1])
        if width_tile > 1:
            schedule.unroll(init[-2])

    def _unroll_window(self, reduction: Sequence[Any], sizes: Sequence[int]) -> None:
        """Unroll all but the outermost loop of a small window; that one too where it only runs once."""
        if len(sizes) < 2 or max(sizes) > _LARGEST_WINDOW:
            return
        for loop, size in list(zip(reduction, sizes, strict=True))[1 if sizes[0] > 1 else 0 :]:
            if size > 1:
                self.schedule.unroll(loop)

    def _vectorise_rest(self) -> None:
        """Vectorise padding copies, elementwise kernels and transposes."""
        lanes = self.registers.lanes
        for block in self._blocks():
            loops = self.schedule.get_loops(block)
            if lanes == 1 or self._reduces(block) or not loops or int(self.schedule.get(loops[-1]).kind) != _SERIAL:
                continue
            size = self._extent(loops[-1])
            factor = next((count for count in (lanes * 2, lanes) if size % count == 0), 1)
            if factor == 1:
                continue
            inner = self.schedule.split(loops[-1], [None, factor])[1] if factor < size else loops[-1]
            try:
                self.schedule.vectorize(inner)
            except RuntimeError:  # the loop carries a dependence: it stays serial
                continue
