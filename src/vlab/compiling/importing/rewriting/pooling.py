"""Pooling in forms that the importer lacks: windows as tables of constant places."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import TensorProto

from vlab.compiling.importing.rewriting.node import FormError, Node
from vlab.compiling.importing.rewriting.rules import Emitter, rewrites
from vlab.compiling.importing.rewriting.windows import extents, padded
from vlab.datasets import Array

_FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16)


@rewrites("MaxPool")
def _max_pool(node: Node, emit: Emitter) -> Sequence[str] | str | None:
    x = node.input(0)
    if node.wants(1):
        return _max_pool_with_places(node, emit)
    if emit.graph.element(x) not in _FLOATS:  # every 8-bit number is a float32
        wide = emit("MaxPool", emit("Cast", x, to=TensorProto.FLOAT), **_window(node))
        return emit("Cast", wide, to=emit.graph.element(x))
    return _explicitly_padded(node, emit)


@rewrites("AveragePool", "LpPool")
def _explicitly_padded(node: Node, emit: Emitter) -> str | None:
    explicit = padded(node, emit.graph.shape(node.input(0))[2:], node.get("kernel_shape", []))
    return None if explicit is node else emit.as_is(explicit, *node.inputs)


def _window(node: Node) -> dict[str, Any]:
    names = ("auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "strides")
    return {name: node.get(name, None) for name in names if name in node.attributes}


def _max_pool_with_places(node: Node, emit: Emitter) -> list[str]:
    """Every window as a row of candidates; places count within the whole input, as ONNX has it."""
    x = node.input(0)
    batch, channels, *sizes = emit.graph.shape(x)
    table = _places(node, sizes)  # [outputs, window], -1 beyond the border
    outputs = emit.graph.inferred(node)[2:]
    count, area = batch * channels, math.prod(sizes)
    if len(table) != math.prod(outputs):
        raise FormError("its windows reach beyond the padding")
    lowest = np.finfo(emit.graph.dtype(x)).min if emit.graph.dtype(x).kind == "f" else np.iinfo(emit.graph.dtype(x)).min
    column = emit.graph.constant(np.full((count, 1), lowest, emit.graph.dtype(x)))
    padded = emit("Concat", emit("Reshape", x, [count, area]), column, axis=1)
    candidates = emit("Gather", padded, np.where(table < 0, area, table).astype(np.int64), axis=1)  # [count, outputs, window]
    best = emit("ArgMax", candidates, axis=2, keepdims=0)
    values = emit("ReduceMax", candidates, [2], keepdims=0)
    numbered = table
    if node.get("storage_order", 0):  # column major: the first axis of space runs fastest
        numbered = np.ravel_multi_index(np.unravel_index(np.maximum(table, 0), sizes), sizes, order="F")
    row = (np.arange(len(table)) * table.shape[1]).astype(np.int64)
    within = emit("Gather", numbered.reshape(-1).astype(np.int64), emit("Add", best, row))
    start = (np.arange(count) * area).astype(np.int64)[:, None]
    shape = [batch, channels, *outputs]
    return [emit("Reshape", values, shape), emit("Reshape", emit("Add", within, start), shape)]


def _places(node: Node, sizes: list[int]) -> Array:
    """For each output, in order, the flat places of its window in the input; -1 where it lies beyond the border."""
    kernel = node.get("kernel_shape", [])
    rank = len(sizes)
    strides, dilations = node.get("strides", [1] * rank), node.get("dilations", [1] * rank)
    along = [
        (np.arange(length)[:, None] * strides[axis] - begin + np.arange(kernel[axis]) * dilations[axis])
        for axis, (begin, _, length) in enumerate(extents(node, sizes, kernel))
    ]
    rows = []
    for output in itertools.product(*(range(len(places)) for places in along)):
        grids = np.meshgrid(*(along[axis][output[axis]] for axis in range(rank)), indexing="ij")
        inside = np.logical_and.reduce([(grid >= 0) & (grid < size) for grid, size in zip(grids, sizes, strict=True)])
        clipped = [np.clip(grid, 0, size - 1) for grid, size in zip(grids, sizes, strict=True)]
        rows.append(np.where(inside, np.ravel_multi_index(clipped, sizes), -1).reshape(-1))
    return np.asarray(rows)


@rewrites("Col2Im")
def _col2im(node: Node, emit: Emitter) -> str:
    """Every pixel of the image is the sum of the columns' entries that lie on it: a table of their places."""
    columns = node.input(0)
    image = [int(extent) for extent in emit.graph.need(node.input(1), "its image_shape")]
    block = [int(extent) for extent in emit.graph.need(node.input(2), "its block_shape")]
    batch, _, _ = shape = emit.graph.shape(columns)
    area, window = math.prod(image), math.prod(block)
    channels = shape[1] // window
    pooled = Node.made("MaxPool", "", 12, [], {**_window(node), "kernel_shape": block}, 1)
    table = _places(pooled, image)  # [blocks, window]
    if table.shape != (shape[2], window):
        raise FormError(f"its {shape[2]} columns do not cover an image of {image} in blocks of {block}")
    entries: list[list[int]] = [[] for _ in range(area)]
    for number, offset in itertools.product(range(shape[2]), range(window)):
        if table[number, offset] >= 0:
            entries[table[number, offset]].append(offset * shape[2] + number)
    most = max(map(len, entries))
    nothing = window * shape[2]
    places = np.asarray([[*found, *[nothing] * (most - len(found))] for found in entries], np.int64)
    flat = emit("Reshape", columns, [batch * channels, window * shape[2]])
    padded = emit("Concat", flat, np.zeros((batch * channels, 1), emit.graph.dtype(columns)), axis=1)
    total = emit("ReduceSum", emit("Gather", padded, places, axis=1), [2], keepdims=0)
    return emit("Reshape", total, [batch, channels, *image])


@rewrites("MaxUnpool")
def _max_unpool(node: Node, emit: Emitter) -> str:
    """Scatter to the places that pooling gave."""
    x, places = node.input(0), node.input(1)
    shape = emit.graph.shape(x)
    rank = len(shape) - 2
    kernel, strides = node.get("kernel_shape", []), node.get("strides", [1] * rank)
    pads = node.get("pads", [0] * (2 * rank))
    sizes = [(shape[2 + axis] - 1) * strides[axis] - pads[axis] - pads[axis + rank] + kernel[axis] for axis in range(rank)]
    pooled = [*shape[:2], *sizes]
    wanted = [int(extent) for extent in emit.graph.need(node.input(2), "its output_shape")] if node.input(2) else pooled
    zeros = emit.graph.constant(np.zeros(math.prod(wanted), emit.graph.dtype(x)))
    flat = emit("Reshape", places, [-1])
    if wanted != pooled:
        raise FormError(
            f"its output_shape {wanted} is not that of what was pooled, {pooled}, and runtimes disagree about the rest"
        )
    filled = emit("ScatterElements", zeros, flat, emit("Reshape", x, [-1]), axis=0)
    return emit("Reshape", filled, wanted)


@rewrites("RoiAlign")
def _roi_align(node: Node, emit: Emitter) -> None:  # noqa: ARG001
    if node.get("mode", "avg") != "avg":
        raise FormError("its mode is max, which runtimes compute differently; use avg")
