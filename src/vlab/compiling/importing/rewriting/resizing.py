"""Resize and Upsample: for each axis a few taps with constant places and weights, whatever the mode.

Coordinates, weights and policies are those of ONNX Operators, Resize, and of its reference implementation
(onnx/reference/ops/op_resize.py).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from vlab.compiling.importing.rewriting.node import FormError, Node
from vlab.compiling.importing.rewriting.rules import Emitter, rewrites
from vlab.datasets import Array

_FEW_TAPS = 4
"""Up to so many taps an output is a sum of gathered inputs; with more it is a matrix product."""


@dataclass(frozen=True)
class _Axis:
    """How one axis is resized."""

    size_in: int
    size_out: int
    scale: float
    start: float = 0.0
    end: float = 1.0
    """Region of tf_crop_and_resize, as parts of the input."""


@dataclass(frozen=True)
class _Way:
    """Attributes that hold for all axes."""

    mode: str
    coordinates: str
    nearest: str
    cubic_a: float
    excludes_outside: bool
    antialias: bool


@rewrites("Upsample")
def _upsample(node: Node, emit: Emitter) -> str:
    scales = node.get("scales", None) or emit.graph.need(node.input(1), "its scales")
    way = _Way(node.get("mode", "nearest"), "asymmetric", "floor", -0.75, excludes_outside=False, antialias=False)
    shape = emit.graph.shape(node.input(0))
    axes = {
        place: _Axis(size, math.floor(size * float(scale)), float(scale))
        for place, (size, scale) in enumerate(zip(shape, scales, strict=True))
    }
    return _resized(node.input(0), axes, way, None, emit)


@rewrites("Resize")
def _resize(node: Node, emit: Emitter) -> str:
    x = node.input(0)
    shape = emit.graph.shape(x)
    places = {"roi": "", "scales": node.input(1), "sizes": ""} if node.version < 11 else None
    places = places or {"roi": node.input(1), "scales": node.input(2), "sizes": node.input(3)}
    given = {name: emit.graph.need(value, f"its {name}") for name, value in places.items() if value}
    given = {name: value for name, value in given.items() if value.size}
    default = "half_pixel" if node.version >= 11 else "asymmetric"
    way = _Way(
        node.get("mode", "nearest"),
        node.get("coordinate_transformation_mode", default),
        node.get("nearest_mode", "round_prefer_floor" if node.version >= 11 else "floor"),
        node.get("cubic_coeff_a", -0.75),
        bool(node.get("exclude_outside", 0)),
        bool(node.get("antialias", 0)),
    )
    named = [axis % len(shape) for axis in node.get("axes", range(len(shape)))]
    extents = _extents([shape[axis] for axis in named], given, node.get("keep_aspect_ratio_policy", "stretch"))
    axes = {}
    for place, (axis, (size, scale)) in enumerate(zip(named, extents, strict=True)):
        start, end = 0.0, 1.0
        if way.coordinates == "tf_crop_and_resize":
            if "roi" not in given:
                raise FormError("it crops without a region; give the input roi")
            start, end = float(given["roi"][place]), float(given["roi"][place + len(named)])
        axes[axis] = _Axis(shape[axis], size, scale, start, end)
    extrapolated = node.get("extrapolation_value", 0.0) if way.coordinates == "tf_crop_and_resize" else None
    return _resized(x, axes, way, extrapolated, emit)


def _extents(shape: list[int], given: dict[str, Array], policy: str) -> list[tuple[int, float]]:
    """Size and scale of each axis, as the policy about the aspect ratio has them."""
    if "scales" in given:
        scales = [float(scale) for scale in given["scales"]]
        return [(math.floor(size * scale), scale) for size, scale in zip(shape, scales, strict=True)]
    if "sizes" not in given:
        raise FormError("it has neither scales nor sizes")
    sizes = [int(size) for size in given["sizes"]]
    if policy == "stretch":
        return [(new, new / old) for new, old in zip(sizes, shape, strict=True)]
    scale = (min if policy == "not_larger" else max)(new / old for new, old in zip(sizes, shape, strict=True))
    return [(math.floor(scale * old + 0.5), scale) for old in shape]


def _resized(x: str, axes: dict[int, _Axis], way: _Way, extrapolated: float | None, emit: Emitter) -> str:
    if way.mode not in ("nearest", "linear", "cubic"):
        raise FormError(f"mode {way.mode} is not nearest, linear or cubic")
    shape, element = emit.graph.shape(x), emit.graph.element(x)
    exact = way.mode == "nearest"
    value = x if exact else emit.cast(x, TensorProto.FLOAT)
    for axis, about in sorted(axes.items()):
        at = _coordinates(about, way.coordinates)
        if about.size_in == about.size_out and np.array_equal(at, np.arange(about.size_in)):
            continue
        if exact:
            places = np.clip(_nearest(at, way.nearest), 0, about.size_in - 1).astype(np.int64)
            value = emit("Gather", value, places, axis=axis)
        else:
            places, weights = _taps(at, about, way)
            value = _interpolated(value, axis, len(shape), places, weights, about.size_in, emit)
    if extrapolated is not None:
        value = _masked(value, axes, len(shape), way, extrapolated, emit)
    return value if exact else emit.cast(value, element)


def _coordinates(axis: _Axis, mode: str) -> Array:  # noqa: PLR0911 - one for each mode
    """Where each output lies among the inputs."""
    out = np.arange(axis.size_out, dtype=np.float64)
    length = axis.scale * axis.size_in
    """Of the output before it is rounded down."""
    if mode == "half_pixel":
        return (out + 0.5) / axis.scale - 0.5
    if mode == "half_pixel_symmetric":
        centre = axis.size_in / 2
        return centre * (1 - axis.size_out / length) + (out + 0.5) / axis.scale - 0.5
    if mode == "pytorch_half_pixel":
        return (out + 0.5) / axis.scale - 0.5 if length > 1 else np.full(axis.size_out, -0.5)
    if mode == "align_corners":
        return out * (axis.size_in - 1) / (length - 1) if length != 1 else np.zeros(axis.size_out)
    if mode == "asymmetric":
        return out / axis.scale
    if mode == "tf_crop_and_resize":
        last = axis.size_in - 1
        if length <= 1:
            return np.full(axis.size_out, 0.5 * (axis.start + axis.end) * last)
        return axis.start * last + out * (axis.end - axis.start) * last / (length - 1)
    raise FormError(f"coordinate_transformation_mode {mode} is unknown")


def _nearest(at: Array, mode: str) -> Array:
    rounding: dict[str, Callable[[Array], Array]] = {
        "round_prefer_floor": lambda x: np.ceil(x - 0.5),
        "round_prefer_ceil": lambda x: np.floor(x + 0.5),
        "floor": np.floor,
        "ceil": np.ceil,
    }
    if mode not in rounding:
        raise FormError(f"nearest_mode {mode} is unknown")
    return rounding[mode](at)


def _taps(at: Array, axis: _Axis, way: _Way) -> tuple[Array, Array]:
    """Places and weights, both [outputs, taps]; beyond the border the last input counts again."""
    stretch = min(axis.scale, 1.0) if way.antialias else 1.0
    reach = 1.0 if way.mode == "linear" else 2.0
    half = math.ceil(reach / stretch)
    places = np.floor(at)[:, None] + np.arange(1 - half, half + 1)
    distance = np.abs(places - at[:, None]) * stretch
    weights = _triangle(distance) if way.mode == "linear" else _cubic(distance, way.cubic_a)
    if way.excludes_outside:
        weights = np.where((places >= 0) & (places < axis.size_in), weights, 0.0)
    if way.excludes_outside or way.antialias:
        weights = weights / weights.sum(axis=1, keepdims=True)
    return np.clip(places, 0, axis.size_in - 1).astype(np.int64), weights


def _triangle(distance: Array) -> Array:
    return np.maximum(0.0, 1.0 - distance)


def _cubic(d: Array, a: float) -> Array:
    """Keys, "Cubic convolution interpolation for digital image processing", 1981, equation 15 with a free a."""
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


def _interpolated(x: str, axis: int, rank: int, places: Array, weights: Array, size: int, emit: Emitter) -> str:
    weights = weights.astype(np.float32)
    if places.shape[1] > _FEW_TAPS:
        matrix = np.zeros((size, len(places)), np.float32)
        for tap in range(places.shape[1]):
            np.add.at(matrix, (places[:, tap], np.arange(len(places))), weights[:, tap])
        order = [other for other in range(rank) if other != axis] + [axis]
        moved = emit("MatMul", emit("Transpose", x, perm=order), matrix)
        return emit("Transpose", moved, perm=list(np.argsort(order)))
    along = [-1 if other == axis else 1 for other in range(rank)]
    total = ""
    for tap in range(places.shape[1]):
        if not weights[:, tap].any():
            continue
        part = emit("Mul", emit("Gather", x, places[:, tap], axis=axis), weights[:, tap].reshape(along))
        total = emit("Add", total, part) if total else part
    return total


def _masked(x: str, axes: dict[int, _Axis], rank: int, way: _Way, value: float, emit: Emitter) -> str:
    """Outputs whose coordinates lie outside the input are the extrapolation value."""
    outside = np.zeros([1] * rank, np.bool_)
    for axis, about in axes.items():
        at = _coordinates(about, way.coordinates)
        along = [-1 if other == axis else 1 for other in range(rank)]
        outside = outside | ((at < 0) | (at > about.size_in - 1)).reshape(along)
    return emit("Where", outside, emit.like(value, x), x) if outside.any() else x
