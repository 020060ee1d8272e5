"""Normalisations, reductions, running totals and determinants, in forms that the importer lacks."""

import numpy as np
from onnx import TensorProto

from vlab.compiling.importing.rewriting.node import FormError, Node
from vlab.compiling.importing.rewriting.rules import Emitter, rewrites


@rewrites("LayerNormalization")
def _layer_normalization(node: Node, emit: Emitter) -> list[str] | None:
    """The importer gives scalars for mean and inverse deviation."""
    return emit.function(node) if node.wants(1) or node.wants(2) else None


@rewrites("RMSNormalization")
def _by_definition(node: Node, emit: Emitter) -> list[str]:
    return emit.function(node)


@rewrites("MeanVarianceNormalization")
def _mean_variance(node: Node, emit: Emitter) -> str:
    """With the mean of squared deviations, where ONNX's definition subtracts squares, which may leave less than nothing."""
    x, axes = node.input(0), node.get("axes", [0, 2, 3])
    deviation = emit("Sub", x, emit("ReduceMean", x, axes))
    spread = emit("Sqrt", emit("ReduceMean", emit("Mul", deviation, deviation), axes))
    return emit("Div", deviation, emit("Add", spread, emit.like(1e-9, spread)))


@rewrites("BatchNormalization")
def _batch_normalization(node: Node, emit: Emitter) -> list[str] | None:
    """In training mode by the batch's own mean and variance (ONNX Operators, BatchNormalization, version 14)."""
    if not node.get("training_mode", 0):
        return None
    x, scale, bias, mean, variance = node.inputs
    rank = len(emit.graph.shape(x))
    axes = [axis for axis in range(rank) if axis != 1]
    along = [-1 if axis == 1 else 1 for axis in range(rank)]
    now = emit("ReduceMean", x, axes)
    deviation = emit("Sub", x, now)
    spread = emit("ReduceMean", emit("Mul", deviation, deviation), axes)
    inverse = emit("Reciprocal", emit("Sqrt", emit("Add", spread, emit.like(node.get("epsilon", 1e-5), spread))))
    y = emit("Mul", emit("Mul", deviation, inverse), emit("Reshape", scale, along))
    y = emit("Add", y, emit("Reshape", bias, along))
    outputs = [y]
    momentum = node.get("momentum", 0.9)
    for old, new in ((mean, now), (variance, spread)):
        kept = emit("Mul", old, emit.like(momentum, old))
        fresh = emit("Mul", emit("Reshape", new, [-1]), emit.like(1 - momentum, new))
        outputs.append(emit("Add", kept, fresh))
    return outputs


@rewrites("LpNormalization")
def _lp_normalization(node: Node, emit: Emitter) -> str:
    x, axis = node.input(0), node.get("axis", -1)
    norm = emit("ReduceL1" if node.get("p", 2) == 1 else "ReduceL2", x, [axis])
    zero = emit.like(0, x)
    safe = emit("Where", emit("Equal", norm, zero), emit.like(1, x), norm)
    return emit("Div", x, safe)


@rewrites("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
          "ReduceSum", "ReduceSumSquare")  # fmt: skip
def _reduction(node: Node, emit: Emitter) -> str | None:
    """Axes may be left out to mean all of them or, where the model says so, none."""
    x, operator = node.input(0), node.operator
    given = emit.graph.need(node.input(1), "its axes") if node.input(1) else node.get("axes", [])
    rank = len(emit.graph.shape(x))
    axes = sorted(int(axis) % rank for axis in given) if rank else []
    if not rank or (not axes and node.get("noop_with_empty_axes", 0)):
        return _without_axes(operator, x, emit)
    axes = axes or list(range(rank))
    keep = node.get("keepdims", 1)
    if emit.graph.element(x) == TensorProto.BOOL:
        return emit.cast(emit(operator, emit.cast(x, TensorProto.INT32), axes, keepdims=keep), TensorProto.BOOL)
    if emit.graph.dtype(x).kind in "iu" and operator in ("ReduceMean", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp"):
        return _whole_reduction(operator, x, axes, keep, emit)
    if node.version >= 18 and list(given) == axes:
        return None
    return emit(operator, x, axes, keepdims=keep)


def _whole_reduction(operator: str, x: str, axes: list[int], keep: int, emit: Emitter) -> str:
    """Of whole numbers to whole numbers, rounded towards zero."""
    if operator == "ReduceMean":
        count = int(np.prod([emit.graph.shape(x)[axis] for axis in axes]))
        return emit("Div", emit("ReduceSum", x, axes, keepdims=keep), emit.like(count, x))
    if operator == "ReduceL2":
        return emit.cast(emit(operator, emit.cast(x, TensorProto.DOUBLE), axes, keepdims=keep), emit.graph.element(x))
    raise FormError("its input is whole numbers, of which runtimes take logarithms differently; use Cast to float32 before it")


def _without_axes(operator: str, x: str, emit: Emitter) -> str:
    """The reduction of every element by itself."""
    if operator in ("ReduceL1", "ReduceL2"):
        return emit("Abs", x)
    if operator == "ReduceSumSquare":
        return emit("Mul", x, x)
    return emit("Log", x) if operator == "ReduceLogSum" else x


@rewrites("CumProd", "CumSum")
def _running(node: Node, emit: Emitter) -> None:
    emit.graph.need(node.input(1), "its axis")


@rewrites("Det")
def _det(node: Node, emit: Emitter) -> str:
    """By expansion along the first row, which only small matrices allow."""
    x = node.input(0)
    *outer, size, _ = emit.graph.shape(x)
    if size > 5:
        raise FormError(f"its matrices have {size} rows; expected at most 5")
    flat = emit("Reshape", x, [int(np.prod(outer, dtype=np.int64)), size, size])

    def element(row: int, column: int) -> str:
        return emit("Reshape", emit("Slice", flat, [row, column], [row + 1, column + 1], [1, 2]), list(outer))

    def expanded(row: int, columns: tuple[int, ...]) -> str:
        if len(columns) == 1:
            return element(row, columns[0])
        total = ""
        for place, column in enumerate(columns):
            rest = (*columns[:place], *columns[place + 1 :])
            term = emit("Mul", element(row, column), expanded(row + 1, rest))
            total = emit("Sub" if place % 2 else "Add", total, term) if total else term
        return total

    return expanded(0, tuple(range(size)))
