"""Convolutions as computations of our own, whose weights, where they are constant, are packed while compiling.

Packed weights lie in memory in the order in which the schedule reads them: tile after tile of output channels, in each of them
the window row by row, in it input channel after input channel, and innermost the channels of the tile. Weights that a model
computes are read where they are.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from tvm import relax, te, tirx, topi

from vlab.compiling.expressions import constant
from vlab.compiling.kernels.geometry import Geometry, of_float32
from vlab.compiling.schedule import tiles
from vlab.compiling.schedule.registers import ANNOTATION, Registers


def conv2d(builder: Any, call: Any, registers: Registers) -> Any:
    """Legalise a `relax.nn.conv2d`: one of ours where it fits, TVM's otherwise."""
    attributes, weights = call.attrs, call.args[1]
    layouts = (attributes.data_layout, attributes.kernel_layout, attributes.out_layout)
    fits = of_float32(call) and layouts == ("NHWC", "HWIO", "NHWC")
    geometry = Geometry.of(call, weights.ty.shape) if fits else None
    if geometry is None:
        return call.op.get_attr("FLegalize")(builder, call)
    data = call.args[0]
    if not geometry.peelable:
        wide = geometry.padded()
        after = [size - before - own for size, before, own in zip(wide.size, geometry.before, geometry.size, strict=True)]
        pads = ([0, *geometry.before, 0], [0, *after, 0])
        data = builder.emit(builder.call_te(topi.nn.pad, data, *pads, 0.0, primfunc_name_hint="pad"))
        geometry = wide
    if geometry.depthwise:
        computation = lambda data, weights: depthwise(data, weights, geometry)  # noqa: E731
        weights = shaped(builder, weights, (*geometry.kernel, geometry.channels))
        return builder.call_te(computation, data, weights, primfunc_name_hint="depthwise_conv2d")
    attributes, weights = tiled(builder, weights, geometry, registers, mergeable=geometry.pointwise)
    computation = lambda data, weights: direct(data, weights, geometry, attributes)  # noqa: E731
    return builder.call_te(computation, data, weights, primfunc_name_hint="conv2d")


def tiled(
    builder: Any, weights: Any, geometry: Geometry, registers: Registers, *, mergeable: bool = False
) -> tuple[dict[str, int], Any]:
    """What the schedule `convolution` has to know, for the attributes of a computation, and the weights as it reads them.

    Args:
        builder: to emit with.
        weights: [kernel height, kernel width, inputs of a group, channels], constant or not.
        geometry: of the convolution; places of the output that are computed together, where it is transposed.
        registers: the CPU's.
        mergeable: whether neighbouring rows may be taken for one.
    """
    if geometry.inputs == geometry.groups:  # taps follow one another without a loop between: LLVM loads their weights early
        registers = replace(registers, scalar_factors=False)
    plan = tiles.plan(geometry.channels // geometry.groups, *geometry.out, registers, mergeable=mergeable)
    values = constant(weights)
    # Whichever loop is outermost, the operand of the other one is read again in each of its turns.
    read_again = geometry.size[0] * geometry.size[1] * geometry.inputs * -(-geometry.channels // plan.tile.channels)
    size = geometry.steps * geometry.channels
    attributes = geometry.attributes() | {
        "groups": geometry.groups,
        "tile": plan.tile.channels,
        "columns": plan.tile.columns,
        "merged": plan.merged_rows,
        "channels_first": int(read_again <= size * (geometry.out[0] // plan.merged_rows)),
        "packed": int(values is not None),
    }
    if values is None:
        return attributes, shaped(builder, weights, (size,))
    return attributes, relax.const(pack(values, geometry, plan.tile.channels))


def pack(weights: npt.NDArray[Any], geometry: Geometry, tile: int) -> npt.NDArray[Any]:
    """Weights [kernel height, kernel width, inputs of a group, channels] in the order in which they are read, without gaps.

    Args:
        weights: of any type.
        geometry: of the convolution.
        tile: channels of an output tile; the last of a group may have fewer.
    """
    flat = weights.reshape(geometry.steps, geometry.groups, -1)
    starts = range(0, flat.shape[2], tile)
    return np.concatenate(
        [flat[:, group, start : start + tile].ravel() for group in range(geometry.groups) for start in starts]
    )


def direct(data: Any, weights: Any, geometry: Geometry, attributes: dict[str, int]) -> Any:
    """The convolution of NHWC data with weights of `tiled` as a tensor expression: what the schedule `convolution` computes."""
    inputs = geometry.inputs // geometry.groups
    extents = zip((*geometry.kernel, inputs), ("down", "across", "channel"), strict=True)
    taps = [te.reduce_axis((0, extent), name) for extent, name in extents]
    down, across, step = taps

    def value(image: Any, row: Any, column: Any, channel: Any) -> Any:
        places = geometry.places(row, column, down, across)
        position = (down * geometry.kernel[1] + across) * inputs + step
        loaded = data[image, *places, group_of(channel, geometry) * inputs + step]
        weight = weights[address(position, channel, geometry, attributes)]
        return te.sum(tirx.if_then_else(geometry.inside(places), loaded, _ZERO) * weight, axis=taps)

    shape = (geometry.batch, *geometry.out, geometry.channels)
    return te.compute(shape, value, "conv2d", attrs={ANNOTATION: "convolution", **attributes})


def group_of(channel: Any, geometry: Geometry) -> Any:
    """The group that a channel of the output is in."""
    return channel // (geometry.channels // geometry.groups)


def address(position: Any, channel: Any, geometry: Geometry, attributes: dict[str, int]) -> Any:
    """Where the weight of a channel of the output for one step of its reduction lies."""
    if not attributes["packed"]:
        return position * geometry.channels + channel
    channels, tile = geometry.channels // geometry.groups, attributes["tile"]
    within = channel % channels
    first = within - within % tile
    before = (group_of(channel, geometry) * channels + first) * geometry.steps
    return before + position * tirx.min(channels - first, tile) + within % tile


def depthwise(data: Any, weights: Any, geometry: Geometry) -> Any:
    """The depthwise convolution of NHWC data with weights [kernel height, kernel width, channels] as a tensor expression."""
    taps = [te.reduce_axis((0, extent), name) for extent, name in zip(geometry.kernel, ("down", "across"), strict=True)]

    def value(image: Any, row: Any, column: Any, channel: Any) -> Any:
        places = geometry.places(row, column, *taps)
        loaded = tirx.if_then_else(geometry.inside(places), data[image, *places, channel], _ZERO)
        return te.sum(loaded * weights[(*taps, channel)], axis=taps)

    attributes = {ANNOTATION: "sliding", "operation": "product", **geometry.attributes()}
    return te.compute((geometry.batch, *geometry.out, geometry.channels), value, "depthwise_conv2d", attrs=attributes)


_ZERO = tirx.FloatImm("float32", 0.0)


def shaped(builder: Any, weights: Any, shape: Sequence[int]) -> Any:
    """Weights in another shape; reshaping those that a model computes costs nothing."""
    values = constant(weights)
    return builder.emit(relax.op.reshape(weights, shape)) if values is None else relax.const(values.reshape(shape))
