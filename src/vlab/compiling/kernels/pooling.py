"""Maximum and average pooling over NHWC data as computations of our own, without a padded copy."""

from typing import Any

from tvm import te, tirx

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
    total = _pooled(data, geometry, "sum", te.sum, tirx.FloatImm("float32", 0.0))

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


def _pooled(data: Any, geometry: Geometry, operation: str, combine: Any, missing: Any) -> Any:
    taps = [te.reduce_axis((0, extent), name) for extent, name in zip(geometry.kernel, ("down", "across"), strict=True)]

    def value(image: Any, row: Any, column: Any, channel: Any) -> Any:
        places = geometry.places(row, column, *taps)
        return combine(tirx.if_then_else(geometry.inside(places), data[image, *places, channel], missing), axis=taps)

    attributes = {ANNOTATION: "sliding", "operation": operation, **geometry.attributes()}
    return te.compute((geometry.batch, *geometry.out, geometry.channels), value, "pool2d", attrs=attributes)
