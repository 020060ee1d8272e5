"""One node as rules see it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnx
from onnx import helper


class FormError(Exception):
    """An operator is known, but not in this form; says which form, and what to use instead."""


@dataclass
class Node:
    """An operator with its inputs, which are names of values of the graph that is built."""

    operator: str
    domain: str
    version: int
    """Of the operator set of its domain."""
    inputs: list[str]
    """Empty names stand for what is left out."""
    attributes: Mapping[str, onnx.AttributeProto]
    wanted: list[bool]
    """For each output, whether it has a name."""

    @classmethod
    def made(
        cls, operator: str, domain: str, version: int, inputs: list[str], values: Mapping[str, Any], outputs: int
    ) -> "Node":
        """A node with attributes from Python values."""
        attributes = {name: helper.make_attribute(name, value) for name, value in values.items()}
        return cls(operator, domain, version, inputs, attributes, [True] * outputs)

    @property
    def title(self) -> str:
        """The operator, with its domain where that is not ONNX's own."""
        return f"{self.domain}.{self.operator}" if self.domain else self.operator

    def input(self, place: int) -> str:
        """Name of an input; empty where it is left out."""
        return self.inputs[place] if place < len(self.inputs) else ""

    def wants(self, place: int) -> bool:
        """Whether anybody may use an output."""
        return place < len(self.wanted) and self.wanted[place]

    def get(self, name: str, default: Any) -> Any:
        """An attribute's value; strings are decoded."""
        if name not in self.attributes:
            return default
        value = helper.get_attribute_value(self.attributes[name])
        if isinstance(value, bytes):
            return value.decode()
        if isinstance(value, list):
            return [one.decode() if isinstance(one, bytes) else one for one in value]
        return value

    def graph(self, name: str) -> onnx.GraphProto:
        """A graph within the node.

        Raises:
            FormError: it has none of that name.
        """
        if name not in self.attributes:
            raise FormError(f"it has no {name}")
        return self.attributes[name].g

    def graphs(self) -> list[onnx.GraphProto]:
        """The graphs within the node."""
        return [one.g for one in self.attributes.values() if one.type == onnx.AttributeProto.GRAPH]

    def proto(self) -> onnx.NodeProto:
        """The node for ONNX, with outputs named by their places."""
        outputs = [f"out{place}" if wanted else "" for place, wanted in enumerate(self.wanted)]
        proto = helper.make_node(self.operator, self.inputs, outputs, domain=self.domain)
        proto.attribute.extend(self.protos())
        return proto

    def protos(self) -> list[onnx.AttributeProto]:
        """Its attributes under their own names, without empty lists, which say the same as their absence."""
        kept = []
        for name, attribute in self.attributes.items():
            copy = onnx.AttributeProto()
            copy.CopyFrom(attribute)
            copy.name = name
            value = helper.get_attribute_value(copy)
            if not isinstance(value, (list, tuple)) or value:
                kept.append(copy)
        return kept
