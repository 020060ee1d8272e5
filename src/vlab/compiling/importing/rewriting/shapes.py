"""Shapes are fixed when a model is imported, so operators that ask for them give constants."""

import numpy as np

from vlab.compiling.importing.rewriting.node import Node
from vlab.compiling.importing.rewriting.rules import Emitter, rewrites


@rewrites("Shape")
def _shape(node: Node, emit: Emitter) -> str:
    shape = emit.graph.shape(node.input(0))
    rank = len(shape)
    return emit.graph.constant(np.asarray(shape[slice(node.get("start", 0), node.get("end", rank))], np.int64))


@rewrites("Size")
def _size(node: Node, emit: Emitter) -> str:
    return emit.graph.constant(np.asarray(np.prod(emit.graph.shape(node.input(0)), dtype=np.int64)))


@rewrites("Identity")
def _identity(node: Node, emit: Emitter) -> str:  # noqa: ARG001
    return node.input(0)


@rewrites("Constant")
def _constant(node: Node, emit: Emitter) -> str:
    """The value under whichever of its attributes is given."""
    for name, dtype in (
        ("value_float", np.float32),
        ("value_floats", np.float32),
        ("value_int", np.int64),
        ("value_ints", np.int64),
    ):
        if name in node.attributes:
            return emit.graph.constant(np.asarray(node.get(name, None), dtype))
    return emit.graph.constant(node.get("value", None))
