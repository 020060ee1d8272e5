"""Functions of one real number, as Relax operators compute them, in float32 over numpy: what tables are filled with."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from vlab.compiling.integer.constants import value
from vlab.compiling.integer.graph import Graph, Real, operator

Floats = npt.NDArray[np.float32]
Function = Callable[[Floats], Floats]

_erf = np.vectorize(math.erf, otypes=[np.float64])


def _exp(x: Floats) -> Floats:
    """Correctly rounded, as the C library's is nearly always."""
    return np.asarray(np.exp(x.astype(np.float64)), np.float32)


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(np.float32(1) / (np.float32(1) + _exp(-x)), np.float32)


def _in_double(function: Callable[[Any], Any]) -> Function:
    return lambda x: np.asarray(function(x.astype(np.float64)), np.float32)


_UNARY: dict[str, Function] = {
    "sigmoid": _sigmoid,
    "exp": _exp,
    "tanh": _in_double(np.tanh),
    "log": _in_double(np.log),
    "sqrt": _in_double(np.sqrt),
    "rsqrt": _in_double(lambda x: 1 / np.sqrt(x)),
    "erf": _in_double(_erf),
    "sin": _in_double(np.sin),
    "cos": _in_double(np.cos),
    "abs": np.abs,
    "negative": np.negative,
    "floor": np.floor,
    "ceil": np.ceil,
    "round": np.round,
    "square": np.square,
    "nn.relu": lambda x: np.maximum(x, np.float32(0)),
    "nn.silu": lambda x: x * _sigmoid(x),
    "nn.gelu": _in_double(lambda x: 0.5 * x * (1 + _erf(x / math.sqrt(2)))),
    "nn.gelu_tanh": _in_double(lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))),
    "nn.softplus": _in_double(lambda x: np.log1p(np.exp(x))),
}
_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
    "power": np.power,
    "maximum": np.maximum,
    "minimum": np.minimum,
}


def function_of_one(graph: Graph, expression: Any) -> tuple[Real, Function] | None:
    """The quantised tensor that an expression is an elementwise function of, and the function; None if it is not one."""
    if expression in graph.reals:
        return graph.reals[expression], lambda x: x
    call: Any = graph.bindings.get(expression)
    name = operator(call)
    if name in ("clip", "nn.leakyrelu") or name in _UNARY:
        inner = function_of_one(graph, call.args[0])
        return None if inner is None else (inner[0], _after(_unary(name, call), inner[1]))
    if name in _BINARY:
        return _binary(graph, call, _BINARY[name])
    return None


def _unary(name: str, call: Any) -> Function:
    if name == "clip":
        low, high = (np.float32(bound.value) for bound in call.args[1:])
        return lambda x: np.clip(x, low, high)
    if name == "nn.leakyrelu":
        slope = np.float32(call.attrs.alpha)
        return lambda x: np.where(x >= 0, x, slope * x).astype(np.float32)
    return _UNARY[name]


def _after(outer: Function, inner: Function) -> Function:
    return lambda x: outer(inner(x))


def _binary(graph: Graph, call: Any, combine: Callable[[Any, Any], Any]) -> tuple[Real, Function] | None:
    """Of a function and a number, or of two functions of the same tensor."""
    sides: list[Function] = []
    reals: list[Real] = []
    for argument in call.args:
        number = value(argument)
        if number is not None and number.size == 1:
            sides.append(_always(np.float32(number.ravel()[0])))
            continue
        found = function_of_one(graph, argument)
        if found is None:
            return None
        reals.append(found[0])
        sides.append(found[1])
    if not reals or any(real != reals[0] for real in reals):
        return None
    left, right = sides
    return reals[0], lambda x: np.asarray(combine(left(x), right(x)), np.float32)


def _always(number: np.float32) -> Function:
    return lambda x: np.full_like(x, number)
