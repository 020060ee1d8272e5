"""TFLite bytes → outline."""

import math
from collections.abc import Mapping

import numpy as np

from vlab.compiling.foreign import said
from vlab.compiling.reading.outlining.outline import Operator, Outline, Quantisation
from vlab.errors import ModelError

_CARRYING = frozenset(
    ("CAST", "RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE", "SLICE", "STRIDED_SLICE", "SPLIT", "TILE", "MAX_POOL_2D")
)
_STEP_KEEPING = frozenset(("RELU", "RELU6", "SOFTMAX", "LOGISTIC", "TANH"))
_DTYPES = {
    0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 6: "bool", 7: "int16", 9: "int8", 10: "float64",
    12: "uint64", 15: "uint32", 16: "uint16",
}  # fmt: skip
"""numpy name of schema.fbs `TensorType`."""
_SCALARS = ("float32", "int16", "int32", "int64")
"""Types of constants that whole numbers are scaled or moved by."""


def outline_tflite(content: bytes) -> Outline:
    """The outline of a TFLite model's first graph.

    Raises:
        ModelError: an offset, a length or a number in the file leads nowhere.
    """
    try:
        return _read(content)
    except ModelError:
        raise
    except Exception as error:  # the flatbuffer reader follows damaged offsets wherever they lead
        raise ModelError(f"the model is a damaged TFLite file: {said(error)}; get it again") from error


def _read(content: bytes) -> Outline:
    import tflite

    model = tflite.Model.GetRootAsModel(content, 0)
    graph = model.Subgraphs(0)
    kinds = {number: name for name, number in vars(tflite.BuiltinOperator).items() if isinstance(number, int)}
    _plausible(content, operators=graph.OperatorsLength(), tensors=graph.TensorsLength(), buffers=model.BuffersLength())

    names, shapes, dtypes, weights, quantisation, scalars = [], {}, {}, {}, {}, {}
    for index in range(graph.TensorsLength()):
        tensor = graph.Tensors(index)
        name = (tensor.Name() or b"").decode(errors="replace") or f"tensor {index}"
        names.append(name)
        _plausible(content, dimensions=tensor.ShapeLength())
        shapes[name] = tuple(int(tensor.Shape(place)) for place in range(tensor.ShapeLength()))
        if tensor.Type() in _DTYPES:
            dtypes[name] = _DTYPES[tensor.Type()]
        if 0 < tensor.Buffer() < model.BuffersLength() and model.Buffers(tensor.Buffer()).DataLength():
            weights[name] = model.Buffers(tensor.Buffer()).DataLength()
            if dtypes.get(name) in _SCALARS and weights[name] == np.dtype(dtypes[name]).itemsize:
                content_bytes = model.Buffers(tensor.Buffer()).DataAsNumpy().tobytes()
                scalars[name] = float(np.frombuffer(content_bytes, dtypes[name]).item())
        scaled = tensor.Quantization()
        if scaled is not None and scaled.ScaleLength() == 1 and dtypes.get(name, "").endswith(("int8", "int16")):
            scale = float(scaled.Scale(0))
            if not math.isfinite(scale):
                raise ModelError(f"tensor {name} has the scale {scale}, expected a finite number; quantise the model again")
            if scale > 0:
                zero_point = int(scaled.ZeroPoint(0)) if scaled.ZeroPointLength() else 0
                quantisation[name] = Quantisation(scale, zero_point, dtypes[name])

    operators = []
    for index in range(graph.OperatorsLength()):
        operator = graph.Operators(index)
        code = model.OperatorCodes(operator.OpcodeIndex())
        kind = kinds.get(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()), "unknown")
        _plausible(content, inputs=operator.InputsLength(), outputs=operator.OutputsLength())
        taken = tuple(names[at] if (at := operator.Inputs(place)) >= 0 else "" for place in range(operator.InputsLength()))
        given = tuple(names[operator.Outputs(place)] for place in range(operator.OutputsLength()))
        operators.append(
            Operator(
                name=f"{index} {given[-1]}" if given else str(index),
                kind=kind,
                inputs=taken,
                outputs=given,
                carries=kind in _CARRYING,
                keeps_step=kind in _STEP_KEEPING,
                indexes=_indexes(kind, taken, shapes),
                products=_products(kind, taken, given, shapes),
            )
        )
    return Outline(
        operators=tuple(operators),
        inputs=tuple(names[graph.Inputs(place)] for place in range(graph.InputsLength())),
        outputs=tuple(names[graph.Outputs(place)] for place in range(graph.OutputsLength())),
        shapes=shapes,
        dtypes=dtypes,
        weights=weights,
        quantisation=quantisation,
        scalars=scalars,
    )


def _plausible(content: bytes, **lengths: int) -> None:
    """Each entry of a vector takes four bytes of the file (flatbuffers internals), so a longer vector is a lie."""
    for what, length in lengths.items():
        if length > len(content) // 4:
            raise ModelError(
                f"the model is a damaged TFLite file: it says it has {length} {what} in {len(content)} bytes; get it again"
            )


def _indexes(kind: str, taken: tuple[str, ...], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    if kind in ("GATHER", "GATHER_ND") and len(taken) > 1 and shapes[taken[0]]:
        return {taken[1]: min(shapes[taken[0]])}  # of whichever axis
    if kind == "EMBEDDING_LOOKUP" and len(taken) > 1 and shapes[taken[1]]:
        return {taken[0]: shapes[taken[1]][0]}
    return {}


def _products(kind: str, taken: tuple[str, ...], given: tuple[str, ...], shapes: Mapping[str, tuple[int, ...]]) -> int:
    result = math.prod(shapes[given[0]]) if given else 0
    if kind in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED") and len(taken) > 1:
        weights = shapes[taken[1]]
        return result * math.prod({"CONV_2D": weights[1:], "DEPTHWISE_CONV_2D": weights[1:3]}.get(kind, weights[-1:]))
    if kind == "BATCH_MATMUL" and shapes[taken[0]]:
        return result * max(shapes[taken[0]][-2:])
    return result
