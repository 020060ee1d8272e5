"""Rewriting of a Relax main function, binding by binding: a variable keeps its name and type and gets another value."""

from collections.abc import Callable
from typing import Any

import tvm
from tvm import relax

from vlab.compiling.expressions import bindings, operator


class Definitions:
    """What the variables of a function are bound to, and how often each is read."""

    def __init__(self, function: Any) -> None:
        self._values: dict[Any, Any] = {}
        self._reads: dict[Any, int] = {}
        for binding in bindings(function):
            self.define(binding)
            self._count(binding.value)
        self._count(function.body.body)

    def define(self, binding: Any) -> None:
        """From now on the variable has this value; reads stay as they were counted."""
        self._values[binding.var] = binding.value

    def _count(self, value: Any) -> None:
        for variable in relax.analysis.free_vars(value):
            self._reads[variable] = self._reads.get(variable, 0) + 1

    def call(self, value: Any, *operators: str) -> Any:
        """The call of one of the operators that a variable is bound to, or None."""
        bound = self._values.get(value) if isinstance(value, relax.Var) else value
        return bound if operator(bound) in operators else None

    def reads(self, variable: Any) -> int:
        """Number of values that read the variable."""
        return self._reads.get(variable, 0)


Rule = Callable[[Any, Definitions, Any], Any]
"""From a binding, the definitions and a block builder to another value, or to None where the value stays."""


def rewrite(module: Any, rule: Rule) -> Any:
    """Ask the rule about every binding of the main function, in order; what nothing reads afterwards is removed."""
    function = module["main"]
    definitions, builder = Definitions(function), relax.BlockBuilder(module)
    blocks = []
    for block in function.body.blocks:
        changed = []
        for binding in block.bindings:
            value = rule(binding, definitions, builder)
            changed.append(binding if value is None else relax.VarBinding(binding.var, value))
            definitions.define(changed[-1])
        kind = relax.DataflowBlock if isinstance(block, relax.DataflowBlock) else relax.BindingBlock
        blocks.append(kind(changed))
    body = relax.SeqExpr(blocks, function.body.body)
    rewritten = relax.Function(function.params, body, function.ret_ty, function.is_pure, function.attrs)
    module = builder.get()
    module.update_func(module.get_global_var("main"), rewritten)
    passes = [relax.transform.Normalize(), relax.transform.DeadCodeElimination()]
    return tvm.transform.Sequential(passes)(module)
