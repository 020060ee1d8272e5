"""Values that an expression names (`Let`) as local variables in memory, which LLVM turns into registers again.

Functions as arithmetic name a value wherever they read it twice, and the argument of one may hold another, as in the gates of
an LSTM. The code generator simplifies every named value with the names in it put back, both ways of every `Select` apart: time
and memory grow exponentially with the depth. It does not look into memory, so that a store and loads cost what they are long.
"""

from typing import Any

from tvm import tirx
from tvm.ir import Call
from tvm.ir.expr import Var
from tvm_ffi import structural_map, structural_walk


def name_in_memory(function: Any) -> Any:
    """A lowered kernel without names in the expressions that its statements store or bind."""
    body = structural_map(function.body, [(tirx.BufferStore, _stored), (tirx.Bind, _bound)])
    return function.with_body(body)


def _stored(store: Any) -> Any:
    statements, value = _apart(store.value)
    return tirx.SeqStmt([*statements, tirx.BufferStore(store.buffer, value, list(store.indices))]) if statements else store


def _bound(bind: Any) -> Any:
    statements, value = _apart(bind.value)
    return tirx.SeqStmt([*statements, tirx.Bind(bind.var, value)]) if statements else bind


def _apart(expression: Any) -> tuple[list[Any], Any]:
    """Statements that compute what an expression names, each after those it needs, and the expression that reads them."""
    if _named_in_a_branch(expression):
        return [], expression
    values: dict[Any, Any] = {}

    def take(let: Any) -> Any:
        values[let.var] = let.value
        return let.body

    rest = structural_map(expression, [(tirx.Let, take)])
    loads: dict[Any, Any] = {}
    statements: list[Any] = []

    def read(value: Any) -> Any:
        structural_walk(value, (Var, need))
        return structural_map(value, [(Var, lambda variable: loads.get(variable, variable))])

    def need(variable: Any) -> None:
        if variable not in values or variable in loads:
            return
        value = read(values[variable])
        buffer = tirx.decl_buffer([1], str(variable.ty.dtype), variable.name, scope="local")
        place = [tirx.IntImm("int32", 0)]
        loads[variable] = tirx.BufferLoad(buffer, place)
        statements.extend([tirx.AllocBuffer(buffer), tirx.BufferStore(buffer, value, place)])

    return statements, read(rest) if values else rest


def _named_in_a_branch(expression: Any) -> bool:
    """Whether a name lies in a branch that may not be taken, and must not be computed then."""
    branches: list[Any] = []

    def branch(call: Any) -> None:
        if getattr(call.op, "name", "") == "tirx.if_then_else":
            branches.extend(call.args[1:])

    structural_walk(expression, (Call, branch))
    names: list[Any] = []
    for one in branches:
        structural_walk(one, (tirx.Let, names.append))
    return bool(names)
