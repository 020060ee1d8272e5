"""Operators that pick or place elements, by constant places where these are known."""

import numpy as np
from onnx import TensorProto

from vlab.compiling.importing.rewriting.node import FormError, Node
from vlab.compiling.importing.rewriting.rules import Emitter, rewrites


@rewrites("OneHot")
def _one_hot(node: Node, emit: Emitter) -> str:
    indices = emit.cast(node.input(0), TensorProto.INT64)
    depth = int(emit.graph.need(node.input(1), "its depth").item())
    rank = len(emit.graph.shape(indices)) + 1
    axis = node.get("axis", -1) % rank
    wrapped = emit(
        "Where", emit("Less", indices, emit.like(0, indices)), emit("Add", indices, emit.like(depth, indices)), indices
    )
    along = np.arange(depth).reshape([-1 if place == axis else 1 for place in range(rank)])
    hot = emit("Equal", emit("Unsqueeze", wrapped, [axis]), along.astype(np.int64))
    off, on = (emit("Squeeze", part, [0]) for part in emit.several(2, "Split", node.input(2), axis=0, num_outputs=2))
    return emit("Where", hot, on, off)


@rewrites("Concat")
def _concat(node: Node, emit: Emitter) -> str | None:
    """Without what has no elements."""
    full = [name for name in node.inputs if 0 not in (emit.graph.static(name) or ())]
    if not full or len(full) == len(node.inputs):
        return full[0] if len(full) == 1 else None
    return full[0] if len(full) == 1 else emit("Concat", *full, axis=node.get("axis", 0))


@rewrites("Compress")
def _compress(node: Node, emit: Emitter) -> str:
    chosen = np.flatnonzero(emit.graph.need(node.input(1), "its condition"))
    x = node.input(0)
    if "axis" not in node.attributes:
        x = emit("Reshape", x, [-1])
    return emit("Gather", x, chosen.astype(np.int64), axis=node.get("axis", 0))


@rewrites("ReverseSequence")
def _reverse_sequence(node: Node, emit: Emitter) -> str:
    """Each sequence's places in reverse up to its length, as rows of a table."""
    x, lengths = node.input(0), emit.graph.need(node.input(1), "its sequence_lens")
    time_axis, batch_axis = node.get("time_axis", 0), node.get("batch_axis", 1)
    shape = emit.graph.shape(x)
    time, batch = shape[time_axis], shape[batch_axis]
    at = np.arange(time)[:, None]
    places = np.where(at < lengths, lengths - 1 - at, at)
    flat_places = places * batch + np.arange(batch)  # [time, batch] into time × batch
    order = [time_axis, batch_axis, *(axis for axis in range(len(shape)) if axis not in (time_axis, batch_axis))]
    rest = [shape[axis] for axis in order[2:]]
    flat = emit("Reshape", emit("Transpose", x, perm=order), [time * batch, *rest])
    picked = emit("Gather", flat, flat_places.reshape(-1).astype(np.int64), axis=0)
    return emit("Transpose", emit("Reshape", picked, [time, batch, *rest]), perm=[int(axis) for axis in np.argsort(order)])


@rewrites("EyeLike")
def _eye_like(node: Node, emit: Emitter) -> str:
    rows, columns = emit.graph.shape(node.input(0))
    element = node.get("dtype", 0) or emit.graph.element(node.input(0))
    eye = emit.graph.constant(np.eye(rows, columns, node.get("k", 0), dtype=np.float32))
    return emit.cast(eye, element)


@rewrites("Trilu")
def _trilu(node: Node, emit: Emitter) -> str:
    x = node.input(0)
    k = int(emit.graph.need(node.input(1), "its diagonal").item()) if node.input(1) else 0
    rows, columns = emit.graph.shape(x)[-2:]
    ones = np.ones((rows, columns), np.bool_)
    kept = np.triu(ones, k) if node.get("upper", 1) else np.tril(ones, k)
    return emit("Where", kept, x, emit.like(0, x))


@rewrites("TensorScatter")
def _tensor_scatter(node: Node, emit: Emitter) -> str:
    """The cache with the update written at a constant place of each batch: one table of places in both, one after the other."""
    cache, update = node.input(0), node.input(1)
    shape, new = emit.graph.shape(cache), emit.graph.shape(update)
    axis = node.get("axis", -2) % len(shape)
    if axis == 0:
        raise FormError("its axis is the batch")
    starts = emit.graph.need(node.input(2), "its write_indices") if node.input(2) else np.zeros(shape[0], np.int64)
    places = np.broadcast_to(np.arange(shape[axis]), (shape[0], shape[axis])).copy()
    for batch, start in enumerate(starts):
        targets = np.arange(new[axis]) + start
        if node.get("mode", "linear") == "circular":
            targets %= shape[axis]
        elif targets.max(initial=0) >= shape[axis]:
            raise FormError(f"it writes behind the end of its cache of {shape[axis]}")
        places[batch, targets] = shape[axis] + np.arange(new[axis])
    both = emit("Concat", cache, update, axis=axis)
    picked = [
        emit("Gather", emit("Slice", both, [batch], [batch + 1], [0]), places[batch].astype(np.int64), axis=axis)
        for batch in range(shape[0])
    ]
    return emit("Concat", *picked, axis=0)


@rewrites("SpaceToDepth")
def _space_to_depth(node: Node, emit: Emitter) -> str:
    """Each block's pixels become channels: before the old channels, or within each of them (mode CRD)."""
    x, block = node.input(0), node.get("blocksize", 1)
    batch, channels, height, width = emit.graph.shape(x)
    rows, columns = height // block, width // block
    split = emit("Reshape", x, [batch, channels, rows, block, columns, block])
    order = [0, 1, 3, 5, 2, 4] if node.get("mode", "DCR") == "CRD" else [0, 3, 5, 1, 2, 4]
    return emit("Reshape", emit("Transpose", split, perm=order), [batch, channels * block * block, rows, columns])


@rewrites("DepthToSpace")
def _depth_to_space(node: Node, emit: Emitter) -> str:
    """The inverse of SpaceToDepth in the same mode."""
    x, block = node.input(0), node.get("blocksize", 1)
    batch, channels, height, width = emit.graph.shape(x)
    left = channels // (block * block)
    if node.get("mode", "DCR") == "CRD":
        shape, order = [batch, left, block, block, height, width], [0, 1, 4, 2, 5, 3]
    else:
        shape, order = [batch, block, block, left, height, width], [0, 3, 4, 1, 5, 2]
    moved = emit("Transpose", emit("Reshape", x, shape), perm=order)
    return emit("Reshape", moved, [batch, left, height * block, width * block])
