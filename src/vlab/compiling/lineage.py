"""Which nodes of the model a kernel comes from, followed through TVM's passes.

TVM keeps spans through few of its passes, but nearly all keep the variable that a value is bound to. So every variable of
`main` has a name of its own here, and after each pass what is new is compared with what went:

* a variable that is used where one that went was used takes over its nodes;
* so does one that stands for another, by what a pass itself tells (its attribute `origins`);
* any other new one belongs to the value it is computed for, as a change of layout does;
* what went without a successor was absorbed by the values it was computed for.

Fusion alone drops the variable of a group's last value, and merges equal groups. There the nodes go along as attributes of the
calls within groups; equal groups are merged afterwards.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import tvm
from tvm import relax
from tvm_ffi import StructuralKey

from vlab.compiling.expressions import bindings

Nodes = frozenset[str]

_FUSION = "FuseOps"
_ATTRIBUTE = "variable"
_PREFIX = "value_"
"""Begins the names given here; TVM calls its own variables lv, gv and alloc."""
_NONE: Nodes = frozenset()


class Origins:
    """Which node a value comes from, noted while a model is imported, to find the values again in the finished module."""

    def __init__(self) -> None:
        self._nodes: dict[int, tuple[Any, str]] = {}

    def note(self, node: str, result: Any) -> None:
        """A node gave this expression or tuple of expressions; of several nodes that give the same one, the first counts."""
        for value in result.fields if isinstance(result, relax.Tuple) else (result,):
            self._nodes.setdefault(hash(value), (value, node))  # kept, so that nothing else gets its hash

    def nodes(self, module: Any) -> dict[str, str]:
        """The nodes by the variables of the module's `main`, in the model's order."""
        found = {}
        for binding in bindings(module["main"]):
            noted = self._nodes.get(hash(binding.value)) or self._nodes.get(hash(binding.var))
            if noted:
                found[binding.var.name] = noted[1]
        order = {node: place for place, node in enumerate(dict.fromkeys(node for _, node in self._nodes.values()))}
        return dict(sorted(found.items(), key=lambda item: order[item[1]]))


class Lineage:
    """The nodes behind every variable of a module's `main`, while the module is transformed.

    Args:
        nodes: names of the model's nodes by the name of the variable that holds their result, in the model's order.
    """

    def __init__(self, nodes: Mapping[str, str]) -> None:
        self._order = {node: place for place, node in enumerate(dict.fromkeys(nodes.values()))}
        self._nodes: dict[str, Nodes] = {variable: frozenset([node]) for variable, node in nodes.items()}
        self._named = 0

    def of(self, variable: str) -> tuple[str, ...]:
        """Nodes behind a variable of the module as it is now, in the model's order."""
        return tuple(sorted(self._nodes.get(variable, _NONE), key=self._order.__getitem__))

    def begin(self, module: Any) -> Any:
        """Take in a module as it was imported; what is computed on the way to a node's result belongs to that node."""
        graph = _Graph(module["main"])
        found = {variable: self._nodes.get(variable.name, _NONE) for variable in graph.operands}
        for variable in reversed(graph.operands):
            found[variable] = found[variable] or _first(found, graph.users[variable])
        return self._rename(module, found)

    def follow(self, module: Any, passes: Iterable[Callable[[Any], Any]]) -> Any:
        """Run passes, from module to module, one after the other, and keep the nodes with what becomes of them."""
        for transform in passes:
            if isinstance(transform, tvm.transform.Pass) and transform.info.name == _FUSION:
                module, found = self._read_groups(transform(_annotate(module)))
            else:
                before = _Graph(module["main"])
                module = transform(module)
                found = self._compare(before, _Graph(module["main"]), getattr(transform, "origins", {}))
            module = self._rename(module, found)
        return module

    def _compare(self, before: "_Graph", after: "_Graph", origins: Mapping[str, str]) -> dict[Any, Nodes]:
        """Nodes of the variables that are there after a pass.

        Args:
            before: the function before the pass.
            after: the function after it.
            origins: name of a new variable → that of the one it stands for, where the pass tells.
        """
        predecessors = {variable: origins.get(variable.name, variable.name) for variable in after.operands}
        predecessors = {variable: name for variable, name in predecessors.items() if name in before.by_name}
        kept = set(predecessors.values())
        for variable in reversed(after.operands):  # users come before what they use
            stood = before.used_at(after.users[variable], predecessors)
            if variable not in predecessors and stood in before.by_name and stood not in kept:
                predecessors[variable] = stood
        successors = {predecessors[variable]: variable for variable in reversed(after.operands) if variable in predecessors}

        found = {variable: self._nodes[name] for variable, name in predecessors.items()}
        absorbed: dict[Any, Nodes] = {}
        for variable in before.depending():
            if variable.name in successors:
                continue
            nodes = self._nodes[variable.name] | absorbed.get(variable, _NONE)
            for user, _ in before.users[variable]:
                if user is not None and user.name in successors:
                    found[successors[user.name]] |= nodes
                elif user is not None:
                    absorbed[user] = absorbed.get(user, _NONE) | nodes
        for variable in reversed(after.operands):
            if variable not in found:
                found[variable] = _first(found, after.users[variable])
        return found

    def _read_groups(self, module: Any) -> tuple[Any, dict[Any, Nodes]]:
        """Nodes of fused groups, and the module without the attributes that tell them; equal groups become one."""
        found: dict[Any, Nodes] = {}
        firsts: dict[Any, Any] = {}
        seen: dict[Any, Any] = {}
        functions = dict(module.functions.items())
        for binding in bindings(module["main"]):
            group = functions.get(getattr(binding.value, "op", None))
            if not isinstance(group, relax.Function):
                if binding.var.name not in self._nodes:  # one of several results of a group
                    found[binding.var] = _NONE.union(*(found.get(operand, _NONE) for operand in _operands(binding.value)))
                continue
            calls = (inner.value for inner in bindings(group) if _ATTRIBUTE in (getattr(inner.value, "attrs", None) or {}))
            found[binding.var] = _NONE.union(*(self._nodes[str(call.attrs[_ATTRIBUTE])] for call in calls))
            functions[binding.value.op] = plain = _Plain(module).visit_expr(group)
            firsts[binding.value.op] = seen.setdefault(StructuralKey(plain), binding.value.op)  # type: ignore[call-arg]
        for variable, first in firsts.items():
            if not variable.same_as(first):
                del functions[variable]
        plain = tvm.IRModule(functions, attrs=module.attrs)
        plain.update_func(plain.get_global_var("main"), _Plain(module, firsts).visit_expr(module["main"]))
        return plain, found

    def _rename(self, module: Any, found: Mapping[Any, Nodes]) -> Any:
        """Give every new variable of `main` a name of its own."""
        new = {}
        for variable in found:
            if not variable.name.startswith(_PREFIX):
                self._named += 1
                new[variable] = f"{_PREFIX}{self._named}"
            self._nodes[new.get(variable, variable.name)] = found[variable]
        if new:
            module.update_func(module.get_global_var("main"), _Renaming(module, new).visit_expr(module["main"]))
        return module


class _Graph:
    """What uses what in a function."""

    def __init__(self, function: Any) -> None:
        self.operands: dict[Any, tuple[Any, ...]] = {}
        """Of every variable, in the order in which they are bound; None where an operand is no variable."""
        self.users: dict[Any, list[tuple[Any, int]]] = {}
        """Of every variable and parameter: who uses it and at which place; None for the function's result."""
        self._parameters = set(function.params)
        for binding in bindings(function):
            self.operands[binding.var] = _operands(binding.value)
            self.users.setdefault(binding.var, [])
        self._result = _operands(function.body.body)
        for user, operands in [*self.operands.items(), (None, self._result)]:
            for place, operand in enumerate(operands):
                self.users.setdefault(operand, []).append((user, place))
        self.by_name = {variable.name: variable for variable in self.operands}

    def used_at(self, uses: Iterable[tuple[Any, int]], names: Mapping[Any, str]) -> str:
        """What this function uses at one of those places.

        Args:
            uses: users in another function, and the place there.
            names: what those users are called here.
        """
        for user, place in uses:
            operands = self._result if user is None else self.operands.get(self.by_name.get(names.get(user, "")), ())
            if place < len(operands) and operands[place] is not None:
                return str(operands[place].name)
        return ""

    def depending(self) -> list[Any]:
        """Variables that depend on a parameter, in order; the others are constant."""
        reached = set(self._parameters)
        for variable, operands in self.operands.items():
            if not reached.isdisjoint(operands):
                reached.add(variable)
        return [variable for variable in self.operands if variable in reached]


@relax.expr_functor.mutator
class _Renaming(relax.PyExprMutator):  # type: ignore[misc]
    """Binds other variables in place of some."""

    def __init__(self, module: Any, names: Mapping[Any, str]) -> None:
        super().__init__(module)
        self.names = names

    def visit_dataflow_var_def_(self, var: Any) -> Any:
        return relax.DataflowVar(self.names[var], var.ty) if var in self.names else var

    def visit_var_def_(self, var: Any) -> Any:
        return relax.Var(self.names[var], var.ty) if var in self.names else var


@relax.expr_functor.mutator
class _Plain(relax.PyExprMutator):  # type: ignore[misc]
    """Calls without the attribute, and of other functions in place of some."""

    def __init__(self, module: Any, instead: Mapping[Any, Any] | None = None) -> None:
        super().__init__(module)
        self.instead = instead or {}

    def visit_call_(self, call: Any) -> Any:
        call = super().visit_call_(call)
        attributes = None if isinstance(call.attrs, tvm.ir.DictAttrs) and _ATTRIBUTE in call.attrs else call.attrs
        return relax.Call(self.instead.get(call.op, call.op), call.args, attributes, call.ty_args)


@relax.expr_functor.mutator
class _Annotating(relax.PyExprMutator):  # type: ignore[misc]
    """Kernel calls with the name of the variable they are bound to."""

    def visit_var_binding_(self, binding: Any) -> None:
        self.variable = binding.var.name
        super().visit_var_binding_(binding)

    def visit_call_(self, call: Any) -> Any:
        call = super().visit_call_(call)
        if call.op.name != "relax.call_tir":
            return call
        return relax.Call(call.op, call.args, tvm.ir.make_node("ir.DictAttrs", **{_ATTRIBUTE: self.variable}), call.ty_args)


def _annotate(module: Any) -> Any:
    module.update_func(module.get_global_var("main"), _Annotating(module).visit_expr(module["main"]))
    return module


def _first(found: Mapping[Any, Nodes], uses: Iterable[tuple[Any, int]]) -> Nodes:
    """Nodes of the first user that has any."""
    return next((found[user] for user, _ in uses if user is not None and found[user]), _NONE)


def _operands(value: Any) -> tuple[Any, ...]:
    """Variables that a value is computed from, tuples opened; None for each operand that is none."""
    if isinstance(value, tvm.ir.expr.Var):
        return (value,)
    if isinstance(value, relax.Tuple):
        return tuple(operand for field in value.fields for operand in _operands(field))
    if isinstance(value, relax.TupleGetItem):
        return _operands(value.tuple_value)
    if isinstance(value, relax.Call):
        return tuple(operand for argument in value.args for operand in (_operands(argument) or (None,)))
    return (None,)
