"""Loops shared out among threads, after a kernel's own rule has made them.

A loop may be shared out if no iteration touches what another one writes: of every buffer that is written in the loop and lives
outside it there is a dimension in which each iteration keeps to its own slice. Reductions are never shared out, for their
iterations write the same place; so the sums, and with them every bit of the result, are those of one thread.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from tvm import DataType, sym, tirx
from tvm.ir import Call
from tvm.ir.expr import TensorLoad, Var
from tvm_ffi import structural_map, structural_walk

from vlab.compiling.workload import MACS

LEAST_WORK = 1 << 20
"""Values stored, of which a multiply-accumulate is one: below some 20 µs on a fast core waking others does not pay."""
_OF_CODES = 2
"""Multiply-accumulates of int8 that take the time of one of float32, where vectors have no dot products of them."""
_CHUNKS = 16
"""Iterations for each thread, so that one more or less is no imbalance worth mentioning."""
_LARGEST_EXTENT = 1 << 31


def share_out(kernel: Any, threads: int) -> Any:
    """Mark the outermost loops that threads can share and that have work enough.

    Args:
        kernel: a PrimFunc whose blocks are lowered to loops, with its buffers still of several dimensions.
        threads: how many there will be.
    """
    body = structural_map(kernel.body, (tirx.For, _serial))  # TVM shares some loops out that are far too small
    memories = _memories(body)
    if threads == 1 or memories is None:
        return kernel.with_body(body)
    return kernel.with_body(_Sharing(memories, threads, _weight(kernel)).share(body, ()))


def shared_out(body: Any) -> list[Any]:
    """The loops of a lowered kernel that threads share."""
    found: list[Any] = []
    structural_walk(body, (tirx.For, found.append))
    return [loop for loop in found if loop.kind == tirx.ForKind.PARALLEL]


class _Sharing:
    """At work on one kernel."""

    def __init__(self, memories: Mapping[Any, Any], threads: int, weight: float) -> None:
        self.memories = memories
        self.threads = threads
        self.weight = weight

    def share(self, statement: Any, outer: tuple[Any, ...]) -> Any:
        """The statement with the outermost loops in it marked; `outer` are the variables of the loops around it."""
        if isinstance(statement, tirx.SeqStmt):
            return tirx.SeqStmt([self.share(child, outer) for child in statement.seq])
        if isinstance(statement, tirx.AttrStmt):
            return tirx.AttrStmt(statement.node, statement.attr_key, statement.value, self.share(statement.body, outer))
        if not isinstance(statement, tirx.For) or self.weight * _work(statement) < LEAST_WORK:
            return statement
        nest = self._nest(statement, outer)
        if nest:
            return _fused(nest)
        loop, inner = statement, self.share(statement.body, (*outer, statement.loop_var))
        return tirx.For(
            loop.loop_var, loop.min, loop.extent, loop.kind, inner, loop.thread_binding, loop.annotations, loop.step
        )

    def _nest(self, loop: Any, outer: tuple[Any, ...]) -> list[Any]:
        """Loops directly within one another, from this one on, that can be shared out together; as many as are needed."""
        nest: list[Any] = []
        while (
            isinstance(loop, tirx.For)
            and loop.kind == tirx.ForKind.SERIAL
            and _constant(loop.extent) is not None
            and _constant(loop.min) == 0
            and loop.step is None
            and prod(int(one.extent) for one in nest) < _CHUNKS * self.threads
            and _independent(loop, (*outer, *(one.loop_var for one in nest)), self.memories)
        ):
            nest.append(loop)
            loop = loop.body
        return nest if prod(int(one.extent) for one in nest) > 1 else []


def _serial(loop: Any) -> Any:
    if loop.kind != tirx.ForKind.PARALLEL:
        return loop
    return tirx.For(loop.loop_var, loop.min, loop.extent, tirx.ForKind.SERIAL, loop.body, None, loop.annotations, loop.step)


def _fused(nest: Sequence[Any]) -> Any:
    """One parallel loop in place of several."""
    dtype = str(nest[0].loop_var.ty.dtype)
    fused = tirx.Var("shared", dtype)
    rest: Any = fused
    places: dict[Any, Any] = {}
    for loop in reversed(nest):
        extent = tirx.IntImm(dtype, int(loop.extent))
        places[loop.loop_var] = rest if loop is nest[0] else tirx.floormod(rest, extent)
        rest = tirx.floordiv(rest, extent)
    body = structural_map(nest[-1].body, (Var, lambda variable: places.get(variable, variable)))
    extents = prod(int(loop.extent) for loop in nest)
    return tirx.For(fused, tirx.IntImm(dtype, 0), tirx.IntImm(dtype, extents), tirx.ForKind.PARALLEL, body)


def _weight(kernel: Any) -> float:
    """How much more a kernel does for each value it stores than one multiply-accumulate, where it says how many those are."""
    macs = int(kernel.attrs[MACS]) if kernel.attrs and MACS in kernel.attrs else 0
    return max(1.0, macs / _OF_CODES / max(1, _work(kernel.body)))


def _work(statement: Any) -> int:
    """Values that a statement stores."""
    if isinstance(statement, tirx.SeqStmt):
        return sum(_work(child) for child in statement.seq)
    if isinstance(statement, tirx.For):
        return (_constant(statement.extent) or 1) * _work(statement.body)
    if isinstance(statement, tirx.IfThenElse):
        return _work(statement.then_case) + (_work(statement.else_case) if statement.else_case else 0)
    if isinstance(statement, tirx.AttrStmt):
        return _work(statement.body)
    return _lanes(statement.value) if isinstance(statement, tirx.BufferStore) else 0


@dataclass(frozen=True)
class _Slice:
    """What an access touches in one dimension: `step * iteration + along + [first, last]`."""

    step: int
    """For each iteration of the loop in question."""
    along: tuple[int, ...]
    """Factors of the loops around it."""
    first: int
    last: int


def _memories(body: Any) -> dict[Any, Any] | None:
    """For buffers that are another one's memory in another shape, that other one; None where that cannot be told."""
    views: list[Any] = []
    structural_walk(body, (tirx.DeclBuffer, views.append))
    known = {view.buffer: view.data.args[0] for view in views if getattr(view.data.op, "name", "") == "tirx.buffer_data"}
    return known if len(known) == len(views) and not set(known) & set(known.values()) else None


def _independent(loop: Any, outer: tuple[Any, ...], memories: Mapping[Any, Any]) -> bool:
    """Whether no iteration touches what another one writes."""
    private: set[Any] = set()
    written: set[Any] = set()
    unknown: list[Any] = []
    ranges: dict[Any, int | None] = {}
    accesses: dict[Any, list[tuple[Any, Sequence[Any]]]] = {}

    def access(buffer: Any, indices: Sequence[Any]) -> None:
        accesses.setdefault(memories.get(buffer, buffer), []).append((buffer, indices))

    def store(node: Any) -> None:
        written.add(memories.get(node.buffer, node.buffer))
        access(node.buffer, node.indices)

    def call(node: Any) -> None:
        """Addresses leave what is known about accesses."""
        if getattr(node.op, "name", "") in ("tirx.address_of", "tirx.tvm_access_ptr"):
            unknown.append(node)

    structural_walk(
        loop.body,
        [
            (tirx.BufferStore, store),
            (TensorLoad, lambda node: access(node.source, node.indices)),
            (tirx.AllocBuffer, lambda node: private.add(node.buffer)),
            (tirx.For, lambda node: ranges.update({node.loop_var: _last(node)})),
            (tirx.Evaluate, unknown.append),
            (tirx.DeclBuffer, unknown.append),
            (tirx.While, unknown.append),
            (Call, call),
        ],
    )
    shared = written - private
    return bool(shared) and not unknown and all(_sliced(accesses[buffer], loop.loop_var, outer, ranges) for buffer in shared)


def _sliced(
    accesses: Sequence[tuple[Any, Sequence[Any]]], variable: Any, outer: tuple[Any, ...], ranges: Mapping[Any, int | None]
) -> bool:
    """Whether there is a dimension in which every iteration keeps to a slice of its own."""
    if len({buffer for buffer, _ in accesses}) != 1:  # one memory in two shapes
        return False
    for dimension in range(len(accesses[0][1])):
        slices = [_slice(indices[dimension], variable, outer, ranges) for _, indices in accesses]
        if None in slices:
            continue
        known = [one for one in slices if one is not None]
        alike = len({(one.step, one.along) for one in known}) == 1
        if alike and max(one.last for one in known) - min(one.first for one in known) < abs(known[0].step):
            return True
    return False


def _slice(index: Any, variable: Any, outer: tuple[Any, ...], ranges: Mapping[Any, int | None]) -> _Slice | None:
    """None where an index is not a sum of multiples of loop variables."""
    reach = 0
    if isinstance(index, tirx.Ramp):
        if _constant(index.stride) is None or int(index.stride) < 0 or _constant(index.lanes) is None:
            return None
        reach = int(index.stride) * (int(index.lanes) - 1)
        index = index.base
    inner = list(ranges)
    factors = [_constant(factor) for factor in sym.detect_linear_equation(index, [variable, *outer, *inner])]
    if not factors or None in factors:
        return None
    step, *rest, base = (factor or 0 for factor in factors)
    along, within = rest[: len(outer)], rest[len(outer) :]
    first = last = base
    for factor, loop in zip(within, inner, strict=True):
        end = ranges[loop]
        if factor and end is None:
            return None
        first, last = first + min(0, factor * (end or 0)), last + max(0, factor * (end or 0))
    return _Slice(step, tuple(along), first, last + reach)


def _last(loop: Any) -> int | None:
    """The largest value of a loop's variable where it begins at 0, or None where it is not known."""
    extent = _constant(loop.extent)
    if extent is None:
        extent = sym.Analyzer().const_int_bound(loop.extent).max_value
    known = _constant(loop.min) == 0 and loop.step is None and extent < _LARGEST_EXTENT
    return extent - 1 if known else None


def _constant(expression: Any) -> int | None:
    return int(expression) if isinstance(expression, (int, tirx.IntImm)) else None


def _lanes(value: Any) -> int:
    return int(DataType(str(value.ty.dtype)).lanes)
