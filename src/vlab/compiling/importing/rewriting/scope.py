"""What names mean within a graph or a function."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx

from vlab.compiling.importing.rewriting.node import Node


@dataclass
class Scope:
    """Names, versions of operator sets, and the attributes that a function was called with."""

    names: dict[str, str]
    """Names within → values of the graph that is built."""
    opsets: Mapping[str, int]
    """Domain → version; ONNX's own domain is empty."""
    given: Mapping[str, onnx.AttributeProto] = field(default_factory=dict)

    def inner(self, names: Mapping[str, str]) -> "Scope":
        """The scope of a graph within a node, which sees what is outside."""
        return Scope({**self.names, **names}, self.opsets, self.given)

    def node(self, proto: onnx.NodeProto) -> Node:
        """A node with its inputs' names resolved, and attributes that refer to a function's replaced by what was given."""
        domain = "" if proto.domain == "ai.onnx" else proto.domain
        inputs = [self.names[name] if name else "" for name in proto.input]
        while inputs and not inputs[-1]:
            inputs.pop()
        attributes = {}
        for attribute in proto.attribute:
            source = self.given.get(attribute.ref_attr_name) if attribute.ref_attr_name else attribute
            if source is not None:
                attributes[attribute.name] = source
        version = self.opsets.get(domain, 1)
        return Node(proto.op_type, domain, version, inputs, attributes, [bool(name) for name in proto.output])
