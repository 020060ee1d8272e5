"""Quantised operators as dequantise → operator → quantise, the form in which the integer kernels are recognised."""

from typing import Any

import numpy as np
from onnx import TensorProto

from vlab.compiling.importing.rewriting.node import FormError, Node
from vlab.compiling.importing.rewriting.rules import Emitter, rewrites

_CONTRIB = "com.microsoft"
_EXACT = 2**24
"""Whole numbers below are exact in float32."""


@rewrites("QLinearConv")
def _conv(node: Node, emit: Emitter) -> str:
    data, scale, zero, weights, weight_scale, weight_zero, out_scale, out_zero = node.inputs[:8]
    operands = [_real(emit, data, scale, zero), _real(emit, weights, weight_scale, weight_zero, axis=0)]
    if node.input(8):
        operands.append(_real(emit, node.input(8), emit("Mul", scale, weight_scale), "", axis=0))
    return _codes(emit, emit("Conv", *operands, **_attributes(node)), out_scale, out_zero)


@rewrites("QLinearMatMul")
def _matmul(node: Node, emit: Emitter) -> str:
    left, left_scale, left_zero, right, right_scale, right_zero, out_scale, out_zero = node.inputs[:8]
    product = emit("MatMul", _real(emit, left, left_scale, left_zero), _real(emit, right, right_scale, right_zero, axis=1))
    return _codes(emit, product, out_scale, out_zero)


@rewrites("QGemm", domain=_CONTRIB)
def _gemm(node: Node, emit: Emitter) -> str:
    left, left_scale, left_zero, right, right_scale, right_zero = node.inputs[:6]
    turned = bool(node.get("transB", 0))
    operands = [_real(emit, left, left_scale, left_zero), _real(emit, right, right_scale, right_zero, axis=0 if turned else 1)]
    if node.input(6):
        operands.append(_real(emit, node.input(6), emit("Mul", left_scale, right_scale), "", axis=0))
    product = emit("Gemm", *operands, **_attributes(node))
    return _codes(emit, product, node.input(7), node.input(8)) if node.input(7) else product


@rewrites("QLinearAdd", "QLinearMul", domain=_CONTRIB)
def _binary(node: Node, emit: Emitter) -> str:
    left, left_scale, left_zero, right, right_scale, right_zero, out_scale = node.inputs[:7]
    operands = _real(emit, left, left_scale, left_zero), _real(emit, right, right_scale, right_zero)
    return _codes(emit, emit(node.operator.removeprefix("QLinear"), *operands), out_scale, node.input(7))


@rewrites("QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax", "QLinearReduceMean", domain=_CONTRIB)
def _unary(node: Node, emit: Emitter) -> str:
    data, scale, zero, out_scale = node.inputs[:4]
    operator = node.operator.removeprefix("QLinear")
    kept = {name: value for name, value in _attributes(node).items() if name != "opset"}
    version = 13 if operator == "ReduceMean" else 18
    result = emit(operator, _real(emit, data, scale, zero), version=version, **kept)
    return _codes(emit, result, out_scale, node.input(4))


@rewrites("QLinearGlobalAveragePool", "QLinearAveragePool", domain=_CONTRIB)
def _pool(node: Node, emit: Emitter) -> str:
    if node.get("channels_last", 0):
        raise FormError("its channels are last; expected channels_last 0")
    data, scale, zero, out_scale = node.inputs[:4]
    kept = {name: value for name, value in _attributes(node).items() if name != "channels_last"}
    result = emit(node.operator.removeprefix("QLinear"), _real(emit, data, scale, zero), **kept)
    return _codes(emit, result, out_scale, node.input(4))


@rewrites("QLinearConcat", domain=_CONTRIB)
def _concat(node: Node, emit: Emitter) -> str:
    out_scale, out_zero, *rest = node.inputs
    parts = [_real(emit, rest[at], rest[at + 1], rest[at + 2]) for at in range(0, len(rest), 3)]
    return _codes(emit, emit("Concat", *parts, axis=node.get("axis", 0)), out_scale, out_zero)


@rewrites("ConvInteger")
def _conv_integer(node: Node, emit: Emitter) -> str:
    """Over float32, where every sum is a whole number that float32 holds."""
    weights = emit.graph.known(node.input(1))
    if weights is None:
        raise FormError("its weights are computed while the model runs; expected a constant")
    magnitudes = np.abs(weights.astype(np.int64)).reshape(len(weights), -1).sum(axis=1) + 255 * weights[0].size
    if int(magnitudes.max()) * 255 >= _EXACT:
        raise FormError("its sums may be too large to be exact in float32; use QLinearConv")
    one = np.asarray(1, np.float32)
    operands = [_real(emit, node.input(place), one, node.input(place + 2)) for place in (0, 1)]
    return emit("Cast", emit("Conv", *operands, **_attributes(node)), to=TensorProto.INT32)


@rewrites("DynamicQuantizeLinear")
def _dynamic_quantize(node: Node, emit: Emitter) -> list[str]:
    """ONNX's definition, with scale 1 for zeros alone, where the definition divides by zero."""
    x = node.input(0)
    zero, most = np.float32(0), np.float32(255)
    highest = emit("Max", emit("ReduceMax", x, keepdims=0), zero)
    lowest = emit("Min", emit("ReduceMin", x, keepdims=0), zero)
    spread = emit("Sub", highest, lowest)
    flat = emit("Equal", spread, zero)
    scale = emit("Where", flat, np.float32(1), emit("Div", spread, most))
    start = emit("Round", emit("Neg", emit("Div", lowest, scale)))
    point = emit("Clip", start, zero, most)
    shifted = emit("Add", emit("Round", emit("Div", x, scale)), point)
    y = emit("Cast", emit("Clip", shifted, zero, most), to=TensorProto.UINT8)
    return [y, scale, emit("Cast", point, to=TensorProto.UINT8)]


def _real(emit: Emitter, codes: str, scale: Any, zero: str = "", axis: int = 0) -> str:
    operands = [codes, scale, zero] if zero else [codes, scale]
    return emit("DequantizeLinear", *operands, axis=axis)


def _codes(emit: Emitter, real: str, scale: str, zero: str) -> str:
    return emit("QuantizeLinear", *([real, scale, zero] if zero else [real, scale]))


def _attributes(node: Node) -> dict[str, Any]:
    return {name: node.get(name, None) for name in node.attributes}
