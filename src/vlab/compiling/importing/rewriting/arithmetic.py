"""Elementwise operators that the importer lacks or gets wrong in some form."""

import numpy as np
from onnx import TensorProto

from vlab.compiling.importing.rewriting.bodies import has_body
from vlab.compiling.importing.rewriting.node import FormError, Node
from vlab.compiling.importing.rewriting.rules import Emitter, rewrites

_FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)
_LARGEST_UNROLLED_POWER = 8


@rewrites("Pow")
def _pow(node: Node, emit: Emitter) -> str | None:
    """Both sides in one float type; the result has the type of the base. Small whole powers are products."""
    base, exponent = node.inputs
    element = emit.graph.element(base)
    value = emit.graph.known(exponent)
    scalar = value is not None and value.size == 1 and value.ndim <= len(emit.graph.shape(base))
    if value is not None and scalar and value.item() in range(1, _LARGEST_UNROLLED_POWER + 1):
        return _product_of(base, int(value.item()), emit)
    if element in _FLOATS and emit.graph.element(exponent) == element:
        return None
    wide = element if element in _FLOATS else TensorProto.DOUBLE
    power = emit("Pow", emit.cast(base, wide), emit.cast(exponent, wide))
    return emit.cast(power, element)


def _product_of(base: str, power: int, emit: Emitter) -> str:
    """Base ** power by squaring."""
    if power == 1:
        return base
    half = _product_of(base, power // 2, emit)
    square = emit("Mul", half, half)
    return emit("Mul", square, base) if power % 2 else square


@rewrites("BitShift")
def _bit_shift(node: Node, emit: Emitter) -> str | None:
    """Amounts that are negative or not below the width leave the sign alone; machines differ about them (ONNX, version 28)."""
    x, by = node.inputs
    amounts = emit.graph.known(by)
    width = 8 * emit.graph.dtype(x).itemsize
    if amounts is not None and amounts.size and amounts.min() >= 0 and amounts.max() < width:
        return None
    zero, none = emit.like(0, x), emit.like(0, by)
    inside = emit("And", emit("GreaterOrEqual", by, none), emit("Less", by, emit.like(width, by)))
    shifted = emit.as_is(node, x, emit("Where", inside, by, none))
    signed = node.get("direction", "LEFT") == "RIGHT" and emit.graph.dtype(x).kind == "i"
    beyond = emit("Where", emit("Less", x, zero), emit.like(-1, x), zero) if signed else zero
    return emit("Where", inside, shifted, beyond)


@rewrites("IsInf")
def _isinf(node: Node, emit: Emitter) -> str | None:
    positive, negative = node.get("detect_positive", 1), node.get("detect_negative", 1)
    x = node.input(0)
    if positive and negative:
        return None
    zero = emit.like(0, x)
    if not positive and not negative:
        return emit("And", emit("Less", x, zero), emit("Greater", x, zero))
    return emit("And", emit("IsInf", x), emit("Greater" if positive else "Less", x, zero))


@rewrites("Sum", "Mean")
def _several(node: Node, emit: Emitter) -> str:
    total = node.inputs[0]
    for name in node.inputs[1:]:
        total = emit("Add", total, name)
    if node.operator == "Sum" or len(node.inputs) == 1:
        return total
    return emit("Div", total, emit.like(len(node.inputs), total))


@rewrites("Mish")
def _mish(node: Node, emit: Emitter) -> str:
    """X tanh(ln(1 + e^x)); as the quotient n / (n + 2) with n = e^x (e^x + 2), which loses nothing to cancellation.

    Above 20 the quotient is 1 to the last bit of float32 and e^x is kept from overflowing.
    """
    x = node.input(0)
    e = emit("Exp", emit("Min", x, emit.like(20, x)))
    n = emit("Mul", e, emit("Add", e, emit.like(2, x)))
    return emit("Mul", x, emit("Div", n, emit("Add", n, emit.like(2, x))))


@rewrites("Celu", "Elu", "HardSigmoid", "HardSwish", "LeakyRelu", "PRelu", "Selu", "Shrink", "Softplus", "Softsign",
          "ThresholdedRelu")  # fmt: skip
def _activation(node: Node, emit: Emitter) -> list[str] | None:
    """By ONNX's function for other types than float32, whose constants the importer writes in float32."""
    return emit.function(node) if emit.graph.element(node.input(0)) != TensorProto.FLOAT and has_body(node) else None


@rewrites("Sinh", "Cosh")
def _hyperbolic(node: Node, emit: Emitter) -> str:
    """(e^x -+ e^-x) / 2, with the half as ln 2 in the exponents so that nothing overflows before the result does.

    Below 1 the difference would cancel: there sinh(x) = 2t / (1 - t^2) with t = tanh(x / 2).
    """
    x = node.input(0)
    half = emit.like(float(np.log(2)), x)
    up, down = emit("Exp", emit("Sub", x, half)), emit("Exp", emit("Sub", emit("Neg", x), half))
    if node.operator == "Cosh":
        return emit("Add", up, down)
    t = emit("Tanh", emit("Mul", x, emit.like(0.5, x)))
    near = emit("Div", emit("Add", t, t), emit("Sub", emit.like(1, x), emit("Mul", t, t)))
    return emit("Where", emit("Less", emit("Abs", x), emit.like(1, x)), near, emit("Sub", up, down))


@rewrites("Dropout")
def _dropout(node: Node, emit: Emitter) -> list[str]:
    """Nothing but its input, and a mask of ones where anybody asks: inference drops nothing."""
    ratio = emit.graph.need(node.input(1), "its ratio").item() if node.input(1) else node.get("ratio", 0.5)
    training = bool(emit.graph.need(node.input(2), "its training_mode").item()) if node.input(2) else False
    if training and ratio != 0:
        raise FormError("it is in training mode and drops at random; export the model for inference")
    element = np.float32 if node.version < 10 else np.bool_
    mask = emit.graph.constant(np.ones(emit.graph.shape(node.input(0)), element)) if node.wants(1) else ""
    return [node.input(0), mask]
