"""Sorting and running totals as plain reductions: the compiler's own call its runtime, which is not on the board."""

from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import relax, te, tirx

from vlab.compiling.importing.operators.registry import converts


def _number(constant: Any) -> int:
    """A constant of one element."""
    return int(np.asarray(constant.value.numpy()).reshape(-1)[0])


def _with(at: tuple[Any, ...], axis: int, place: Any) -> list[Any]:
    return [*at[:axis], place, *at[axis + 1 :]]


@converts("CumSum")
def _cumulative_sum(builder: Any, inputs: list[Any], attributes: dict[str, Any]) -> Any:
    return _running(builder, inputs, attributes, te.sum, 0)


@converts("CumProd")
def _cumulative_product(builder: Any, inputs: list[Any], attributes: dict[str, Any]) -> Any:
    product = te.comm_reducer(lambda x, y: x * y, lambda dtype: tirx.const(1, dtype), name="product")
    return _running(builder, inputs, attributes, product, 1)


def _running(builder: Any, inputs: list[Any], attributes: dict[str, Any], reduce: Callable[..., Any], neutral: int) -> Any:
    """Each total anew, with what lies behind its place as the neutral element: quadratic in the axis, in order and exact."""
    x = inputs[0]
    axis = _number(inputs[1]) % len(x.ty.shape)
    exclusive, reverse = attributes.get("exclusive", 0), attributes.get("reverse", 0)

    def running(data: Any) -> Any:
        count = te.reduce_axis((0, data.shape[axis]), name="k")

        def total(*at: Any) -> Any:
            ahead = count.var - at[axis] if reverse else at[axis] - count.var
            value = data(*_with(at, axis, count.var))
            return reduce(tirx.Select(ahead >= (1 if exclusive else 0), value, tirx.const(neutral, data.dtype)), axis=count)

        return te.compute(data.shape, total, name="running")

    return builder.emit_te(running, x)


@converts("TopK")
def _top_k(builder: Any, inputs: list[Any], attributes: dict[str, Any]) -> Any:
    """By rank: how many elements come before each one, where of equal ones the first does; quadratic in the axis."""
    x = inputs[0]
    axis = attributes.get("axis", -1) % len(x.ty.shape)
    k = _number(inputs[1])
    largest = attributes.get("largest", 1)
    size = int(x.ty.shape[axis])

    def ranks(data: Any) -> Any:
        other = te.reduce_axis((0, size), name="other")

        def rank(*at: Any) -> Any:
            mine, theirs = data(*at), data(*_with(at, axis, other.var))
            better = theirs > mine if largest else theirs < mine
            before = tirx.any(better, tirx.all(theirs == mine, other.var < at[axis]))
            return te.sum(tirx.Select(before, tirx.const(1, "int64"), tirx.const(0, "int64")), axis=other)

        return te.compute(data.shape, rank, name="rank")

    def places(rank: Any) -> Any:
        candidate = te.reduce_axis((0, size), name="candidate")
        shape = [k if place == axis else extent for place, extent in enumerate(rank.shape)]

        def place(*at: Any) -> Any:
            hit = rank(*_with(at, axis, candidate.var)) == at[axis].astype("int64")
            return te.sum(tirx.Select(hit, candidate.var.astype("int64"), tirx.const(0, "int64")), axis=candidate)

        return te.compute(shape, place, name="place")

    rank = builder.emit_te(ranks, x, primfunc_name_hint="rank")
    indices = builder.emit_te(places, rank, primfunc_name_hint="top_k")
    return relax.Tuple([builder.emit(relax.op.gather_elements(x, indices, axis)), indices])
