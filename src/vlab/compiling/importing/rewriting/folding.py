"""Compute at import what depends on constants only: shapes, axes, indices and whatever merely moves data."""

import math
from collections.abc import Sequence

import numpy as np
import onnx
from onnx import helper
from onnx.reference import ReferenceEvaluator

from vlab.compiling.importing.rewriting.node import Node
from vlab.datasets import Array

_EXACT = {
    *("Abs", "Add", "And", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Cast", "CastLike", "Ceil"),
    *("Clip", "Compress", "Concat", "ConstantOfShape", "Div", "Equal", "Expand", "EyeLike", "Flatten", "Floor", "Gather"),
    *("GatherElements", "GatherND", "Greater", "GreaterOrEqual", "Identity", "IsInf", "IsNaN", "Less", "LessOrEqual", "Max"),
    *("Min", "Mod", "Mul", "Neg", "NonZero", "Not", "OneHot", "Or", "Pad", "Range", "Reciprocal", "Relu", "Reshape", "Round"),
    *("ScatterElements", "ScatterND", "Shape", "Sign", "Size", "Slice", "Split", "Sqrt", "Squeeze", "Sub", "Tile"),
    *("Transpose", "Trilu", "Unsqueeze", "Where", "Xor", "ReverseSequence", "Unique"),
}
"""Operators whose results IEEE 754 and the operator's definition fix to the bit, so that every machine folds the same."""

_WHOLE = {"CumSum", "Pow", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum", "ArgMax", "ArgMin", "TopK", "MatMul", "Gemm"}
"""Operators that are exact on whole numbers alone."""

_REDUCTIONS = {"ReduceMean", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"}
"""Operators that are folded over nothing alone."""

_MOST_BYTES = 256 << 20
"""Of one folded value."""
_MOST_GROWTH_BYTES = 16 << 20
"""That folding may add to a model at one node; what is larger is computed by the board from its smaller parts."""


def foldable(node: Node) -> bool:
    """Whether a node may be computed at import if its inputs are constants."""
    return not node.domain and node.operator in _EXACT | _WHOLE | _REDUCTIONS and bool(node.inputs)


def evaluate(node: Node, inputs: Sequence[Array | None], inferred: Sequence[onnx.TypeProto]) -> list[Array] | None:
    """Values of a node's outputs, by ONNX's own reference implementation.

    Args:
        node: what to compute.
        inputs: in the node's order, None for what is left out.
        inferred: what is known about the outputs' types.

    Returns:
        None where the values would be too large or are not fixed to the bit.
    """
    whole = all(value is None or value.dtype.kind in "iub" for value in inputs)
    empty = any(value is not None and not value.size for value in inputs)
    if (node.operator in _WHOLE and not whole and not empty) or (node.operator in _REDUCTIONS and not empty):
        return None
    taken = sum(value.nbytes for value in inputs if value is not None)
    if sum(_size(one) for one in inferred) > min(_MOST_BYTES, taken + _MOST_GROWTH_BYTES):
        return None
    if node.operator == "Range" and not _short(inputs):
        return None
    names = [f"in{place}" if value is not None else "" for place, value in enumerate(inputs)]
    proto = helper.make_node(node.operator, names, [f"out{place}" for place in range(len(node.wanted))])
    proto.attribute.extend(node.protos())
    evaluator = ReferenceEvaluator(proto, opsets={"": node.version})
    with np.errstate(all="ignore"):
        values = evaluator.run(None, {name: value for name, value in zip(names, inputs, strict=True) if name})
    return [np.asarray(value) for value in values]


def _size(about: onnx.TypeProto) -> int:
    """Bytes of a tensor of known shape; 0 of another."""
    tensor = about.tensor_type
    if not tensor.elem_type or not all(extent.HasField("dim_value") for extent in tensor.shape.dim):
        return 0
    items = math.prod(int(extent.dim_value) for extent in tensor.shape.dim)
    return items * int(helper.tensor_dtype_to_np_dtype(tensor.elem_type).itemsize)


def _short(inputs: Sequence[Array | None]) -> bool:
    """Whether a Range stays within bounds; type inference does not see its length."""
    start, limit, delta = (float(value.item()) for value in inputs if value is not None)
    return delta != 0 and (limit - start) / delta * 8 < _MOST_GROWTH_BYTES
