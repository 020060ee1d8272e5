"""The registry of rules: for an operator, how to write a node of it with simpler ones."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vlab.compiling.importing.rewriting.graph import Graph
from vlab.compiling.importing.rewriting.node import Node
from vlab.datasets import Array

Operand = str | Array | np.generic | Sequence[int]
"""An input of an emitted node: a value's name, a constant of numpy, or integers that become an int64 vector; "" for none."""

EMITTED_OPSET = 18
"""Version of ONNX's main operator set that rules write their nodes in."""

Rule = Callable[[Node, "Emitter"], Sequence[str] | str | None]
"""Gives the names of the node's outputs, one for each that is wanted at least; None leaves the node as it is."""

RULES: dict[tuple[str, str], Rule] = {}
"""Domain and operator → rule."""


def rewrites(*operators: str, domain: str = "") -> Callable[[Rule], Rule]:
    """Register a rule for operators."""

    def register(rule: Rule) -> Rule:
        for operator in operators:
            RULES[domain, operator] = rule
        return rule

    return register


REFUSALS: dict[tuple[str, str], str] = {
    **dict.fromkeys(
        [("", name) for name in ("NonZero", "Unique", "NonMaxSuppression")],
        "the shape of its output depends on the data, and shapes are fixed at compile time",
    ),
    **dict.fromkeys(
        [
            ("", name)
            for name in ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")
        ],
        "it draws random numbers, so there is nothing to compare the compiled model with",
    ),
}
"""Domain and operator → why no form of it compiles, unless all its inputs are constants."""


class Emitter:
    """What rules write with; every emitted node is folded and rewritten in turn.

    >>> emit("Mul", x, emit.like(2, x))  # doctest: +SKIP
    """

    def __init__(self, graph: Graph, apply: Callable[[Node], list[str]], expand: Callable[[Node], list[str]]) -> None:
        self.graph = graph
        self._apply = apply
        self.function = expand
        """The outputs of the function by which ONNX defines a node's operator."""

    def __call__(
        self, operator: str, *inputs: Operand, version: int = EMITTED_OPSET, domain: str = "", **attributes: Any
    ) -> str:
        """Emit a node with one output; returns the output."""
        return self.several(1, operator, *inputs, version=version, domain=domain, **attributes)[0]

    def several(
        self, count: int, operator: str, *inputs: Operand, version: int = EMITTED_OPSET, domain: str = "", **attributes: Any
    ) -> list[str]:
        """Emit a node with several outputs."""
        names = [self._name(value) for value in inputs]
        return self._apply(Node.made(operator, domain, version, names, attributes, count))

    def as_is(self, node: Node, *inputs: str) -> str:
        """Emit a node like this one with other inputs, without any rule."""
        return self.graph.place(dataclasses.replace(node, inputs=list(inputs)))[0]

    def like(self, value: float, name: str) -> str:
        """A scalar of the element type of a value."""
        return self.graph.constant(np.asarray(value, self.graph.dtype(name)))

    def cast(self, name: str, element: int) -> str:
        """A value in another element type (`TensorProto.DataType`)."""
        return name if self.graph.element(name) == element else self("Cast", name, to=element)

    def _name(self, value: Operand) -> str:
        if isinstance(value, str):
            return value
        return self.graph.constant(np.asarray(value, None if isinstance(value, (np.ndarray, np.generic)) else np.int64))
