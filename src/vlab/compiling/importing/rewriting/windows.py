"""Windows that slide over axes: padding that an operator leaves to be worked out, as numbers."""

import dataclasses
from collections.abc import Sequence

import onnx

from vlab.compiling.importing.rewriting.node import Node


def extents(node: Node, sizes: Sequence[int], kernel: Sequence[int]) -> list[tuple[int, int, int]]:
    """For each axis of space the padding before it, the elements from first to last of a window, and the outputs along it.

    Args:
        node: has the attributes of a pooling (ONNX Operators, MaxPool, version 12).
        sizes: elements along the axes.
        kernel: elements of a window along them.
    """
    dilations = node.get("dilations", [1] * len(sizes))
    reaches = [(extent - 1) * dilation + 1 for extent, dilation in zip(kernel, dilations, strict=True)]
    return [_extent(node, axis, size, reach, len(sizes)) for axis, (size, reach) in enumerate(zip(sizes, reaches, strict=True))]


def _extent(node: Node, axis: int, size: int, reach: int, rank: int) -> tuple[int, int, int]:
    stride = node.get("strides", [1] * rank)[axis]
    auto = node.get("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        length = -(-size // stride)
        total = max(0, (length - 1) * stride + reach - size)
        return (total // 2 if auto == "SAME_UPPER" else total - total // 2), reach, length
    pads = node.get("pads", [0] * (2 * rank)) if auto == "NOTSET" else [0] * (2 * rank)
    room = size + pads[axis] + pads[axis + rank] - reach
    length = (-(-room // stride) if node.get("ceil_mode", 0) else room // stride) + 1
    if node.get("ceil_mode", 0) and (length - 1) * stride >= size + pads[axis]:
        length -= 1  # a window that would begin behind the input is none
    return pads[axis], reach, length


def padded(node: Node, sizes: Sequence[int], kernel: Sequence[int]) -> Node:
    """The node with numbers for padding of the kinds SAME_UPPER and SAME_LOWER; others are left as they are."""
    if node.get("auto_pad", "NOTSET") not in ("SAME_UPPER", "SAME_LOWER"):
        return node
    strides = node.get("strides", [1] * len(sizes))
    begins, ends = [], []
    for stride, size, (begin, reach, length) in zip(strides, sizes, extents(node, sizes, kernel), strict=True):
        begins.append(begin)
        ends.append(max(0, (length - 1) * stride + reach - size - begin))
    kept = {name: one for name, one in node.attributes.items() if name not in ("auto_pad", "pads", "ceil_mode")}
    return dataclasses.replace(node, attributes={**kept, "pads": onnx.helper.make_attribute("pads", [*begins, *ends])})
