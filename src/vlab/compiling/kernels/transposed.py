"""Transposed convolutions as computations of our own: ordinary ones whose outputs interlace, without zeros between inputs."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from tvm import relax, te, tirx, topi

from vlab.compiling.expressions import constant
from vlab.compiling.kernels.convolution import address, group_of, shaped, tiled
from vlab.compiling.kernels.geometry import MOST_PEELED, Geometry, of_float32
from vlab.compiling.schedule.registers import ANNOTATION, Registers
from vlab.compiling.schedule.windows import Window, by_phase
from vlab.compiling.workload import MACS


def conv2d_transpose(builder: Any, call: Any, registers: Registers) -> Any:
    """Legalise a `relax.nn.conv2d_transpose` over NHWC data with weights IOHW."""
    geometry = Geometry.of(call, list(call.args[1].ty.shape)[2:])
    if geometry is None:
        return call
    data, weights = call.args[0], _as_hwio(builder, call.args[1], geometry)
    if sum(window.peeled * window.kernel for window in by_phase(geometry.window(1))) > MOST_PEELED:
        data, geometry = _padded(builder, data, geometry)
    per_group = geometry.inputs // geometry.groups
    if geometry.depthwise:
        attributes: dict[str, Any] = geometry.attributes() | {ANNOTATION: "sliding", "operation": "product"}
        weights = shaped(builder, weights, (*geometry.kernel, geometry.channels))
        at: Callable[..., Any] = lambda down, across, _, channel: (down, across, channel)  # noqa: E731
    else:
        (height, width), (down, across) = geometry.out, geometry.stride
        together = replace(geometry, out=(-(-height // down), -(-width // across)))
        tiling, weights = tiled(builder, weights, together, registers)
        attributes = tiling | {ANNOTATION: "convolution"}

        def at(down: Any, across: Any, step: Any, channel: Any) -> Any:
            position = (down * geometry.kernel[1] + across) * per_group + step
            return (address(position, channel, geometry, tiling),)

    macs = geometry.batch * geometry.size[0] * geometry.size[1] * geometry.steps * geometry.channels
    rule = {**attributes, "transposed": 1} if of_float32(call) else {}

    def computation(data: Any, weights: Any) -> Any:
        return transposed(data, weights, geometry, at, rule | {MACS: macs})

    return builder.call_te(computation, data, weights, primfunc_name_hint="conv2d_transpose")


def transposed(data: Any, weights: Any, geometry: Geometry, at: Callable[..., Any], attributes: dict[str, Any]) -> Any:
    """The transposed convolution of NHWC data as a tensor expression.

    Args:
        data: to convolve.
        weights: of any shape.
        geometry: of the windows, from places of the data to those of the output they add to.
        at: indices of the weight for a row and a column of the window, an input channel of the group, and a channel.
        attributes: of the computation.
    """
    inputs = geometry.inputs // geometry.groups
    extents = zip((*geometry.kernel, inputs), ("down", "across", "channel"), strict=True)
    taps = [te.reduce_axis((0, extent), name) for extent, name in extents]
    *window, step = taps
    dtype = str(data.dtype)

    def value(image: Any, row: Any, column: Any, channel: Any) -> Any:
        reaches = [
            place + before - tap * dilation
            for place, before, tap, dilation in zip((row, column), geometry.before, window, geometry.dilation, strict=True)
        ]
        places = [tirx.floordiv(reach, stride) for reach, stride in zip(reaches, geometry.stride, strict=True)]
        hits = [tirx.floormod(reach, stride) == 0 for reach, stride in zip(reaches, geometry.stride, strict=True)]
        loaded = data[image, *places, group_of(channel, geometry) * inputs + step]
        factor = tirx.if_then_else(tirx.all(*hits, geometry.inside(places)), loaded, tirx.const(0, dtype))
        return te.sum(factor * weights[at(*window, step, channel)], axis=taps)

    shape = (geometry.batch, *geometry.out, geometry.channels)
    return te.compute(shape, value, "conv2d_transpose", attrs=attributes)


def _as_hwio(builder: Any, weights: Any, geometry: Geometry) -> Any:
    """Weights IOHW as [kernel height, kernel width, inputs of a group, channels]."""
    inputs, channels = geometry.inputs // geometry.groups, geometry.channels // geometry.groups
    values = constant(weights)
    if values is not None:
        apart = values.reshape(geometry.groups, inputs, channels, *geometry.kernel)
        ordered = np.ascontiguousarray(apart.transpose(3, 4, 1, 0, 2))
        return relax.const(ordered.reshape(*geometry.kernel, inputs, geometry.channels), str(values.dtype))

    def turned(weights: Any) -> Any:
        return te.compute(
            (*geometry.kernel, inputs, geometry.channels),
            lambda row, column, step, channel: weights[channel // channels * inputs + step, channel % channels, row, column],
            "turned",
        )

    return builder.emit(builder.call_te(turned, weights, primfunc_name_hint="turn_weights"))


def _padded(builder: Any, data: Any, geometry: Geometry) -> tuple[Any, Geometry]:
    """Data with as many zeros around it as windows reach, and the geometry over that."""
    (top, bottom), (left, right) = (_reach(by_phase(geometry.window(axis))) for axis in (0, 1))
    pads = ([0, top, left, 0], [0, bottom, right, 0])
    data = builder.emit(builder.call_te(topi.nn.pad, data, *pads, 0.0, primfunc_name_hint="pad"))
    size = geometry.size[0] + top + bottom, geometry.size[1] + left + right
    before = geometry.before[0] + top * geometry.stride[0], geometry.before[1] + left * geometry.stride[1]
    return data, replace(geometry, size=size, before=before)


def _reach(windows: Sequence[Window]) -> tuple[int, int]:
    """How far windows leave their input at the near and at the far end."""
    near = max(-window.at(0, 0) for window in windows)
    far = max(window.at(window.out - 1, window.kernel - 1) - window.size + 1 for window in windows)
    return max(near, 0), max(far, 0)
