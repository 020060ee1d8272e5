"""ONNX bytes → outline."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from vlab.compiling.foreign import said
from vlab.compiling.reading.outlining.outline import Operator, Outline, Quantisation
from vlab.errors import ModelError

_CARRYING = frozenset(
    (
        "Cast",
        "Identity",
        "Reshape",
        "Squeeze",
        "Unsqueeze",
        "Flatten",
        "Transpose",
        "Expand",
        "Slice",
        "Split",
        "Tile",
        "MaxPool",
    )
)
_STEP_KEEPING = frozenset(("Relu", "Clip", "Softmax", "Sigmoid", "Tanh", "LeakyRelu", "HardSigmoid"))
"""Their slope is nowhere above 1."""
_QUANTISED_BY_OUTPUT_SCALE = {"QLinearConv": 6, "QLinearMatMul": 6, "QuantizeLinear": 1}
"""Position of the output's scale; the zero point follows (ONNX operator documentation)."""
_LARGEST_POWER = 3
"""Of whole numbers to the power of an input."""
_NARROWEST_BITS = 8
"""Of whole numbers; a shift by less leaves something of them."""
_LENGTHS = 4
"""Place of the lengths of sequences among the inputs of a recurrent layer."""
_LARGE_WEIGHT_BYTES = 1 << 16
_TYPES = {
    number: np.dtype(onnx.helper.tensor_dtype_to_np_dtype(number)).name
    for number in (1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 16)  # TensorProto.DataType with a numpy type of the same width
}


def outline_onnx(content: bytes, shapes: Mapping[str, Sequence[int]]) -> Outline:
    """The outline of an ONNX model's main graph; a free first dimension of an input counts as 1.

    Raises:
        ModelError: its protocol buffer cannot be parsed, its graph is out of order, or a constant is not what it says it is.
    """
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_model_from_string(content)
    except DecodeError as error:
        raise ModelError(f"the model is damaged: its protocol buffer cannot be parsed ({said(error)}); get it again") from error
    try:
        return _read(model, shapes)
    except ModelError:
        raise
    except Exception as error:  # a damaged node lacks whatever its operator needs
        raise ModelError(f"the model is not valid ONNX: {said(error)}; export it again") from error


def _read(model: Any, shapes: Mapping[str, Sequence[int]]) -> Outline:
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.output and node.attribute and node.attribute[0].type == 4:
            constants[node.output[0]] = node.attribute[0].t
    for name, tensor in constants.items():
        _refuse_misfit(name, tensor)
    _refuse_disorder(graph, constants)
    inputs = [value for value in graph.input if value.name not in constants]
    named = {
        extent.dim_param: given
        for value in inputs
        for extent, given in zip(value.type.tensor_type.shape.dim, shapes.get(value.name, ()), strict=False)
        if extent.dim_param
    }
    for value in inputs:
        _fix(value, shapes.get(value.name), named)
    known_shapes, dtypes = _inferred(model, constants)
    operators = [_operator(node, known_shapes, constants) for node in graph.node if node.op_type != "Constant"]
    quantisation: dict[str, Quantisation] = {}
    for node in graph.node:
        quantisation |= _quantisation(node, constants)
    return Outline(
        operators=tuple(operators),
        inputs=tuple(value.name for value in inputs),
        outputs=tuple(value.name for value in graph.output),
        shapes=known_shapes,
        dtypes=dtypes,
        weights={name: _weight_bytes(tensor) for name, tensor in constants.items()},
        quantisation=quantisation,
        scalars={name: float(_values(tensor).item()) for name, tensor in constants.items() if _is_number(tensor)},
    )


def _refuse_disorder(graph: Any, constants: Mapping[str, Any]) -> None:
    """Refuse a graph that computes a tensor twice, or reads one before it is computed, as in a cycle."""
    known = {value.name for value in graph.input} | set(constants) | {one.values.name for one in graph.sparse_initializer}
    for node in graph.node:
        named = node.name or f"that computes {', '.join(node.output)}"
        if missing := [name for name in node.input if name and name not in known]:
            raise ModelError(
                f"{node.op_type} (node {named}) reads {missing[0]}, which nothing before it computes: the graph is unsorted "
                "or has a cycle; export the model again"
            )
        for name in node.output:
            if name and name in known and not (node.op_type == "Constant" and name in constants):
                raise ModelError(f"{node.op_type} (node {named}) computes {name}, which exists already; export the model again")
            known.add(name)


def _fix(value: Any, shape: Sequence[int] | None, named: Mapping[str, int]) -> None:
    for place, extent in enumerate(value.type.tensor_type.shape.dim):
        if shape is not None and place < len(shape):
            extent.dim_value = shape[place]
        elif extent.dim_param in named:
            extent.dim_value = named[extent.dim_param]
        elif place == 0 and (extent.dim_value < 0 or not extent.HasField("dim_value")):
            extent.dim_value = 1


def _inferred(model: Any, constants: Mapping[str, Any]) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """Shapes and types of all tensors, as far as ONNX's own inference finds them without the large weights."""
    lean = onnx.ModelProto()
    lean.ir_version = model.ir_version
    lean.opset_import.extend(model.opset_import)
    lean.functions.extend(model.functions)
    lean.graph.name = model.graph.name or "graph"
    lean.graph.node.extend(model.graph.node)
    lean.graph.input.extend(value for value in model.graph.input if value.name not in constants)
    lean.graph.output.extend(model.graph.output)
    for tensor in model.graph.initializer:
        if _weight_bytes(tensor) > _LARGE_WEIGHT_BYTES:
            lean.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
        else:
            lean.graph.initializer.append(tensor)
    try:
        graph = onnx.shape_inference.infer_shapes(lean, data_prop=True).graph
    except Exception:  # noqa: BLE001 - what it cannot tell, the importer says with the node
        graph = lean.graph
    shapes, dtypes = {}, {}
    for value in [*graph.input, *graph.value_info, *graph.output]:
        tensor = value.type.tensor_type
        extents = [extent.dim_value if extent.HasField("dim_value") else -1 for extent in tensor.shape.dim]
        if tensor.HasField("shape") and all(extent >= 0 for extent in extents):
            shapes[value.name] = tuple(extents)
        if tensor.elem_type in _TYPES:
            dtypes[value.name] = _TYPES[tensor.elem_type]
    for name, constant in constants.items():
        shapes[name] = tuple(constant.dims)
        if constant.data_type in _TYPES:
            dtypes[name] = _TYPES[constant.data_type]
    return shapes, dtypes


def _weight_bytes(tensor: Any) -> int:
    """Bytes that a constant says it has, whatever data came with it."""
    return int(math.prod(tensor.dims) * np.dtype(_TYPES.get(tensor.data_type, "uint8")).itemsize)


def _is_number(tensor: Any) -> bool:
    """Whether a constant is one number within the model."""
    inside = tensor.data_location != onnx.TensorProto.EXTERNAL
    return inside and tensor.data_type in _TYPES and math.prod(tensor.dims) == 1


def _refuse_misfit(name: str, tensor: Any) -> None:
    """Refuse a constant whose data is not what its shape and type say."""
    if tensor.data_type not in onnx.TensorProto.DataType.values():
        raise ModelError(f"weight {name} has type {tensor.data_type}, which ONNX does not know; export the model again")
    if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.data_type not in _TYPES:
        return  # whoever needs it says so
    if any(extent < 0 for extent in tensor.dims):
        raise ModelError(f"weight {name} has shape {list(tensor.dims)}, expected no negative extent; export the model again")
    if tensor.HasField("raw_data") and len(tensor.raw_data) != _weight_bytes(tensor):
        raise ModelError(
            f"weight {name} is {_TYPES[tensor.data_type]}{list(tensor.dims)} and so {_weight_bytes(tensor)} bytes, and has "
            f"{len(tensor.raw_data)}; export the model again"
        )


def _operator(node: Any, shapes: Mapping[str, tuple[int, ...]], constants: Mapping[str, Any]) -> Operator:
    return Operator(
        name=node.name or f"that computes {', '.join(node.output)}",
        kind=node.op_type,
        inputs=tuple(node.input),
        outputs=tuple(node.output),
        carries=node.op_type in _CARRYING,
        keeps_step=node.op_type in _STEP_KEEPING,
        indexes=_indexes(node, shapes, constants),
        products=_products(node, shapes),
    )


def _attribute(node: Any, name: str, default: int) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == name), default)


def _indexes(node: Any, shapes: Mapping[str, tuple[int, ...]], constants: Mapping[str, Any]) -> dict[str, int]:
    """Which input of the node looks into how large a table."""
    data = shapes.get(node.input[0], ()) if node.input else ()
    place, count = _looked_up(node, data, constants)
    return {node.input[place]: count} if 0 <= place < len(node.input) else {}


def _looked_up(node: Any, data: tuple[int, ...], constants: Mapping[str, Any]) -> tuple[int, int]:
    """Place of the input that looks into a table, and how large that is; -1 for a node without one."""
    kind = node.op_type
    if kind in ("Gather", "GatherElements", "ScatterElements") and data:
        axis = _attribute(node, "axis", 0)
        return (1, data[axis]) if -len(data) <= axis < len(data) else (-1, 0)
    if kind == "OneHot" and node.input[1] in constants:
        return 0, int(_values(constants[node.input[1]]).ravel()[0])
    if kind == "ReverseSequence" and data:
        return 1, data[_attribute(node, "time_axis", 0)] + 1
    tables = {
        **dict.fromkeys(("GatherND", "ScatterND"), (1, min(data, default=0))),
        **dict.fromkeys(("LSTM", "GRU", "RNN"), (_LENGTHS, data[0] + 1 if data else 0)),
        "BitShift": (1, _NARROWEST_BITS),
        "Pow": (1, _LARGEST_POWER + 1),
    }
    place, count = tables.get(kind, (-1, 0))
    return (place, count) if count else (-1, 0)


def _products(node: Any, shapes: Mapping[str, tuple[int, ...]]) -> int:
    result = math.prod(shapes.get(node.output[0], (0,))) if node.output else 0
    operands = [shapes.get(name, ()) for name in node.input]
    if node.op_type in ("Conv", "ConvInteger", "QLinearConv"):
        weights = operands[3 if node.op_type == "QLinearConv" else 1]
        return result * math.prod(weights[1:])
    if node.op_type == "ConvTranspose":
        return math.prod(operands[0]) * math.prod(operands[1][1:])
    if node.op_type in ("MatMul", "MatMulInteger", "QLinearMatMul", "Gemm") and operands[0]:
        across = _attribute(node, "transA", 0) if node.op_type == "Gemm" else 0
        return result * operands[0][0 if across else -1]
    return result


def _quantisation(node: Any, constants: Mapping[str, Any]) -> dict[str, Quantisation]:
    if node.op_type == "DequantizeLinear":
        tensor, scale = node.input[0], 1
    elif node.op_type in _QUANTISED_BY_OUTPUT_SCALE:
        tensor, scale = node.output[0], _QUANTISED_BY_OUTPUT_SCALE[node.op_type]
    elif node.domain == "com.microsoft" and node.op_type.startswith("QLinear"):
        tensor, scale = node.output[0], len(node.input) - 2
    else:
        return {}
    names = list(node.input[scale : scale + 2])
    if tensor in constants or not names or names[0] not in constants:
        return {}
    scales = _values(constants[names[0]]).ravel()
    zero_point = _values(constants[names[1]]) if len(names) > 1 and names[1] in constants else np.zeros(1, np.uint8)
    if not np.isfinite(scales.astype(np.float64)).all():
        raise ModelError(
            f"{node.op_type} (node {node.name or node.output[0]}) has a scale that is not finite, expected finite numbers; "
            "quantise the model again"
        )
    if scales.size != 1 or zero_point.size != 1 or zero_point.dtype.kind not in "iu" or scales[0] <= 0:
        return {}
    return {tensor: Quantisation(float(scales[0]), int(zero_point.ravel()[0]), zero_point.dtype.name)}


def _values(tensor: Any) -> Any:
    return onnx.numpy_helper.to_array(tensor)
