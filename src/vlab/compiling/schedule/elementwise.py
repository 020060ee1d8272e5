"""Kernels without a reduction: chains of elementwise operators, copies, transposes, padding, concatenation, resizing.

The innermost axis is cut into vectors, and what is left over into smaller ones. Where a condition changes along that axis, as
at the seams of padding and concatenation, it is cut there too, so that within each piece the condition has one value.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import Any

import tvm
from tvm import sym, tirx
from tvm.ir.expr import TensorLoad, Var
from tvm.s_tir import Schedule
from tvm_ffi import structural_map, structural_walk

from vlab.compiling.schedule.nests import Expr, Stmt, at_places, loop, sequence
from vlab.compiling.schedule.registers import Registers, UnfitError, shape
from vlab.compiling.schedule.tiles import pieces

_SPATIAL = 0
"""Kind of a block iterator (tirx.IterVar)."""
_MOST_REPEATED = 8
"""Operands of a value that is read more than once and computed anew each time; in a chain of such values they multiply, so that
those with more are computed once, into memory."""
_MOST_SEAMS = 64
"""More conditions than that along one axis are a table, not seams."""


def elementwise(function: Any, registers: Registers) -> Any:
    """Schedule a kernel that computes each value of its outputs by itself.

    Raises:
        UnfitError: it does anything else.
    """
    schedule = Schedule(tvm.IRModule({"main": function.with_attr("global_symbol", "main")}))
    root = schedule.get_sblock("root", "main")
    kept = []
    for block in list(schedule.get_child_blocks(root))[:-1]:
        stage = schedule.get(block)
        written = stage.writes[0].source
        if any(written.same_as(parameter) for parameter in schedule.mod["main"].params):
            continue
        if len(_loads(stage.body)) > _MOST_REPEATED and _readers(schedule, root, written) > 1:
            kept.append(written)
        else:
            schedule.compute_inline(block)
    outputs = [schedule.get(block) for block in schedule.get_child_blocks(root)]
    body = sequence([*map(tirx.AllocBuffer, kept), *(_each(block, registers) for block in outputs)])
    kernel = tirx.PrimFunc(list(function.params), body)
    for key, value in function.attrs.items():
        kernel = kernel.with_attr(key, value)
    return kernel


def _loads(statement: Any) -> list[Any]:
    loads: list[Any] = []
    structural_walk(statement, (TensorLoad, loads.append))
    return loads


def _readers(schedule: Schedule, root: Any, buffer: Any) -> int:
    """How often a buffer is read."""
    stages = [schedule.get(block).body for block in schedule.get_child_blocks(root)]
    return sum(load.source.same_as(buffer) for stage in stages for load in _loads(stage))


def _each(block: Any, registers: Registers) -> Stmt:
    """The loops of one output."""
    store, axes = block.body, [variable.var for variable in block.iter_vars]
    spatial = all(int(variable.iter_type) == _SPATIAL for variable in block.iter_vars)
    if not spatial or not isinstance(store, tirx.BufferStore) or not (_same(store.indices, axes) or not store.indices):
        raise UnfitError("it does not compute each value of its output by itself")
    return _Chain(store, axes, [int(variable.dom.extent) for variable in block.iter_vars], registers.lanes).body()


class _Chain:
    """One store for every place of the output."""

    def __init__(self, store: Any, axes: Sequence[Any], extents: Sequence[int], lanes: int) -> None:
        self.store, self.axes, self.extents, self.lanes = store, list(axes), list(extents), lanes

    def body(self) -> Stmt:
        """All loops."""
        if not self.axes:
            return self.store
        loads = _loads(self.store.value)
        whole = [load for load in loads if shape(load.source) == self.extents and _same(load.indices, self.axes)]
        constant = [load for load in loads if all(isinstance(index, tirx.IntImm) for index in load.indices)]
        if len(self.axes) > 1 and len(whole) + len(constant) == len(loads) and not self._uses_axes_elsewhere():
            return self._flat()
        return self._nest([])

    def _uses_axes_elsewhere(self) -> bool:
        """Whether the value depends on the place otherwise than by what it loads."""
        found: list[Any] = []
        stripped = structural_map(self.store.value, [(TensorLoad, lambda load: tirx.const(1, str(load.ty.dtype)))])
        structural_walk(stripped, (Var, found.append))
        return any(variable.same_as(axis) for variable in found for axis in self.axes)

    def _flat(self) -> Stmt:
        """The same over one axis, as every operand lies in memory like the output."""
        views: list[tuple[Any, Any]] = []
        total = prod(self.extents)

        def view(buffer: Any) -> Any:
            for known, seen in views:
                if known.same_as(buffer):
                    return seen
            views.append((buffer, tirx.decl_buffer([total], str(buffer.dtype), str(buffer.name))))
            return views[-1][1]

        axis = tirx.Var("place", "int64")

        def loaded(load: Any) -> Any:
            return tirx.BufferLoad(view(load.source), [axis]) if _same(load.indices, self.axes) else load

        value = structural_map(self.store.value, [(TensorLoad, loaded)])
        store = tirx.BufferStore(view(self.store.buffer), value, [axis])
        declarations = [tirx.DeclBuffer(flat, data=tirx.buffer_data(buffer)) for buffer, flat in views]
        return sequence([*declarations, _Chain(store, [axis], [total], self.lanes).body()])

    def _nest(self, places: list[Expr]) -> Stmt:
        axis = len(places)
        if axis < len(self.axes) - 1:
            return loop(f"axis{axis}", self.extents[axis], lambda place: self._nest([*places, place]))
        seams = [0, *self._seams(), self.extents[-1]]
        return sequence([self._stretch(places, start, end) for start, end in pairwise(seams)])

    def _stretch(self, places: list[Expr], start: int, end: int) -> Stmt:
        """A stretch of the innermost axis, in vectors."""
        whole, rest = divmod(end - start, self.lanes)
        parts = []
        if whole:
            parts.append(loop("vector", whole, lambda vector: self._vector(places, vector * self.lanes + start, self.lanes)))
        for size in pieces(rest, self.lanes):
            parts.append(self._vector(places, tirx.IntImm("int64", end - rest), size))
            rest -= size
        return sequence(parts)

    def _vector(self, places: list[Expr], first: Expr, size: int) -> Stmt:
        return loop("lane", size, lambda lane: self._at([*places, first + lane]), vector=True)

    def _at(self, places: list[Expr]) -> Stmt:
        return structural_map(self.store, [(Var, at_places(self.axes, places))])

    def _seams(self) -> list[int]:
        """Where along the innermost axis a comparison with a constant changes its truth."""
        axis, extent = self.axes[-1], self.extents[-1]
        found: set[int] = set()

        def compared(node: Any) -> None:
            difference = sym.detect_linear_equation(node.a - node.b, [axis])
            if len(difference) != 2 or not all(isinstance(part, tirx.IntImm) for part in difference):
                return
            slope, base = (int(part) for part in difference)
            if abs(slope) != 1:
                return
            zero = -base * slope  # where both sides are equal
            before = isinstance(node, (tirx.LT, tirx.GE)) == (slope == 1)
            changes: tuple[int, ...] = (
                (zero, zero + 1) if isinstance(node, (tirx.EQ, tirx.NE)) else (zero,) if before else (zero + 1,)
            )
            found.update(place for place in changes if 0 < place < extent)

        structural_walk(self.store.value, ((tirx.LT, tirx.LE, tirx.GT, tirx.GE, tirx.EQ, tirx.NE), compared))
        return sorted(found) if len(found) <= _MOST_SEAMS else []


def _same(indices: Sequence[Any], axes: Sequence[Any]) -> bool:
    return len(indices) == len(axes) and all(index.same_as(axis) for index, axis in zip(indices, axes, strict=True))
