"""Walk over a model's nodes once: fold constants, apply rules, expand functions, and collect what cannot be compiled."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import onnx

from vlab.compiling.importing.refusing import Refused
from vlab.compiling.importing.rewriting import bodies
from vlab.compiling.importing.rewriting.control import CONTROL
from vlab.compiling.importing.rewriting.graph import Graph
from vlab.compiling.importing.rewriting.node import FormError, Node
from vlab.compiling.importing.rewriting.rules import REFUSALS, RULES, Emitter
from vlab.compiling.importing.rewriting.scope import Scope

_DEEPEST = 64
"""Rules and functions within one another; no operator comes near it."""


class _UnknownError(FormError):
    """Nobody takes the operator."""

    def __init__(self, node: Node) -> None:
        super().__init__(f"it needs {node.title}, which cannot be compiled")
        self.node = node


@dataclass
class Rewriter:
    """The walk, and what it found."""

    known: Callable[[str, str], bool]
    """Whether the importer takes an operator of a domain."""
    functions: Mapping[tuple[str, str], onnx.FunctionProto]
    """The model's own functions by domain and name."""
    graph: Graph = field(default_factory=Graph)
    refused: list[Refused] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)
    """Values that refused nodes would have given."""
    depth: int = 0

    def walk(self, nodes: Iterable[onnx.NodeProto], scope: Scope, *, top: bool = False) -> None:
        """Take in nodes; their outputs are added to the scope.

        Args:
            nodes: in topological order.
            scope: what names mean.
            top: whether the nodes are the model's own, whose names users know.
        """
        for proto in nodes:
            if top:
                self.graph.origin = proto.name
            node = scope.node(proto)
            wishes = list(proto.output) if top else []
            for local, value in zip(proto.output, self._guarded(node, scope, wishes), strict=False):
                if local:
                    scope.names[local] = value

    def expand(self, node: Node, function: onnx.FunctionProto, defaults: Sequence[onnx.AttributeProto] = ()) -> list[str]:
        """The outputs of a function that a node calls."""
        given = {attribute.name: attribute for attribute in [*defaults, *function.attribute_proto, *node.protos()]}
        names = {name: node.input(place) for place, name in enumerate(function.input)}
        opsets = {"" if one.domain == "ai.onnx" else one.domain: one.version for one in function.opset_import}
        newest = onnx.defs.onnx_opset_version()  # for functions of operators of other domains, which do not say
        scope = Scope(names, {"": newest if node.domain else node.version, **opsets}, given)
        self.walk(function.node, scope)
        return [scope.names.get(name, "") for name in function.output[: len(node.wanted)]]

    def _function(self, node: Node) -> list[str]:
        """The outputs of ONNX's function for a node; what is refused within it is the node's own fault."""
        body = bodies.body(node, self.graph.types)
        if body is None:
            raise _UnknownError(node)
        before = len(self.refused)
        outputs = self.expand(node, body, bodies.defaults(node))
        if inner := self.refused[before:]:
            del self.refused[before:]
            raise FormError(
                f"it needs {inner[0].operator}: {inner[0].why}" if inner[0].why else f"it needs {inner[0].operator}"
            )
        return outputs

    def _guarded(self, node: Node, scope: Scope, wishes: Sequence[str]) -> list[str]:
        """The node's outputs; those of a refused one are lost, and whoever takes a lost value is not looked at closely."""
        before = len(self.refused)
        outside = {*node.inputs, *(scope.names.get(name, "") for graph in node.graphs() for name in bodies.captured(graph))}
        try:
            if not outside & self.lost:
                return self._apply(node, scope, wishes)
            if (node.domain, node.operator) in REFUSALS:
                raise FormError(REFUSALS[node.domain, node.operator])
            if not self._takes(node):
                raise _UnknownError(node)
        except _UnknownError as error:
            self._refuse(node, "" if error.node is node else str(error))
        except FormError as error:
            if len(self.refused) == before:  # nothing within it is refused already
                self._refuse(node, str(error))
        outputs = [self.graph.fresh(f"{self.graph.origin}/lost") for _ in node.wanted]
        self.lost.update(outputs)
        return outputs

    def _refuse(self, node: Node, why: str) -> None:
        self.refused.append(Refused(node.title, self.graph.origin, why))

    def _takes(self, node: Node) -> bool:
        key = (node.domain, node.operator)
        return key in RULES or key in self.functions or key in CONTROL or self.known(*key) or bodies.has_body(node)

    def _apply(self, node: Node, scope: Scope, wishes: Sequence[str] = ()) -> list[str]:
        self.depth += 1
        try:
            return self._written(node, scope, wishes)
        finally:
            self.depth -= 1

    def _written(self, node: Node, scope: Scope, wishes: Sequence[str]) -> list[str]:
        """The first that applies: control flow, the model's function, constants, a rule, the importer, ONNX's function."""
        key = (node.domain, node.operator)
        if self.depth > _DEEPEST:
            raise FormError(f"its functions call one another more than {_DEEPEST} deep; inline them when exporting")
        emit = Emitter(self.graph, lambda inner: self._apply(inner, scope), self._function)
        if control := CONTROL.get(key):
            return control(node, scope, emit, self.walk)
        if function := self.functions.get(key):
            return self.expand(node, function)
        if (values := self.graph.fold(node, wishes)) is not None:
            return values
        if key in REFUSALS:
            raise FormError(REFUSALS[key])
        if rule := RULES.get(key):
            given = rule(node, emit)
            if given is not None:
                return [given] if isinstance(given, str) else list(given)
        if self.known(*key):
            return self.graph.place(node, wishes)
        return self._function(node)
