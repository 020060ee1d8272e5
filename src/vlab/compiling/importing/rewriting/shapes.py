"""Shapes are fixed at import: operators that ask for them give constants, and those that set them become Reshape."""

import numpy as np

from vlab.compiling.importing.rewriting.node import FormError, Node
from vlab.compiling.importing.rewriting.rules import Emitter, rewrites


@rewrites("Shape")
def _shape(node: Node, emit: Emitter) -> str:
    shape = emit.graph.shape(node.input(0))
    return emit.graph.constant(np.asarray(shape[slice(node.get("start", 0), node.get("end", len(shape)))], np.int64))


@rewrites("Size")
def _size(node: Node, emit: Emitter) -> str:
    return emit.graph.constant(np.asarray(np.prod(emit.graph.shape(node.input(0)), dtype=np.int64)))


@rewrites("Identity", "Optional", "OptionalGetElement")
def _identity(node: Node, emit: Emitter) -> str:  # noqa: ARG001
    return node.input(0)


@rewrites("Constant")
def _constant(node: Node, emit: Emitter) -> str:
    """The value under whichever of its attributes is given."""
    numbers = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    for name, dtype in numbers.items():
        if name in node.attributes:
            return emit.graph.constant(np.asarray(node.get(name, None), dtype))
    if "value" not in node.attributes:
        raise FormError("it holds no numbers; expected a tensor of numbers")
    return emit.graph.constant(node.attributes["value"].t)


@rewrites("Squeeze", "Unsqueeze", "Flatten", "Reshape")
def _same_values(node: Node, emit: Emitter) -> str | None:
    """A Reshape to the inferred shape, whatever way of saying it the operator has."""
    _constant_argument(node, emit, 1)
    shape = emit.graph.inferred(node)
    if node.operator == "Reshape" and tuple(emit.graph.need(node.input(1), "its shape")) == shape:
        return None
    return emit("Reshape", node.input(0), shape)


@rewrites("ConstantOfShape", "Range", "Expand", "Tile")
def _given_extents(node: Node, emit: Emitter) -> None:
    """What fixes the output's shape must be constant."""
    for place in range(0 if node.operator in ("ConstantOfShape", "Range") else 1, len(node.inputs)):
        _constant_argument(node, emit, place)


def _constant_argument(node: Node, emit: Emitter, place: int) -> None:
    if node.input(place):
        emit.graph.need(node.input(place), "what sets the shape of its output")
