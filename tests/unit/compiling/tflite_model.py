"""Small TFLite models, written field by field: schema.fbs has no other writer among the dependencies."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt
import tflite
from tflite import ActivationFunctionType, BuiltinOperator, BuiltinOptions, Padding, TensorType

Values = npt.NDArray[Any]
Options = tuple[int, Callable[[Any], int]]
"""Which table of the schema, and what writes it."""

_TYPES = {
    "float32": TensorType.FLOAT32,
    "float16": TensorType.FLOAT16,
    "int8": TensorType.INT8,
    "int32": TensorType.INT32,
}


@dataclass(frozen=True)
class Quantised:
    """real = scale · (code − zero point); of weights and biases one scale for each channel, and zero points of 0."""

    scales: Sequence[float]
    zero_point: int = 0
    axis: int = 0


@dataclass(frozen=True)
class Tensor:
    """One tensor of a graph; with values it is a constant. `kind` is a number of TensorType, by default that of `dtype`."""

    name: str
    shape: Sequence[int]
    values: Values | None = None
    quantised: Quantised | None = None
    dtype: str = "float32"
    kind: int | None = None


@dataclass(frozen=True)
class Operator:
    """One operator, with the tensors it takes and gives by name."""

    code: int
    takes: Sequence[str]
    gives: str
    options: Options | None = None


def constant(name: str, values: Values, quantised: Quantised | None = None) -> Tensor:
    """A tensor with these values."""
    return Tensor(name, values.shape, values, quantised, str(values.dtype))


def dense_softmax(dtype: int = TensorType.FLOAT32) -> bytes:
    """softmax(relu(W x + b)) for x of shape (1, 4), with three outputs; `dtype` only names the type of the tensors."""
    weights = np.random.default_rng(3).standard_normal((3, 4)).astype("<f4")
    tensors = [
        Tensor("x", (1, 4), kind=dtype),
        Tensor("weights", (3, 4), weights, kind=dtype),
        Tensor("bias", (3,), np.arange(3, dtype="<f4"), kind=dtype),
        Tensor("hidden", (1, 3), kind=dtype),
        Tensor("y", (1, 3), kind=dtype),
    ]
    operators = [
        Operator(BuiltinOperator.FULLY_CONNECTED, ["x", "weights", "bias"], "hidden", _dense(ActivationFunctionType.RELU)),
        Operator(BuiltinOperator.SOFTMAX, ["hidden"], "y", _softmax()),
    ]
    return written(tensors, operators)


def separable(weights: str) -> bytes:
    """Convolution, depthwise convolution, mean and a dense layer over images of 8 by 8 by 3, as TFLite writes them.

    Args:
        weights: `float32`; `float16`, with a DEQUANTIZE after every constant as the converter's half-precision mode has it;
            or `int8`, for the whole model, with a scale for each channel of the convolutions.
    """
    random = np.random.default_rng(11)
    filters = {
        "stem": random.standard_normal((8, 3, 3, 3)) / 5,
        "depthwise": random.standard_normal((1, 3, 3, 8)) / 3,
        "dense": random.standard_normal((5, 8)),
    }
    biases = {name: random.standard_normal(values.shape[channel(name)]) / 4 for name, values in filters.items()}
    tensors, operators = [], []
    if weights == "int8":
        scales = {"x": 0.02, "a": 0.01, "b": 0.012, "c": 0.008, "y": 0.015}
        zeros = {"x": 3, "a": -128, "b": -128, "c": -128, "y": -7}
        for name, shape in _SHAPES.items():
            tensors.append(Tensor(name, shape, None, Quantised([scales[name]], zeros[name]), "int8"))
        for (name, values), taken in zip(filters.items(), ("x", "a", "c"), strict=True):
            axis = channel(name)
            others = tuple(place for place in range(values.ndim) if place != axis or name == "dense")
            steps = np.abs(values).max(axis=others, keepdims=True) / 127
            codes = np.rint(values / steps).astype(np.int8)
            steps = steps.reshape(-1).astype(np.float32)
            bias = np.rint(biases[name] / (steps * scales[taken])).astype(np.int32)
            tensors.append(constant(name, codes, Quantised(steps.tolist(), axis=axis)))
            tensors.append(constant(f"{name}-bias", bias, Quantised((steps * scales[taken]).tolist())))
    else:
        tensors += [Tensor(name, shape) for name, shape in _SHAPES.items()]
        for name, values in [*filters.items(), *((f"{name}-bias", values) for name, values in biases.items())]:
            if weights == "float32":
                tensors.append(constant(name, values.astype(np.float32)))
                continue
            tensors += [constant(f"{name}-half", values.astype(np.float16)), Tensor(name, values.shape)]
            operators.append(Operator(BuiltinOperator.DEQUANTIZE, [f"{name}-half"], name))
    tensors.append(constant("axes", np.array([1, 2], np.int32)))
    operators += [
        Operator(BuiltinOperator.CONV_2D, ["x", "stem", "stem-bias"], "a", _convolution(stride=2)),
        Operator(BuiltinOperator.DEPTHWISE_CONV_2D, ["a", "depthwise", "depthwise-bias"], "b", _depthwise()),
        Operator(BuiltinOperator.MEAN, ["b", "axes"], "c", _mean()),
        Operator(BuiltinOperator.FULLY_CONNECTED, ["c", "dense", "dense-bias"], "y", _dense(ActivationFunctionType.NONE)),
    ]
    return written(tensors, operators)


_SHAPES = {"x": (1, 8, 8, 3), "a": (1, 4, 4, 8), "b": (1, 4, 4, 8), "c": (1, 8), "y": (1, 5)}


def channel(name: str) -> int:
    """The axis of a filter's output channels."""
    return 3 if name == "depthwise" else 0


def written(tensors: Sequence[Tensor], operators: Sequence[Operator]) -> bytes:
    """A model whose input is the tensor `x` and whose output is `y`."""
    b = flatbuffers.Builder(1024)
    places = {tensor.name: place for place, tensor in enumerate(tensors)}
    kinds = sorted({operator.code for operator in operators})
    contents = [b"", *(tensor.values.tobytes() for tensor in tensors if tensor.values is not None)]
    buffers = [_buffer(b, data) for data in contents]
    constants = iter(range(1, len(contents)))
    tensor_offsets = [_tensor(b, tensor, 0 if tensor.values is None else next(constants)) for tensor in tensors]
    codes = [_code(b, code) for code in kinds]
    operator_offsets = [
        _operator(b, kinds.index(one.code), [places[name] for name in one.takes], [places[one.gives]], one.options)
        for one in operators
    ]

    tensor_vector = _vector(b, tflite.SubGraphStartTensorsVector, tensor_offsets)
    operator_vector = _vector(b, tflite.SubGraphStartOperatorsVector, operator_offsets)
    inputs, outputs = _ints(b, [places["x"]]), _ints(b, [places["y"]])
    tflite.SubGraphStart(b)
    tflite.SubGraphAddTensors(b, tensor_vector)
    tflite.SubGraphAddInputs(b, inputs)
    tflite.SubGraphAddOutputs(b, outputs)
    tflite.SubGraphAddOperators(b, operator_vector)
    graph = tflite.SubGraphEnd(b)

    graphs = _vector(b, tflite.ModelStartSubgraphsVector, [graph])
    code_vector = _vector(b, tflite.ModelStartOperatorCodesVector, codes)
    buffer_vector = _vector(b, tflite.ModelStartBuffersVector, buffers)
    tflite.ModelStart(b)
    tflite.ModelAddVersion(b, 3)
    tflite.ModelAddOperatorCodes(b, code_vector)
    tflite.ModelAddSubgraphs(b, graphs)
    tflite.ModelAddBuffers(b, buffer_vector)
    b.Finish(tflite.ModelEnd(b), b"TFL3")
    return bytes(b.Output())


def _dense(activation: int) -> Options:
    def write(b: Any) -> int:
        tflite.FullyConnectedOptionsStart(b)
        tflite.FullyConnectedOptionsAddFusedActivationFunction(b, activation)
        return int(tflite.FullyConnectedOptionsEnd(b))

    return BuiltinOptions.FullyConnectedOptions, write


def _softmax() -> Options:
    def write(b: Any) -> int:
        tflite.SoftmaxOptionsStart(b)
        tflite.SoftmaxOptionsAddBeta(b, 1.0)
        return int(tflite.SoftmaxOptionsEnd(b))

    return BuiltinOptions.SoftmaxOptions, write


def _convolution(stride: int) -> Options:
    def write(b: Any) -> int:
        tflite.Conv2DOptionsStart(b)
        tflite.Conv2DOptionsAddPadding(b, Padding.SAME)
        tflite.Conv2DOptionsAddStrideW(b, stride)
        tflite.Conv2DOptionsAddStrideH(b, stride)
        tflite.Conv2DOptionsAddFusedActivationFunction(b, ActivationFunctionType.RELU)
        return int(tflite.Conv2DOptionsEnd(b))

    return BuiltinOptions.Conv2DOptions, write


def _depthwise() -> Options:
    def write(b: Any) -> int:
        tflite.DepthwiseConv2DOptionsStart(b)
        tflite.DepthwiseConv2DOptionsAddPadding(b, Padding.SAME)
        tflite.DepthwiseConv2DOptionsAddStrideW(b, 1)
        tflite.DepthwiseConv2DOptionsAddStrideH(b, 1)
        tflite.DepthwiseConv2DOptionsAddDepthMultiplier(b, 1)
        tflite.DepthwiseConv2DOptionsAddFusedActivationFunction(b, ActivationFunctionType.RELU)
        return int(tflite.DepthwiseConv2DOptionsEnd(b))

    return BuiltinOptions.DepthwiseConv2DOptions, write


def _mean() -> Options:
    def write(b: Any) -> int:
        tflite.ReducerOptionsStart(b)
        tflite.ReducerOptionsAddKeepDims(b, False)
        return int(tflite.ReducerOptionsEnd(b))

    return BuiltinOptions.ReducerOptions, write


def _vector(b: Any, start: Callable[[Any, int], Any], offsets: Sequence[int]) -> int:
    start(b, len(offsets))
    for offset in reversed(offsets):
        b.PrependUOffsetTRelative(offset)
    return int(b.EndVector())


def _ints(b: Any, values: Sequence[int]) -> int:
    return int(b.CreateNumpyVector(np.array(values, np.int32)))


def _buffer(b: Any, data: bytes) -> int:
    vector = b.CreateByteVector(data) if data else None
    tflite.BufferStart(b)
    if vector is not None:
        tflite.BufferAddData(b, vector)
    return int(tflite.BufferEnd(b))


def _tensor(b: Any, tensor: Tensor, buffer: int) -> int:
    text, extents = b.CreateString(tensor.name), _ints(b, tensor.shape)
    quantised = _quantised(b, tensor.quantised) if tensor.quantised else None
    tflite.TensorStart(b)
    tflite.TensorAddName(b, text)
    tflite.TensorAddShape(b, extents)
    tflite.TensorAddType(b, _TYPES[tensor.dtype] if tensor.kind is None else tensor.kind)
    tflite.TensorAddBuffer(b, buffer)
    if quantised is not None:
        tflite.TensorAddQuantization(b, quantised)
    return int(tflite.TensorEnd(b))


def _quantised(b: Any, quantised: Quantised) -> int:
    scales = b.CreateNumpyVector(np.array(quantised.scales, np.float32))
    zeros = b.CreateNumpyVector(np.full(len(quantised.scales), quantised.zero_point, np.int64))
    tflite.QuantizationParametersStart(b)
    tflite.QuantizationParametersAddScale(b, scales)
    tflite.QuantizationParametersAddZeroPoint(b, zeros)
    tflite.QuantizationParametersAddQuantizedDimension(b, quantised.axis)
    return int(tflite.QuantizationParametersEnd(b))


def _code(b: Any, code: int) -> int:
    tflite.OperatorCodeStart(b)
    tflite.OperatorCodeAddDeprecatedBuiltinCode(b, code)
    tflite.OperatorCodeAddBuiltinCode(b, code)
    tflite.OperatorCodeAddVersion(b, 1)
    return int(tflite.OperatorCodeEnd(b))


def _operator(b: Any, code: int, inputs: Sequence[int], outputs: Sequence[int], options: Options | None) -> int:
    taken, given = _ints(b, inputs), _ints(b, outputs)
    table = options[1](b) if options else None
    tflite.OperatorStart(b)
    tflite.OperatorAddOpcodeIndex(b, code)
    tflite.OperatorAddInputs(b, taken)
    tflite.OperatorAddOutputs(b, given)
    if options and table is not None:
        tflite.OperatorAddBuiltinOptionsType(b, options[0])
        tflite.OperatorAddBuiltinOptions(b, table)
    return int(tflite.OperatorEnd(b))
