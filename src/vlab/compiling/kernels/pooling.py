"""Maximum and average pooling over NHWC data as computations of our own, without a padded copy; reductions as pooling."""

from math import prod
from typing import Any

from tvm import relax, te, tirx

from vlab.compiling.expressions import shape
from vlab.compiling.kernels.geometry import Geometry, of_float32
from vlab.compiling.schedule.registers import ANNOTATION


def pool2d(builder: Any, call: Any) -> Any:
    """Legalise a `relax.nn.max_pool2d` or `avg_pool2d`: one of ours where it fits, TVM's otherwise."""
    layouts = (call.attrs.layout, call.attrs.out_layout)
    geometry = Geometry.of(call, call.attrs.pool_size) if of_float32(call) and layouts == ("NHWC", "NHWC") else None
    averages = call.op.name == "relax.nn.avg_pool2d"
    if geometry is None or not geometry.peelable or (averages and (geometry.dilation != (1, 1) or call.attrs.ceil_mode)):
        return call.op.get_attr("FLegalize")(builder, call)
    if averages:
        whole = bool(call.attrs.count_include_pad)
        return builder.call_te(lambda data: average(data, geometry, whole), call.args[0], primfunc_name_hint="avg_pool2d")
    return builder.call_te(lambda data: maximum(data, geometry), call.args[0], primfunc_name_hint="max_pool2d")


def reduction(builder: Any, call: Any) -> Any:
    """Legalise a `relax.mean` or `sum` over neighbouring axes but the last: pooling whose window is all of them."""
    extents = shape(call.args[0]) if of_float32(call) else ()
    axes = _neighbours(call.attrs.axis, len(extents))
    if not axes or prod(extents) == 0:
        return call.op.get_attr("FLegalize")(builder, call)
    data, window = call.args[0], (extents[1], extents[2])
    if axes != [1, 2] or len(extents) != 4:
        window = prod(extents[axis] for axis in axes), 1
        image = [prod(extents[: axes[0]]), *window, prod(extents[axes[-1] + 1 :])]
        data = builder.emit(relax.op.reshape(data, image))
    batch, _, _, channels = shape(data)
    geometry = Geometry(batch, window, channels, (1, 1), channels, window, (1, 1), (1, 1), (0, 0), channels)
    computation = _mean if call.op.name == "relax.mean" else _sum
    result = builder.call_te(lambda data: computation(data, geometry), data, primfunc_name_hint=call.op.name.split(".")[1])
    wanted = shape(call)
    return result if wanted == (batch, 1, 1, channels) else relax.op.reshape(builder.emit(result), wanted)


def _neighbours(axes: Any, rank: int) -> list[int]:
    """The axes in order, where they are neighbours and the last one is not among them; none otherwise."""
    found = sorted(int(axis) % rank for axis in axes) if axes is not None and rank else []
    return found if found and found == list(range(found[0], found[-1] + 1)) and found[-1] < rank - 1 else []


def maximum(data: Any, geometry: Geometry) -> Any:
    """The largest value in each window, of those within the image."""
    lowest = tirx.min_value("float32")
    return _pooled(data, geometry, "maximum", te.max, lowest)


def average(data: Any, geometry: Geometry, whole: bool) -> Any:
    """The mean of each window.

    Args:
        data: NHWC.
        geometry: of the windows; without dilation.
        whole: whether padding counts as zeros; without it, only values within the image count.
    """
    total = _sum(data, geometry)

    def count(row: Any, column: Any) -> Any:
        if whole:
            return tirx.IntImm("int64", geometry.kernel[0] * geometry.kernel[1])
        extents = []
        for axis, place in enumerate((row, column)):
            first = place * geometry.stride[axis] - geometry.before[axis]
            extents.append(tirx.min(first + geometry.kernel[axis], geometry.size[axis]) - tirx.max(first, 0))
        return extents[0] * extents[1]

    return te.compute(
        total.shape,
        lambda image, row, column, channel: total[image, row, column, channel] / count(row, column).astype("float32"),
        "average",
    )


def _mean(data: Any, geometry: Geometry) -> Any:
    return average(data, geometry, whole=True)


def _sum(data: Any, geometry: Geometry) -> Any:
    return _pooled(data, geometry, "sum", te.sum, tirx.FloatImm("float32", 0.0))


def _pooled(data: Any, geometry: Geometry, operation: str, combine: Any, missing: Any) -> Any:
    taps = [te.reduce_axis((0, extent), name) for extent, name in zip(geometry.kernel, ("down", "across"), strict=True)]

    def value(image: Any, row: Any, column: Any, channel: Any) -> Any:
        places = geometry.places(row, column, *taps)
        return combine(tirx.if_then_else(geometry.inside(places), data[image, *places, channel], missing), axis=taps)

    attributes = {ANNOTATION: "sliding", "operation": operation, **geometry.attributes()}
    return te.compute((geometry.batch, *geometry.out, geometry.channels), value, "pool2d", attrs=attributes)
