"""A small TFLite model, written field by field: schema.fbs has no other writer among the dependencies."""

from collections.abc import Callable, Sequence
from typing import Any

import flatbuffers
import numpy as np
import tflite


def dense_softmax(dtype: int = tflite.TensorType.FLOAT32) -> bytes:
    """softmax(relu(W x + b)) for x of shape (1, 4), with three outputs; `dtype` only names the type of the tensors."""
    b = flatbuffers.Builder(1024)
    weights = np.random.default_rng(3).standard_normal((3, 4)).astype("<f4")
    buffers = [_buffer(b, data) for data in (b"", weights.tobytes(), np.arange(3, dtype="<f4").tobytes())]
    shapes = [("x", (1, 4), 0), ("weights", (3, 4), 1), ("bias", (3,), 2), ("hidden", (1, 3), 0), ("y", (1, 3), 0)]
    tensors = [_tensor(b, name, shape, dtype, buffer) for name, shape, buffer in shapes]
    codes = [_code(b, code) for code in (tflite.BuiltinOperator.FULLY_CONNECTED, tflite.BuiltinOperator.SOFTMAX)]

    tflite.FullyConnectedOptionsStart(b)
    tflite.FullyConnectedOptionsAddFusedActivationFunction(b, tflite.ActivationFunctionType.RELU)
    dense = tflite.FullyConnectedOptionsEnd(b)
    tflite.SoftmaxOptionsStart(b)
    tflite.SoftmaxOptionsAddBeta(b, 1.0)
    softmax = tflite.SoftmaxOptionsEnd(b)
    operators = [
        _operator(b, 0, [0, 1, 2], [3], tflite.BuiltinOptions.FullyConnectedOptions, dense),
        _operator(b, 1, [3], [4], tflite.BuiltinOptions.SoftmaxOptions, softmax),
    ]

    tensor_vector = _vector(b, tflite.SubGraphStartTensorsVector, tensors)
    operator_vector = _vector(b, tflite.SubGraphStartOperatorsVector, operators)
    inputs, outputs = _ints(b, [0]), _ints(b, [4])
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


def _tensor(b: Any, name: str, shape: Sequence[int], dtype: int, buffer: int) -> int:
    text, extents = b.CreateString(name), _ints(b, shape)
    tflite.TensorStart(b)
    tflite.TensorAddName(b, text)
    tflite.TensorAddShape(b, extents)
    tflite.TensorAddType(b, dtype)
    tflite.TensorAddBuffer(b, buffer)
    return int(tflite.TensorEnd(b))


def _code(b: Any, code: int) -> int:
    tflite.OperatorCodeStart(b)
    tflite.OperatorCodeAddDeprecatedBuiltinCode(b, code)
    tflite.OperatorCodeAddBuiltinCode(b, code)
    tflite.OperatorCodeAddVersion(b, 1)
    return int(tflite.OperatorCodeEnd(b))


def _operator(b: Any, code: int, inputs: Sequence[int], outputs: Sequence[int], kind: int, options: int) -> int:
    taken, given = _ints(b, inputs), _ints(b, outputs)
    tflite.OperatorStart(b)
    tflite.OperatorAddOpcodeIndex(b, code)
    tflite.OperatorAddInputs(b, taken)
    tflite.OperatorAddOutputs(b, given)
    tflite.OperatorAddBuiltinOptionsType(b, kind)
    tflite.OperatorAddBuiltinOptions(b, options)
    return int(tflite.OperatorEnd(b))
