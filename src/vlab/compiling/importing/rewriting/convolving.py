"""Convolution in forms that the importer lacks."""

import dataclasses

import onnx

from vlab.compiling.importing.rewriting.node import Node
from vlab.compiling.importing.rewriting.rules import Emitter, rewrites
from vlab.compiling.importing.rewriting.windows import padded


@rewrites("Conv")
def _conv(node: Node, emit: Emitter) -> str | None:
    """Automatic padding as numbers, so that the convolution pads by itself."""
    if node.get("auto_pad", "NOTSET") not in ("SAME_UPPER", "SAME_LOWER"):
        return None
    explicit = padded(node, emit.graph.shape(node.input(0))[2:], emit.graph.shape(node.input(1))[2:])
    return emit.as_is(explicit, *node.inputs)


@rewrites("ConvTranspose")
def _conv_transpose(node: Node, emit: Emitter) -> str | None:
    """A wished output shape, or an automatic one, as the padding that gives it (ONNX Operators, ConvTranspose, version 11)."""
    automatic = node.get("auto_pad", "NOTSET")
    if "output_shape" not in node.attributes and automatic in ("NOTSET", "VALID"):
        return None
    sizes, kernel = emit.graph.shape(node.input(0))[2:], emit.graph.shape(node.input(1))[2:]
    rank = len(sizes)
    strides, dilations = node.get("strides", [1] * rank), node.get("dilations", [1] * rank)
    extra = list(node.get("output_padding", [0] * rank))
    wished = node.get("output_shape", [size * stride for size, stride in zip(sizes, strides, strict=True)])[-rank:]
    begins, ends = [], []
    for axis in range(rank):
        reach = (kernel[axis] - 1) * dilations[axis] + 1
        total = strides[axis] * (sizes[axis] - 1) + extra[axis] + reach - wished[axis]
        if total < 0:  # what no input reaches is padded at the end
            extra[axis], total = extra[axis] - total, 0
        begins.append(total // 2 if automatic == "SAME_UPPER" else total - total // 2)
        ends.append(total - begins[-1])
    dropped = ("output_shape", "auto_pad", "pads")
    kept = {name: one for name, one in node.attributes.items() if name not in dropped}
    lists = {"pads": [*begins, *ends], "output_padding": extra}
    attributes = {**kept, **{name: onnx.helper.make_attribute(name, value) for name, value in lists.items()}}
    return emit.as_is(dataclasses.replace(node, attributes=attributes), *node.inputs)
