"""Elementwise operators whose form in TVM's importer is missing or wrong."""

from typing import Any

import numpy as np
from tvm import relax, te, tirx, topi

from vlab.compiling.importing.operators.registry import converts


@converts("Max")
def _max(_builder: Any, inputs: list[Any], _attributes: dict[str, Any]) -> Any:
    return _folded(relax.op.maximum, inputs)


@converts("Min")
def _min(_builder: Any, inputs: list[Any], _attributes: dict[str, Any]) -> Any:
    return _folded(relax.op.minimum, inputs)


def _folded(operator: Any, inputs: list[Any]) -> Any:
    total = inputs[0]
    for one in inputs[1:]:
        total = operator(total, one)
    return total


@converts("BitCast")
def _bit_cast(builder: Any, inputs: list[Any], attributes: dict[str, Any]) -> Any:
    from onnx.helper import tensor_dtype_to_np_dtype

    dtype = str(tensor_dtype_to_np_dtype(attributes["to"]))
    if "bool" in (dtype, str(inputs[0].ty.dtype)):
        return relax.op.astype(inputs[0], dtype)

    def reinterpret(x: Any) -> Any:
        return te.compute(x.shape, lambda *at: tirx.reinterpret(dtype, x(*at)), name="bit_cast")

    return builder.emit_te(reinterpret, inputs[0])


def _floor_remainder(x: Any, by: Any) -> Any:
    """Of floats, with the sign of the divisor: what C's remainder has of the other sign is moved by one divisor."""
    rest, zero = tirx.Mod(x, by), tirx.const(0, x.ty.dtype)
    apart = tirx.any(tirx.all(rest < zero, by > zero), tirx.all(rest > zero, by < zero))
    return tirx.Select(apart, rest + by, rest)


@converts("Mod")
def _mod(builder: Any, inputs: list[Any], attributes: dict[str, Any]) -> Any:
    """With fmod the remainder has the sign of the dividend, as in C; without, that of the divisor, as in Python."""
    sizes = [[int(extent) for extent in one.ty.shape] for one in inputs]
    shape = np.broadcast_shapes(*map(tuple, sizes))
    truncates = attributes.get("fmod", 0)
    if str(inputs[0].ty.dtype).startswith("float"):
        operation = tirx.Mod if truncates else _floor_remainder
    else:
        operation = tirx.truncmod if truncates else tirx.floormod

    def remainder(left: Any, right: Any) -> Any:
        wide, by = topi.broadcast_to(left, shape), topi.broadcast_to(right, shape)
        return te.compute(shape, lambda *at: operation(wide(*at), by(*at)), name="remainder")

    return builder.emit_te(remainder, *inputs)
