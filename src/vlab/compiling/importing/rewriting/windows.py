"""Windows that slide over axes: padding that an operator leaves to be worked out, as numbers."""

import dataclasses
from collections.abc import Sequence

import onnx

from vlab.compiling.importing.rewriting.node import Node


def extent(node: Node, axis: int, size: int, reach: int, rank: int) -> tuple[int, int]:
    """Padding before an axis, and the number of outputs along it (ONNX Operators, MaxPool, version 12).

    Args:
        node: has the attributes of a pooling.
        axis: of space, from 0.
        size: elements along the axis.
        reach: elements from the first to the last of a window.
        rank: axes of space.
    """
    stride = node.get("strides", [1] * rank)[axis]
    auto = node.get("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        length = -(-size // stride)
        total = max(0, (length - 1) * stride + reach - size)
        return (total // 2 if auto == "SAME_UPPER" else total - total // 2), length
    pads = node.get("pads", [0] * (2 * rank)) if auto == "NOTSET" else [0] * (2 * rank)
    room = size + pads[axis] + pads[axis + rank] - reach
    length = (-(-room // stride) if node.get("ceil_mode", 0) else room // stride) + 1
    if node.get("ceil_mode", 0) and (length - 1) * stride >= size + pads[axis]:
        length -= 1  # a window that would begin behind the input is none
    return pads[axis], length


def padded(node: Node, sizes: Sequence[int], kernel: Sequence[int]) -> Node:
    """The node with numbers for padding of the kinds SAME_UPPER and SAME_LOWER; others are left as they are."""
    if node.get("auto_pad", "NOTSET") not in ("SAME_UPPER", "SAME_LOWER"):
        return node
    rank = len(sizes)
    strides, dilations = node.get("strides", [1] * rank), node.get("dilations", [1] * rank)
    begins, ends = [], []
    for axis in range(rank):
        reach = (kernel[axis] - 1) * dilations[axis] + 1
        begin, length = extent(node, axis, sizes[axis], reach, rank)
        begins.append(begin)
        ends.append(max(0, (length - 1) * strides[axis] + reach - sizes[axis] - begin))
    kept = {name: one for name, one in node.attributes.items() if name not in ("auto_pad", "pads", "ceil_mode")}
    return dataclasses.replace(node, attributes={**kept, "pads": onnx.helper.make_attribute("pads", [*begins, *ends])})
