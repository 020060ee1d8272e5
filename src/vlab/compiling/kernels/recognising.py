"""What exporters write as many small operators, as the one operator that it is: layer and RMS normalisation, powers, erf.

PyTorch exports LayerNorm below opset 17 as ReduceMean, Sub, Pow, ReduceMean, Add, Sqrt, Div, Mul, Add, and RMSNorm (which has
no operator below opset 23) the same way without the mean; GELU as Div, Erf, Add, Mul, Mul.
"""

from typing import Any

import numpy as np
from tvm import relax

from vlab.compiling.expressions import constant, operator, shape
from vlab.compiling.kernels.rewriting import Definitions, rewrite

_POWERS = (2.0, 3.0)
"""Exponents that are cheaper, and no less accurate, as products."""


def recognise(module: Any) -> Any:
    """Put the operators in place of what stands for them in the main function of a Relax module."""
    return rewrite(module, _rule)


def _rule(binding: Any, definitions: Definitions, _builder: Any) -> Any:
    rules = {
        "relax.power": (_power,),
        "relax.erf": (_erf,),
        "relax.divide": (_layer_norm, _rms_norm),
        "relax.multiply": (_layer_norm, _rms_norm, _scaled),
        "relax.add": (_shifted,),
    }
    if str(getattr(binding.value.ty, "dtype", "")) != "float32":
        return None
    for rule in rules.get(operator(binding.value), ()):
        value = rule(binding.value, definitions)
        if value is not None:
            return value
    return None


def _power(call: Any, _definitions: Definitions) -> Any:
    base, exponent = call.args
    value = _scalar(exponent)
    if value not in _POWERS or constant(base) is not None:
        return None
    square = relax.op.multiply(base, base)
    return square if value == 2.0 else relax.op.multiply(square, base)


def _erf(call: Any, definitions: Definitions) -> Any:
    """erf(x / c) as erf(x * (1 / c)): the other rounding of the argument is far below erf's own error."""
    divided = definitions.call(call.args[0], "relax.divide")
    divisor = None if divided is None else _scalar(divided.args[1])
    if not divisor:
        return None
    return relax.op.erf(relax.op.multiply(divided.args[0], relax.const(np.float32(1 / divisor))))


def _layer_norm(call: Any, definitions: Definitions) -> Any:
    """(x - mean(x)) / sqrt(mean((x - mean(x))^2) + epsilon)."""
    found = _normalised(call, definitions)
    centred = None if found is None else definitions.call(found[0], "relax.subtract")
    if found is None or centred is None:
        return None
    _, axes, epsilon = found
    data, mean = centred.args
    mean = definitions.call(mean, "relax.mean")
    if mean is None or not _same(mean.args[0], data, definitions) or _axes(mean) != axes:
        return None
    inner = tuple(shape(data)[axis] for axis in axes)
    one, zero = relax.const(np.ones(inner, np.float32)), relax.const(np.zeros(inner, np.float32))
    return relax.op.nn.layer_norm(data, one, zero, list(axes), epsilon, center=False, scale=False)


def _rms_norm(call: Any, definitions: Definitions) -> Any:
    """X / sqrt(mean(x^2) + epsilon), times a weight where there is one."""
    found = _normalised(call, definitions)
    if found is None:
        return None
    data, axes, epsilon = found
    weight = np.ones([shape(data)[axis] for axis in axes], np.float32)
    return relax.op.nn.rms_norm(data, relax.const(weight), list(axes), epsilon)


def _normalised(call: Any, definitions: Definitions) -> tuple[Any, tuple[int, ...], float] | None:
    """Value, axes and epsilon of value / sqrt(mean(value^2) + epsilon)."""
    for value, scale in (call.args, call.args[::-1]):
        root = definitions.call(scale, "relax.sqrt" if operator(call) == "relax.divide" else "relax.rsqrt")
        if operator(call) == "relax.multiply" and (inverse := definitions.call(scale, "relax.divide")) is not None:
            root = definitions.call(inverse.args[1], "relax.sqrt") if _scalar(inverse.args[0]) == 1.0 else None
        total = None if root is None else definitions.call(root.args[0], "relax.add")
        found = None if total is None else _mean_of_square(total, value, definitions)
        if found is not None:
            return value, *found
        if operator(call) == "relax.divide":
            return None
    return None


def _mean_of_square(total: Any, value: Any, definitions: Definitions) -> tuple[tuple[int, ...], float] | None:
    """Axes and epsilon of mean(value^2) + epsilon."""
    for term, other in (total.args, total.args[::-1]):
        mean, epsilon = definitions.call(term, "relax.mean"), _scalar(other)
        square = None if mean is None else definitions.call(mean.args[0], "relax.multiply")
        if square is None or epsilon is None or not all(_same(one, value, definitions) for one in square.args):
            continue
        axes = _axes(mean)
        return None if axes is None else (axes, epsilon)
    return None


def _scaled(call: Any, definitions: Definitions) -> Any:
    """A normalisation times a weight."""
    for value, factor in (call.args, call.args[::-1]):
        norm = definitions.call(value, "relax.nn.layer_norm", "relax.nn.rms_norm")
        weight = None if norm is None else _parameter(factor, norm)
        if weight is None:
            continue
        if operator(norm) == "relax.nn.rms_norm":
            held = constant(norm.args[1])
            whole = None if held is None or not np.all(held == 1) else norm.attrs
            return whole and relax.op.nn.rms_norm(norm.args[0], weight, list(whole.axes), float(whole.epsilon))
        if not norm.attrs.scale and not norm.attrs.center:
            axes, epsilon = list(norm.attrs.axes), float(norm.attrs.epsilon)
            return relax.op.nn.layer_norm(norm.args[0], weight, norm.args[2], axes, epsilon, center=False, scale=True)
    return None


def _shifted(call: Any, definitions: Definitions) -> Any:
    """A normalisation plus a bias."""
    for value, term in (call.args, call.args[::-1]):
        norm = definitions.call(value, "relax.nn.layer_norm")
        bias = None if norm is None or norm.attrs.center else _parameter(term, norm)
        if bias is not None:
            data, weight, _ = norm.args
            axes, epsilon = list(norm.attrs.axes), float(norm.attrs.epsilon)
            return relax.op.nn.layer_norm(data, weight, bias, axes, epsilon, center=True, scale=bool(norm.attrs.scale))
    return None


def _parameter(value: Any, norm: Any) -> Any:
    """A constant with one value for each that is normalised together, in their shape; None where it is no such constant."""
    array, inner = constant(value), shape(norm.args[1])
    if array is None or array.size != np.prod(inner) or array.shape[-len(inner) :] != inner:
        return None
    return relax.const(np.ascontiguousarray(array.reshape(inner)))


def _axes(mean: Any) -> tuple[int, ...] | None:
    """The axes of a mean that keeps them, if they are the last ones."""
    rank = len(shape(mean.args[0]))
    axes = sorted(int(axis) % rank for axis in (range(rank) if mean.attrs.axis is None else mean.attrs.axis))
    return tuple(axes) if mean.attrs.keepdims and axes == list(range(rank - len(axes), rank)) else None


def _same(left: Any, right: Any, definitions: Definitions) -> bool:
    """Whether two values are one, or the same difference computed twice."""
    if isinstance(left, relax.Var) and left.same_as(right):
        return True
    one, other = (definitions.call(value, "relax.subtract", "relax.mean") for value in (left, right))
    if one is None or other is None or operator(one) != operator(other):
        return False
    if operator(one) == "relax.mean" and _axes(one) != _axes(other):
        return False
    return all(_same(mine, yours, definitions) for mine, yours in zip(one.args, other.args, strict=True))


def _scalar(value: Any) -> float | None:
    """The only value of a constant, or None."""
    array = constant(value)
    return float(array.reshape(())) if array is not None and array.size == 1 else None
