"""Convolutions with constant weights as computations of our own, whose weights are packed while compiling.

The weights lie in memory in the order in which the schedule reads them: tile after tile of output channels, in each of them the
window row by row, in it input channel after input channel, and innermost the channels of the tile.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from tvm import relax, te, tirx, topi
from tvm.ir import GenericConst

from vlab.compiling.kernels.geometry import Geometry
from vlab.compiling.schedule import tiles
from vlab.compiling.schedule.registers import ANNOTATION, Registers


def conv2d(builder: Any, call: Any, registers: Registers) -> Any:
    """Legalise a `relax.nn.conv2d`: one of ours where it fits, TVM's otherwise."""
    attributes, weights = call.attrs, call.args[1]
    layouts = (attributes.data_layout, attributes.kernel_layout, attributes.out_layout)
    geometry = Geometry.of(call, call.args[1].ty.shape) if layouts == ("NHWC", "HWIO", "NHWC") else None
    if geometry is None or not isinstance(weights, GenericConst):
        return call.op.get_attr("FLegalize")(builder, call)
    data, values = call.args[0], weights.value.numpy()
    if not geometry.peelable:
        wide = geometry.padded()
        after = [size - before - own for size, before, own in zip(wide.size, geometry.before, geometry.size, strict=True)]
        pads = ([0, *geometry.before, 0], [0, *after, 0])
        data = builder.emit(builder.call_te(topi.nn.pad, data, *pads, 0.0, primfunc_name_hint="pad"))
        geometry = wide
    if geometry.depthwise:
        return _depthwise(builder, data, values, geometry)
    return _direct(builder, data, values, geometry, registers)


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


def direct(data: Any, weights: Any, geometry: Geometry, tile: int, attributes: dict[str, Any]) -> Any:
    """The convolution of NHWC data with packed weights as a tensor expression: what the schedule `convolution` computes."""
    inputs, channels = geometry.inputs // geometry.groups, geometry.channels // geometry.groups
    extents = zip((*geometry.kernel, inputs), ("down", "across", "channel"), strict=True)
    taps = [te.reduce_axis((0, extent), name) for extent, name in extents]
    down, across, step = taps

    def value(image: Any, row: Any, column: Any, channel: Any) -> Any:
        places = geometry.places(row, column, down, across)
        group, within = channel // channels, channel % channels
        first = within - within % tile
        position = (down * geometry.kernel[1] + across) * inputs + step
        at = (group * channels + first) * geometry.steps + position * tirx.min(channels - first, tile) + within % tile
        loaded = data[image, *places, group * inputs + step]
        return te.sum(tirx.if_then_else(geometry.inside(places), loaded, _ZERO) * weights[at], axis=taps)

    shape = (geometry.batch, *geometry.out, geometry.channels)
    return te.compute(shape, value, "conv2d", attrs={ANNOTATION: "convolution", **attributes})


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


def _depthwise(builder: Any, data: Any, weights: npt.NDArray[Any], geometry: Geometry) -> Any:
    constant = relax.const(weights.reshape(*geometry.kernel, geometry.channels))
    computation = lambda data, weights: depthwise(data, weights, geometry)  # noqa: E731
    return builder.call_te(computation, data, constant, primfunc_name_hint="depthwise_conv2d")


def _direct(builder: Any, data: Any, weights: npt.NDArray[Any], geometry: Geometry, registers: Registers) -> Any:
    channels = geometry.channels // geometry.groups
    plan = tiles.plan(channels, *geometry.out, registers, mergeable=geometry.pointwise)
    tile = plan.tile.channels
    # Whichever loop is outermost, the operand of the other one is read again in each of its turns.
    read_again = geometry.size[0] * geometry.size[1] * geometry.inputs * -(-geometry.channels // tile)
    attributes = geometry.attributes() | {
        "groups": geometry.groups,
        "tile": tile,
        "columns": plan.tile.columns,
        "merged": plan.merged_rows,
        "channels_first": int(read_again <= weights.size * (geometry.out[0] // plan.merged_rows)),
    }
    computation = lambda data, weights: direct(data, weights, geometry, tile, attributes)  # noqa: E731
    return builder.call_te(computation, data, relax.const(pack(weights, geometry, tile)), primfunc_name_hint="conv2d")
