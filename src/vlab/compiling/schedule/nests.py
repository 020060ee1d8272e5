"""Loop nests written as nested Python functions: each loop takes a function from its index to what it does.

    rows = loop("row", 7, lambda row: store(buffer, [row], zero()))

Indices are int64; a later pass of the lowering narrows them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import tvm
from tvm import tirx

Expr = Any
Stmt = Any
Buffer = Any


def integer(value: int) -> Expr:
    """A constant index."""
    return tirx.IntImm("int64", value)


def sequence(statements: Sequence[Stmt]) -> Stmt:
    """Statements one after the other."""
    if not statements:
        return tirx.Evaluate(integer(0))
    return statements[0] if len(statements) == 1 else tirx.SeqStmt(list(statements))


def loop(name: str, extent: int, body: Callable[[Expr], Stmt], *, start: int = 0, vector: bool = False) -> Stmt:
    """A loop over `extent` values from `start`; none for a single value, nothing for no value."""
    if extent == 0:
        return sequence([])
    if extent == 1:
        return body(integer(start))
    index = tirx.Var(name, "int64")
    value = index + start if start else index
    kind = tirx.ForKind.VECTORIZED if vector else tirx.ForKind.SERIAL
    return tirx.For(index, integer(0), integer(extent), kind, body(value))


def unrolled(extent: int, body: Callable[[int], Stmt]) -> Stmt:
    """A loop unrolled here and now."""
    return sequence([body(index) for index in range(extent)])


def register(name: str, lanes: int, dtype: str = "float32") -> Buffer:
    """A buffer of one vector, which LLVM keeps in a register.

    That takes a buffer on the stack: below 1 KiB and not in TVM's scope "local". Every other one costs a call for workspace and
    lives in memory (lower_tvm_builtin.cc, kMaxStackAlloca).
    """
    return tirx.decl_buffer([lanes], dtype, name)


def load(buffer: Buffer, indices: Sequence[Any], lanes: int = 1) -> Expr:
    """Values of a buffer; with several lanes as many along the last axis, from the index on."""
    return tirx.BufferLoad(buffer, _vector(indices, lanes))


def store(buffer: Buffer, value: Expr, indices: Sequence[Any], lanes: int = 1) -> Stmt:
    """Write what `load` with the same arguments reads."""
    return tirx.BufferStore(buffer, value, _vector(indices, lanes))


def spread(value: Expr, lanes: int) -> Expr:
    """A scalar in every lane."""
    return tirx.Broadcast(value, lanes) if lanes > 1 else value


def bind(name: str, value: Expr) -> tuple[Expr, Stmt]:
    """A name for a value in all statements that follow."""
    variable = tirx.Var(name, value.ty if hasattr(value, "ty") else value.dtype)
    return variable, tirx.Bind(variable, value)


def at_places(axes: Sequence[Any], places: Sequence[Expr]) -> Callable[[Any], Any]:
    """What replaces variables by indices, in the variables' own type, when an expression is mapped."""
    pairs = [
        (axis, place if str(axis.ty.dtype) == "int64" else place.astype(str(axis.ty.dtype)))
        for axis, place in zip(axes, places, strict=True)
    ]
    return lambda node: next((place for axis, place in pairs if axis.same_as(node)), node)


def _vector(indices: Sequence[Any], lanes: int) -> list[Expr]:
    values = [tvm.tirx.convert(index) if not isinstance(index, int) else integer(index) for index in indices]
    return values if lanes == 1 else [*values[:-1], tirx.Ramp(values[-1], integer(1), lanes)]
