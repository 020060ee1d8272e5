"""Rewrite an ONNX model into operators that the importer takes and takes rightly, with everything constant computed.

The model's nodes are walked over once. A node of constants is computed (`folding`), a call of the model's own functions or of
an operator that ONNX defines by a function is replaced by the function (`bodies`), loops and branches that constants decide are
unrolled (`control`), and for everything else that the importer does not know, or gets wrong, there is a rule: one function for
one operator, registered by name (`rules`), in a module for its theme. What a rule emits is folded and rewritten in turn.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx

from vlab.compiling.importing.refusing import Refused
from vlab.compiling.importing.rewriting import (  # noqa: F401 - modules register their rules
    arithmetic,
    contributed,
    convolving,
    indexing,
    normalizing,
    pooling,
    quantised,
    recurrent,
    resizing,
    shapes,
    spectral,
)
from vlab.compiling.importing.rewriting.rewriter import Rewriter
from vlab.compiling.importing.rewriting.scope import Scope

__all__ = ["Rewritten", "rewrite"]


@dataclass(frozen=True)
class Rewritten:
    """A model in the importer's operators."""

    graph: onnx.GraphProto
    """Names of nodes are unique and begin with the name of the model's node they come from."""
    versions: dict[str, int]
    """Node name → version of its domain's operator set: nodes of one graph may differ."""
    origins: dict[str, str]
    """Node name → name of the model's node that it comes from."""
    types: dict[str, onnx.TypeProto]
    """What is known about values."""
    refused: tuple[Refused, ...]
    """Nodes that cannot be compiled; the graph is not complete unless there are none."""


def rewrite(model: onnx.ModelProto, known: Callable[[str, str], bool]) -> Rewritten:
    """Rewrite a valid model with fixed input shapes.

    Args:
        model: left as it is.
        known: whether the importer takes an operator, by domain (empty for ONNX's own) and name.
    """
    functions = {(function.domain, function.name): function for function in model.functions}
    rewriter = Rewriter(known, functions)
    built = rewriter.graph
    names = {}
    for tensor in model.graph.initializer:
        names[tensor.name] = built.constant(tensor, tensor.name)
    inputs = [about for about in model.graph.input if about.name not in names]
    for about in inputs:
        names[about.name] = built.fresh(about.name)
        built.types[about.name] = about.type
    opsets = {"" if one.domain == "ai.onnx" else one.domain: one.version for one in model.opset_import}
    scope = Scope(names, opsets)
    rewriter.walk(model.graph.node, scope, top=True)

    outputs = [onnx.ValueInfoProto(name=scope.names[output.name]) for output in model.graph.output]
    graph = onnx.GraphProto(name=model.graph.name, input=inputs, output=outputs)
    graph.node.extend(_used(built.nodes, [output.name for output in outputs]))
    needed = {name for node in graph.node for name in node.input} | {output.name for output in outputs}
    for name, tensor in built.constants.items():
        if name in needed:
            graph.initializer.add().CopyFrom(tensor)
            graph.initializer[-1].name = name
    return Rewritten(graph, built.versions, built.origins, built.types, tuple(rewriter.refused))


def _used(nodes: Sequence[onnx.NodeProto], outputs: Sequence[str]) -> list[onnx.NodeProto]:
    """The nodes that outputs depend on, in their order."""
    needed, kept = set(outputs), []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    return kept[::-1]
