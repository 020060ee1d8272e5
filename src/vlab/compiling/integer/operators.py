"""What stands between dequantise and quantise, as integer kernels: one function for each kind of operator.

Each takes the graph, the operator's call, and the output's codes, and gives the new variable of int8 codes in the operator's
own layout. It raises NoKernelError where there is no kernel.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from tvm import relax

from vlab.compiling.integer import pointwise, reducing
from vlab.compiling.integer.constants import QuantisedConstant, constant, value
from vlab.compiling.integer.graph import Graph, NoKernelError, Real, channel_sums, numbers, operator, shape_of
from vlab.compiling.integer.rescaling import Codes, Rescaling
from vlab.compiling.integer.window import Window

_FROM_NCHW, _TO_NCHW = (0, 2, 3, 1), (0, 3, 1, 2)
_LARGEST_CODE = 128
_SAME = 1e-3
"""Relative difference up to which a bias has the scale of the sums it is added to."""

Handler = Callable[[Graph, Any, Codes], Any]


def convolution(graph: Graph, call: Any, output: Codes, bias: Any = None) -> Any:
    """Conv (integer_ops/conv.h, ConvPerChannel) and DepthwiseConv (depthwise_conv.h)."""
    attributes, data = call.attrs, graph.real(call.args[0])
    weights = graph.constant(call.args[1])
    channels_first = str(attributes.data_layout) == "NCHW"
    if not channels_first and str(attributes.data_layout) != "NHWC":
        raise NoKernelError(f"the data layout is {attributes.data_layout}")
    layout = str(attributes.kernel_layout)
    rows = weights.transposed(tuple(layout.index(axis) for axis in "OHWI"))  # output channels first
    codes = graph.turn(data.codes, _FROM_NCHW) if channels_first else data.codes
    batch, height, width, channels = shape_of(codes)
    outputs, kernel_height, kernel_width, _ = rows.codes.shape
    groups = int(attributes.groups)
    if groups != 1 and not groups == channels == outputs:
        raise NoKernelError(
            f"the convolution has {groups} groups of channels; expected 1, or as many as input and output channels"
        )
    window = Window(
        batch,
        height,
        width,
        channels,
        outputs,
        (kernel_height, kernel_width),
        numbers(attributes.strides),  # type: ignore[arg-type] # a convolution over two axes has two
        numbers(attributes.dilation),  # type: ignore[arg-type]
        numbers(attributes.padding),  # type: ignore[arg-type]
        groups,
        planes=channels_first and data.codes not in graph.turned,
    )
    packed = _weights(rows)
    rescaling = _rescaling(graph, data, rows, packed, bias, output, twice=True)
    zero_point = data.meaning.zero_point
    if groups == 1:
        name, kernel = "conv2d", graph.cpu.product(window, packed, zero_point, rescaling)
    else:
        name, kernel = "depthwise_conv2d", graph.cpu.depthwise(window, packed[:, :, :, 0], zero_point, rescaling)
    source = data.codes if kernel.planes else codes
    result = graph.call_product(name, kernel, source, (batch, *window.output, outputs))
    return graph.turn(result, _TO_NCHW) if channels_first else result


def matrix_product(graph: Graph, call: Any, output: Codes, bias: Any = None) -> Any:
    """FullyConnected (integer_ops/fully_connected.h)."""
    data, weights = graph.real(call.args[0]), graph.constant(call.args[1])
    if weights.codes.ndim != 2:
        raise NoKernelError("weights have more than two axes")
    rows = weights.transposed((1, 0)).reshaped((weights.codes.shape[1], 1, 1, weights.codes.shape[0]))
    shape = shape_of(data.codes)
    window = Window(1, 1, int(np.prod(shape[:-1])), shape[-1], len(rows.codes))
    packed = _weights(rows)
    rescaling = _rescaling(graph, data, rows, packed, bias, output, twice=False)
    kernel = graph.cpu.product(window, packed, data.meaning.zero_point, rescaling)
    return graph.call_product("dense", kernel, data.codes, (*shape[:-1], window.outputs))


def _weights(rows: QuantisedConstant) -> npt.NDArray[np.int8]:
    """Weights without their zero points."""
    centred = rows.codes - rows.zero_points
    if centred.min(initial=0) < -_LARGEST_CODE or centred.max(initial=0) >= _LARGEST_CODE:
        raise NoKernelError("weights have a zero point of their own and do not fit int8 without it")
    return centred.astype(np.int8)


def _rescaling(
    graph: Graph,
    data: Real,
    rows: QuantisedConstant,
    weights: npt.NDArray[np.int8],
    bias: Any,
    output: Codes,
    *,
    twice: bool,
) -> Rescaling:
    """Scales multiplied in float64, as PopulateConvolutionQuantizationParams (kernel_util.cc) does."""
    scales = rows.scale_of_rows()
    if scales is None:
        raise NoKernelError("weights have a scale along another axis than that of the outputs")
    offsets = _bias(graph, bias, data.meaning.scale * scales) - data.meaning.zero_point * channel_sums(weights)
    largest = channel_sums(np.abs(weights.astype(np.int16))) * _LARGEST_CODE  # int16: -128 has no opposite
    return Rescaling.of(offsets, largest, data.meaning.scale * scales / output.scale, output, twice=twice)


def _bias(graph: Graph, bias: Any, scales: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """The bias in units of the sums' scales, for each output channel."""
    if bias is None:
        return np.zeros(len(scales), np.int64)
    if bias in graph.constants:
        known = graph.constants[bias]
        if known.codes.size == len(scales):
            own, codes = known.scales.ravel(), (known.codes - known.zero_points).ravel()
            return codes if np.allclose(own, scales, rtol=_SAME, atol=0) else np.round(codes * own / scales).astype(np.int64)
    plain = value(bias)
    if plain is None or plain.size not in (1, len(scales)):
        raise NoKernelError("what is added to the product is not one constant for each output channel")
    return np.asarray(np.round(plain.astype(np.float64).ravel() / scales), np.int64)


def sum_or_product(graph: Graph, call: Any, output: Codes) -> Any:
    """Add, Sub and Mul of two quantised tensors, one of which may be a constant or be broadcast."""
    shape = shape_of(call)
    operands = [_operand(graph, one) for one in call.args]
    axes: tuple[int, ...] | None = None
    turned = [graph.turned.get(one.codes) for one in operands]
    if turned[0] and turned[1] and turned[0][1] == turned[1][1]:  # both are NHWC turned to NCHW: add before turning
        axes = turned[0][1]
        operands = [Real(there[0], one.meaning) for there, one in zip(turned, operands, strict=True) if there]
        shape = shape_of(operands[0].codes)
    left, right = (_spread(graph, one, shape) for one in operands)
    size, name = int(np.prod(shape)), operator(call)
    if name == "multiply":
        kernel = pointwise.multiply_kernel(size, left.meaning, right.meaning, output, graph.cpu.dialect)
    else:
        sign = 1 if name == "add" else -1
        kernel = pointwise.add_kernel(size, left.meaning, right.meaning, output, sign, graph.cpu.dialect)
    result = graph.call(name, kernel, [left.codes, right.codes], shape)
    return graph.turn(result, axes) if axes else result


def _operand(graph: Graph, expression: Any) -> Real:
    """A quantised tensor or constant."""
    if expression in graph.constants:
        known = graph.constants[expression]
        scale, zero_point = known.scales.flat[0], int(known.zero_points.flat[0])
        codes = known.codes if known.codes.max(initial=0) < _LARGEST_CODE else known.codes - _LARGEST_CODE
        uniform = bool((known.scales == scale).all() and (known.zero_points == zero_point).all())
        if not uniform or codes.min(initial=0) < -_LARGEST_CODE or codes.max(initial=0) >= _LARGEST_CODE:
            raise NoKernelError("a constant operand has more than one scale, or codes of more than 8 bits")
        zero_point -= int((known.codes - codes).flat[0])
        return Real(constant(codes.astype(np.int8)), Codes(float(scale), zero_point))
    return graph.real(expression)


def _spread(graph: Graph, one: Real, shape: tuple[int, ...]) -> Real:
    if shape_of(one.codes) == shape:
        return one
    return Real(graph.builder.emit(relax.op.broadcast_to(one.codes, shape)), one.meaning)


def average_pool(graph: Graph, call: Any, output: Codes) -> Any:
    """AveragePool; with another scale for the output, or over the whole image, Mean."""
    data, attributes = graph.real(call.args[0]), call.attrs
    if bool(attributes.ceil_mode) or (bool(attributes.count_include_pad) and any(numbers(attributes.padding))):
        raise NoKernelError("the pooling counts its padding, or rounds its size up")
    if numbers(attributes.dilation) != (1, 1):
        raise NoKernelError("the pooling is dilated")
    channels_first = str(attributes.layout) == "NCHW"
    codes = graph.turn(data.codes, _FROM_NCHW) if channels_first else data.codes
    window, padding = numbers(attributes.pool_size), numbers(attributes.padding)
    _, height, width, _ = shape_of(codes)
    if (data.meaning.scale, data.meaning.zero_point) == (output.scale, output.zero_point):
        strides = numbers(attributes.strides)
        counts = [
            constant(reducing.values_counted(extent, window[axis], strides[axis], padding[axis], padding[axis + 2]))
            for axis, extent in enumerate((height, width))
        ]
        result = graph.compute(
            "average_pool",
            lambda x, rows, columns: reducing.average_pool(x, rows, columns, (window, strides), padding, output),
            codes,
            *counts,
        )
    elif window == (height, width) and not any(padding):
        result = graph.compute("mean", lambda x: reducing.mean(x, (1, 2), data.meaning, output), codes)
    else:
        raise NoKernelError("the pooling's output has another scale than its input")
    return graph.turn(result, _TO_NCHW) if channels_first else result


def global_pool(graph: Graph, call: Any, output: Codes) -> Any:
    """Global average pooling, as Mean over the image."""
    if numbers(call.attrs.output_size or (1, 1)) != (1, 1):
        raise NoKernelError("the adaptive pooling has an output of more than one pixel")
    axes = (2, 3) if str(call.attrs.layout) == "NCHW" else (1, 2)
    return _mean(graph, graph.real(call.args[0]), axes, output)


def mean(graph: Graph, call: Any, output: Codes) -> Any:
    """Mean (reduce.cc)."""
    data = graph.real(call.args[0])
    rank = len(shape_of(data.codes))
    axes = tuple(axis % rank for axis in numbers(call.attrs.axis)) if call.attrs.axis is not None else tuple(range(rank))
    result = _mean(graph, data, axes, output)
    return result if bool(call.attrs.keepdims) else graph.builder.emit(relax.op.reshape(result, shape_of(call)))


def _mean(graph: Graph, data: Real, axes: tuple[int, ...], output: Codes) -> Any:
    source, order = graph.turned.get(data.codes, (data.codes, tuple(range(len(shape_of(data.codes))))))
    reduced = tuple(sorted(order[axis] for axis in axes))
    return graph.turn(graph.compute("mean", lambda x: reducing.mean(x, reduced, data.meaning, output), source), order)


def softmax(graph: Graph, call: Any, output: Codes) -> Any:
    """Softmax over the last axis, to codes with 256 steps from 0 to 1."""
    data = graph.real(call.args[0])
    shape = shape_of(data.codes)
    if int(call.attrs.axis) % len(shape) != len(shape) - 1:
        raise NoKernelError("the softmax is not over the last axis")
    if output.zero_point != -_LARGEST_CODE or not np.isclose(output.scale, 1 / 256, rtol=_SAME, atol=0):
        raise NoKernelError(f"the softmax has codes of scale {output.scale:.6g}; expected 1/256 from zero point -128 on")
    table = constant(reducing.softmax_table(1.0, data.meaning.scale))
    rows = graph.builder.emit(relax.op.reshape(data.codes, (int(np.prod(shape[:-1])), shape[-1])))
    result = graph.compute("softmax", lambda x, exponentials: reducing.softmax(x, exponentials, output), rows, table)
    return graph.builder.emit(relax.op.reshape(result, shape))


def concatenation(graph: Graph, call: Any, output: Codes) -> Any:
    """Concat, with each input rescaled to the output's codes."""
    parts = [rescaled(graph, graph.real(one), output) for one in call.args[0].fields]
    return graph.builder.emit(relax.op.concat(parts, int(call.attrs.axis)))


def rescaled(graph: Graph, data: Real, output: Codes) -> Any:
    """Codes of the same numbers with another scale and zero point, or clamped."""
    if data.meaning == output:
        return data.codes
    source, order = graph.turned.get(data.codes, (data.codes, None))
    scale = data.meaning.scale / output.scale
    result = graph.compute("rescale", lambda x: reducing.rescaled(x, data.meaning, output, scale), source)
    return graph.turn(result, order) if order else result


def looked_up(graph: Graph, data: Real, function: Callable[[Any], Any], output: Codes) -> Any:
    """Any function of one value."""
    source, order = graph.turned.get(data.codes, (data.codes, None))
    shape = shape_of(source)
    table = pointwise.table(function, data.meaning, output)
    result = graph.call("table", pointwise.table_kernel(int(np.prod(shape))), [source, table], shape)
    return graph.turn(result, order) if order else result


HANDLERS: dict[str, Handler] = {
    "nn.conv2d": convolution,
    "matmul": matrix_product,
    "add": sum_or_product,
    "subtract": sum_or_product,
    "multiply": sum_or_product,
    "nn.avg_pool2d": average_pool,
    "nn.adaptive_avg_pool2d": global_pool,
    "mean": mean,
    "nn.softmax": softmax,
    "concat": concatenation,
}
"""By the name of the operator in Relax."""
WITH_BIAS: dict[str, Callable[[Graph, Any, Codes, Any], Any]] = {"nn.conv2d": convolution, "matmul": matrix_product}
"""Operators that take an addition of a constant along."""
