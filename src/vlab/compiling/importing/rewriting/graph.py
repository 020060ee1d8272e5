"""The graph that rewriting builds: nodes with known types and constants, emitted one after the other."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from vlab.compiling.importing.rewriting.folding import evaluate, foldable
from vlab.compiling.importing.rewriting.node import FormError, Node
from vlab.datasets import Array

_MOST_NODES = 50_000
_LARGEST_HINT = 1024
"""Elements of a constant that type inference is shown; larger ones are never shapes or axes."""


@dataclass
class Graph:
    """Nodes in order, and what is known about every value. The names of values and nodes are unique."""

    types: dict[str, onnx.TypeProto] = field(default_factory=dict)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    versions: dict[str, int] = field(default_factory=dict)
    """Node name → version of its domain's operator set."""
    origins: dict[str, str] = field(default_factory=dict)
    """Node name → name of the model's node that it was emitted for."""
    origin: str = ""
    """Name of the model's node that is worked on; begins the names of what is emitted for it."""
    _numbers: dict[str, int] = field(default_factory=dict)
    """Names of values and nodes in use, and how many were wished for under each."""

    def fresh(self, wish: str) -> str:
        """The name that was wished for, or one like it that is not in use."""
        name = wish
        while name in self._numbers:
            self._numbers[wish] += 1
            name = f"{wish}.{self._numbers[wish]}"
        self._numbers[name] = 0
        return name

    def constant(self, value: Array | onnx.TensorProto, wish: str = "") -> str:
        """A constant as a value."""
        tensor = value if isinstance(value, onnx.TensorProto) else numpy_helper.from_array(np.asarray(value))
        name = self.fresh(wish or f"{self.origin}/constant")
        self.constants[name] = tensor
        self.types[name] = helper.make_tensor_type_proto(tensor.data_type, list(tensor.dims))
        return name

    def known(self, name: str) -> Array | None:
        """A constant's value; None of what is computed."""
        tensor = self.constants.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def need(self, name: str, what: str) -> Array:
        """A constant's value.

        Raises:
            FormError: it is computed.
        """
        value = self.known(name)
        if value is None:
            raise FormError(f"{what} is computed while the model runs; expected a constant")
        return value

    def element(self, name: str) -> int:
        """Element type of a tensor (`TensorProto.DataType`); 0 where it is unknown."""
        about = self.types.get(name)
        return int(about.tensor_type.elem_type) if about is not None else 0

    def dtype(self, name: str) -> np.dtype[Any]:
        """Element type of a tensor for numpy.

        Raises:
            FormError: it is unknown.
        """
        element = self.element(name)
        if not element:
            raise FormError(f"the type of its input {name} is unknown")
        return _dtype(self.types[name])

    def static(self, name: str) -> tuple[int, ...] | None:
        """Shape of a tensor; None where it is not fixed."""
        return _extents(self.types.get(name))

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor.

        Raises:
            FormError: it depends on values that are computed.
        """
        shape = self.static(name)
        if shape is None:
            raise FormError(f"the shape of its input {name} depends on values that are computed; expected fixed shapes")
        return shape

    def inferred(self, node: Node) -> tuple[int, ...]:
        """Shape of a node's first output.

        Raises:
            FormError: the node does not fit its inputs, or the shape is not fixed.
        """
        types = self._infer(node)
        shape = _extents(next(iter(types.values()), None))
        if shape is None:
            raise FormError("the shape of its output depends on values that are computed; expected fixed shapes")
        return shape

    def fold(self, node: Node, wishes: Sequence[str]) -> list[str] | None:
        """The outputs of a node whose inputs are constants; None where it is left to be computed.

        Raises:
            FormError: the node does not fit its inputs.
        """
        inferred = self._infer(node)
        values: Sequence[Array] | None
        if inferred and all(0 in (_extents(about) or ()) for about in inferred.values()):
            values = [np.empty(_extents(about) or (), _dtype(about)) for about in inferred.values()]  # nothing to compute
        else:
            if any(name and name not in self.constants for name in node.inputs) or not foldable(node):
                return None
            arrays = [numpy_helper.to_array(self.constants[name]) if name else None for name in node.inputs]
            values = evaluate(node, arrays, list(inferred.values()))
        if values is None:
            return None
        wished = [*wishes, *[""] * len(values)]
        return [self.constant(value, wish) for value, wish in zip(values, wished, strict=False)]

    def place(self, node: Node, wishes: Sequence[str] = ()) -> list[str]:
        """Add a node as it is.

        Args:
            node: what to add.
            wishes: names for its outputs, as far as they are free.

        Raises:
            FormError: the node does not fit its inputs.
        """
        if any(self.element(name) == onnx.TensorProto.STRING for name in node.inputs):
            raise FormError("it computes with text; turn text into numbers before the model")
        inferred = self._infer(node)
        if len(self.nodes) >= _MOST_NODES:
            raise FormError(
                f"it expands the model to more than {_MOST_NODES} nodes; use a shorter sequence or fewer iterations"
            )
        proto = node.proto()
        proto.name = self.fresh(self.origin if wishes else f"{self.origin}/{node.operator}")
        outputs = []
        for place, local in enumerate(proto.output):
            wish = wishes[place] if place < len(wishes) and wishes[place] else f"{proto.name}/out"
            outputs.append(self.fresh(wish) if local else "")
            if local in inferred:
                self.types[outputs[-1]] = inferred[local]
        proto.output[:] = outputs
        self.nodes.append(proto)
        self.versions[proto.name] = node.version
        self.origins[proto.name] = self.origin
        return outputs

    def _infer(self, node: Node) -> dict[str, onnx.TypeProto]:
        """Types of a node's outputs by their local names; empty of operators that ONNX does not define."""
        try:
            schema = onnx.defs.get_schema(node.operator, node.version, node.domain)
        except onnx.defs.SchemaError:
            return {}
        types = {name: self.types[name] for name in node.inputs if name in self.types}
        hints = {
            name: self.constants[name]
            for name in node.inputs
            if name in self.constants and np.prod(self.constants[name].dims, dtype=np.int64) <= _LARGEST_HINT
        }
        opsets = [helper.make_opsetid(node.domain, node.version)]
        try:
            return dict(
                onnx.shape_inference.infer_node_outputs(schema, node.proto(), types, hints, None, opsets, onnx.IR_VERSION)
            )
        except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as error:
            raise FormError(f"its inputs do not fit it: {' '.join(str(error).split())[:200]}") from error


def _extents(about: onnx.TypeProto | None) -> tuple[int, ...] | None:
    """Shape of a tensor type; None where it is not fixed."""
    if about is None or not about.HasField("tensor_type") or not about.tensor_type.HasField("shape"):
        return None
    extents = about.tensor_type.shape.dim
    if any(not extent.HasField("dim_value") for extent in extents):
        return None
    return tuple(int(extent.dim_value) for extent in extents)


def _dtype(about: onnx.TypeProto) -> np.dtype[Any]:
    dtype: np.dtype[Any] = helper.tensor_dtype_to_np_dtype(about.tensor_type.elem_type)
    return dtype
