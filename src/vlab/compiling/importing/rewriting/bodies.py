"""Functions that define operators: those ONNX gives with its operators' schemas."""

from collections.abc import Iterator, Mapping

import onnx

from vlab.compiling.importing.rewriting.node import Node


def captured(graph: onnx.GraphProto) -> Iterator[str]:
    """Names that a graph within a node takes from outside, or that it defines itself."""
    for node in graph.node:
        yield from node.input
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from captured(attribute.g)
    yield from (output.name for output in graph.output)


def has_body(node: Node) -> bool:
    """Whether ONNX defines the operator by a function."""
    schema = _schema(node)
    return schema is not None and (schema.has_function or schema.has_context_dependent_function)


def body(node: Node, types: Mapping[str, onnx.TypeProto]) -> onnx.FunctionProto | None:
    """ONNX's function for an operator, of the version nearest to the node's; it may depend on attributes and types."""
    schema = _schema(node)
    if schema is None:
        return None
    if schema.has_function:
        content = schema.get_function_with_opset_version(_nearest(schema.function_opset_versions, node.version))
    elif schema.has_context_dependent_function:
        known = [types.get(name, onnx.TypeProto()).SerializeToString() for name in node.inputs]
        version = _nearest(schema.context_dependent_function_opset_versions, node.version)
        content = schema.get_context_dependent_function_with_opset_version(version, node.proto().SerializeToString(), known)
    else:
        return None
    function = onnx.FunctionProto.FromString(content)
    return function if function.node else None


def defaults(node: Node) -> list[onnx.AttributeProto]:
    """Values of the attributes that a node of ONNX leaves out."""
    schema = _schema(node)
    if schema is None:
        return []
    values = [(name, attribute.default_value) for name, attribute in schema.attributes.items()]
    return [value for name, value in values if value.name and name not in node.attributes]


def _schema(node: Node) -> onnx.defs.OpSchema | None:
    try:
        return onnx.defs.get_schema(node.operator, node.version, node.domain)
    except onnx.defs.SchemaError:
        return None


def _nearest(versions: list[int], version: int) -> int:
    return max((one for one in versions if one <= version), default=min(versions))
