"""Kernels that work on one row at a time: softmax, layer and RMS normalisation, reductions over the last axes.

A row stays in the cache between the passes over it. Sums and maxima are kept in several vectors and joined at the end; what
does not fill a vector is done value by value. The kernels are written with their loops, and no schedule rule touches them.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from tvm import relax, tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as script

from vlab.compiling.expressions import operator, shape
from vlab.compiling.kernels.rewriting import Definitions, rewrite
from vlab.compiling.schedule import ANNOTATION, WRITTEN, Registers

_OPAQUE = 8
"""Kind of a kernel that nothing is fused with (relax.OpPatternKind)."""
_MOST_VECTORS = 4
"""Partial sums side by side: the latency of an addition over its throughput on the CPUs at hand."""

Body = Callable[[Any], Any]
"""From the column to a value."""


def legalise_rows(module: Any, registers: Registers) -> Any:
    """Replace these operators on float32 tensors of fixed shapes in the main function of a Relax module."""

    def rule(binding: Any, _definitions: Definitions, builder: Any) -> Any:
        call = binding.value
        write = _KERNELS.get(operator(call))
        if write is None or not _fits(call):
            return None
        rank = len(shape(call.args[0]))
        given = call.attrs.axis if hasattr(call.attrs, "axis") else call.attrs.axes
        axes = sorted(int(axis) % rank for axis in ([given] if isinstance(given, int) else given or range(rank)))
        inner = shape(call.args[0])[axes[0] :] if axes else ()
        if axes != list(range(rank - len(inner), rank)) or any(shape(value) != inner for value in call.args[1:]):
            return None
        name = operator(call).rpartition(".")[2]
        function = _Rows(call, axes[0], registers).function(partial(write, call))
        return relax.call_tir(builder.add_func(function, name), list(call.args), call.ty)

    return rewrite(module, rule)


def _fits(call: Any) -> bool:
    try:
        sizes = [size for value in call.args for size in shape(value)]
    except (AttributeError, TypeError, ValueError):
        return False
    return 0 not in sizes and all(str(value.ty.dtype) == "float32" for value in (call, *call.args))


class _Rows:
    """A kernel under construction: loops over rows, and what a row's passes are made of."""

    def __init__(self, call: Any, first: int, registers: Registers) -> None:
        self.shapes = [shape(value) for value in call.args]
        self.result = shape(call)
        self.outer, self.inner = self.shapes[0][:first], self.shapes[0][first:]
        self.size = math.prod(self.inner)
        """Values in a row."""
        self.width = max(1, min(registers.lanes, 1 << (self.size.bit_length() - 1)))
        """Values in a vector."""
        self.buffers: list[Any] = []
        self.row: list[Any] = []

    def function(self, write: Callable[["_Rows"], None]) -> Any:
        """The kernel whose rows the function writes."""
        with IRBuilder() as builder, script.prim_func():
            script.func_name("main")
            shapes = [*self.shapes, self.result]
            self.buffers = [script.arg(f"p{place}", script.Buffer(one, "float32")) for place, one in enumerate(shapes)]
            with ExitStack() as loops:
                loops.enter_context(script.sblock("root"))
                script.sblock_attr({ANNOTATION: WRITTEN})
                self.row = [0 if size == 1 else loops.enter_context(script.serial(0, size)) for size in self.outer]
                write(self)
        function = builder.get().without_attr("global_symbol")
        return function.with_attrs({"op_pattern": _OPAQUE, "tirx.noalias": True})

    def value(self, column: Any) -> Any:
        """A value of the row."""
        return self.buffers[0][(*self.row, *self._indices(column))]

    def parameter(self, number: int, column: Any) -> Any:
        """A value of a tensor that is the same for all rows."""
        return self.buffers[number][tuple(self._indices(column))]

    def store(self, column: Any, value: Any) -> None:
        """Write a value of the result's row."""
        script.buffer_store(self.buffers[-1], value, [*self.row, *self._indices(column)])

    def stored(self, column: Any) -> Any:
        """A value of the result's row, once it is written."""
        return self.buffers[-1][(*self.row, *self._indices(column))]

    def store_one(self, value: Any) -> None:
        """Write the only value of the result's row."""
        script.buffer_store(self.buffers[-1], value, [*self.row, *[0] * (len(self.result) - len(self.row))])

    def for_each(self, visit: Callable[[Any], None]) -> None:
        """All columns, as vectors as far as they go."""
        whole = self.size - self.size % self.width
        with script.serial(0, whole // self.width) as block, _lanes(self.width) as lane:
            visit(block * self.width + lane)
        if whole < self.size:
            with script.serial(whole, self.size) as column:
                visit(column)

    def reduce(self, start: float, join: Callable[[Any, Any], Any], body: Body) -> Any:
        """All columns' values joined."""
        width = self.width
        blocks = self.size // width
        vectors = next(count for count in range(_MOST_VECTORS, 0, -1) if blocks % count == 0 or blocks >= 4 * count)
        partial_ = script.alloc_buffer((vectors * width,), "float32", scope="local")
        with _lanes(vectors * width) as lane:
            script.buffer_store(partial_, tirx.const(start, "float32"), [lane])

        def visit(first: Any, vector: int) -> None:
            with _lanes(width) as lane:
                place = vector * width + lane
                script.buffer_store(partial_, join(partial_[place], body(first + lane)), [place])

        with script.serial(0, blocks // vectors) as step:
            for vector in range(vectors):
                visit((step * vectors + vector) * width, vector)
        for vector in range(blocks % vectors):
            visit((blocks - blocks % vectors + vector) * width, vector)
        for vector in range(1, vectors):
            with _lanes(width) as lane:
                script.buffer_store(partial_, join(partial_[lane], partial_[vector * width + lane]), [lane])
        joined = partial_[0] if width == 1 else _halved(partial_[tirx.Ramp(0, 1, width)], width, join)
        if self.size % width == 0:
            return joined
        rest = script.alloc_buffer((1,), "float32", scope="local")
        script.buffer_store(rest, joined, [0])
        with script.serial(blocks * width, self.size) as column:
            script.buffer_store(rest, join(rest[0], body(column)), [0])
        return rest[0]

    def keep(self, value: Any) -> Any:
        """A scalar that is computed once."""
        kept = script.alloc_buffer((1,), "float32", scope="local")
        script.buffer_store(kept, value, [0])
        return kept[0]

    def _indices(self, column: Any) -> list[Any]:
        """Indices within the last axes."""
        indices: list[Any] = []
        for size in reversed(self.inner[1:]):
            indices.append(column % size)
            column = column // size
        return [column, *indices[::-1]]


def _halved(vector: Any, width: int, join: Callable[[Any, Any], Any]) -> Any:
    """All lanes joined, the upper half with the lower one until one is left."""
    if width == 1:
        return vector
    half = width // 2
    whole = tirx.Var("v", vector.ty)
    low, high = (tirx.Shuffle([whole], list(range(first, first + half))) for first in (0, half))
    return tirx.Let(whole, vector, _halved(join(low, high), half, join))


@contextmanager
def _lanes(width: int) -> Iterator[Any]:
    """The lanes of a vector; a single one is no loop."""
    if width == 1:
        yield 0
    else:
        with script.vectorized(0, width) as lane:
            yield lane


def _softmax(_call: Any, rows: _Rows) -> None:
    largest = rows.keep(rows.reduce(-math.inf, tirx.max, rows.value))

    def share(column: Any) -> Any:
        rows.store(column, tirx.exp(rows.value(column) - largest))
        return rows.stored(column)

    scale = rows.keep(tirx.const(1.0, "float32") / rows.reduce(0.0, _plus, share))
    rows.for_each(lambda column: rows.store(column, rows.stored(column) * scale))


def _log_softmax(_call: Any, rows: _Rows) -> None:
    largest = rows.keep(rows.reduce(-math.inf, tirx.max, rows.value))
    total = rows.reduce(0.0, _plus, lambda column: tirx.exp(rows.value(column) - largest))
    offset = rows.keep(largest + tirx.log(total))
    rows.for_each(lambda column: rows.store(column, rows.value(column) - offset))


def _layer_norm(call: Any, rows: _Rows) -> None:
    mean = rows.keep(_mean(rows, rows.value))
    variance = _mean(rows, lambda column: _square(rows.value(column) - mean))
    scale = rows.keep(_inverse_root(variance, call))

    def normalised(column: Any) -> Any:
        value = (rows.value(column) - mean) * scale
        value = value * rows.parameter(1, column) if call.attrs.scale else value
        return value + rows.parameter(2, column) if call.attrs.center else value

    rows.for_each(lambda column: rows.store(column, normalised(column)))


def _rms_norm(call: Any, rows: _Rows) -> None:
    scale = rows.keep(_inverse_root(_mean(rows, lambda column: _square(rows.value(column))), call))
    rows.for_each(lambda column: rows.store(column, rows.value(column) * scale * rows.parameter(1, column)))


def _reduction(start: float, join: Callable[[Any, Any], Any], _call: Any, rows: _Rows) -> None:
    rows.store_one(rows.reduce(start, join, rows.value))


def _mean_kernel(_call: Any, rows: _Rows) -> None:
    rows.store_one(_mean(rows, rows.value))


def _mean(rows: _Rows, body: Body) -> Any:
    return rows.reduce(0.0, _plus, body) * tirx.const(1 / rows.size, "float32")


def _inverse_root(variance: Any, call: Any) -> Any:
    return tirx.const(1.0, "float32") / tirx.sqrt(variance + tirx.const(float(call.attrs.epsilon), "float32"))


def _plus(left: Any, right: Any) -> Any:
    return left + right


def _square(value: Any) -> Any:
    return value * value


_KERNELS: dict[str, Callable[[Any, _Rows], None]] = {
    "relax.nn.softmax": _softmax,
    "relax.nn.log_softmax": _log_softmax,
    "relax.nn.layer_norm": _layer_norm,
    "relax.nn.rms_norm": _rms_norm,
    "relax.mean": _mean_kernel,
    "relax.sum": partial(_reduction, 0.0, _plus),
    "relax.max": partial(_reduction, -math.inf, tirx.max),
    "relax.min": partial(_reduction, math.inf, tirx.min),
}
