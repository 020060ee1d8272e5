"""Kernels over rows, and the operators that exporters write in pieces, against ONNX Runtime."""

from pathlib import Path

import numpy as np
import pytest

from tests.unit.compiling import native
from vlab.targets import Target

SIZES = [1, 7, 16, 67]


@pytest.fixture(params=native.TARGETS)
def target(request: pytest.FixtureRequest) -> Target:
    """Three ways in which registers may be."""
    return native.TARGETS[request.param]


def names(report: tuple[native.Kernel, ...]) -> set[str]:
    """Names of the kernels without the numbers that tell equal ones apart."""
    return {kernel.name.rstrip("0123456789") for kernel in report}


def scalar(model: native.Collected, value: float) -> str:
    """A constant of one value."""
    name = model.value(known=True)
    model.weights[name] = np.array(value, np.float32)
    return name


def test_softmax_over_any_axis_and_size(target: Target, tmp_path: Path):
    """Rows shorter than a vector and rows that end within one; masked rows; an axis that is not the last."""
    model = native.Collected()
    for size in SIZES:
        model.output(model.node("Softmax", model.value(2, 3, size), axis=-1), 3)
        model.output(model.node("LogSoftmax", model.value(5, size), axis=-1), 2)
    model.output(model.node("Softmax", model.value(2, 5, 3), axis=1), 3)
    masked = model.value(4, 24)
    model.inputs[masked][1:, 5:] = np.finfo(np.float32).min
    model.inputs[masked][2] += 1000.0
    model.inputs[masked][3, 0] = -np.inf
    model.output(model.node("Softmax", masked, axis=-1), 2)

    model.agree(target, tmp_path)


def test_reductions_over_the_last_axes(target: Target, tmp_path: Path):
    """Sum, mean, maximum and minimum over one axis, two axes, and all of them."""
    model = native.Collected()
    for kind in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin"):
        for axes, kept in (([-1], 1), ([2, 3], 0), ([0, 1, 2, 3], 0)):
            place = model.value(known=True)
            model.weights[place] = np.array(axes, np.int64)
            reduced = model.node(kind, model.value(2, 3, 5, 19), place, keepdims=kept)
            model.output(reduced, 4 if kept else 4 - len(axes))

    report = model.agree(target, tmp_path)

    assert [] == [kernel for kernel in report if kernel.reason]


def test_layer_normalisation_whole_or_in_pieces_is_one_kernel(target: Target, tmp_path: Path):
    """The operator, and the nine operators that PyTorch writes for it, with and without weights, in either order."""
    model = native.Collected()
    for size in SIZES[1:]:
        data, weight, bias = model.value(1, 5, size), model.value(size, known=True), model.value(size, known=True)
        model.output(model.node("LayerNormalization", data, weight, bias, axis=-1, epsilon=1e-5), 3)
        last = model.value(known=True)
        model.weights[last] = np.array([-1], np.int64)
        centred = model.node("Sub", data, model.node("ReduceMean", data, last))
        variance = model.node("ReduceMean", model.node("Pow", centred, scalar(model, 2.0)), last)
        norm = model.node("Div", centred, model.node("Sqrt", model.node("Add", variance, scalar(model, 1e-5))))
        model.output(norm, 3)
        model.output(model.node("Add", bias, model.node("Mul", weight, norm)), 3)
    model.output(model.node("LayerNormalization", model.value(3, 4, 6), model.value(4, 6, known=True), axis=1), 3)

    report = model.agree(target, tmp_path)

    assert {"layer_norm"} == names(report)
    assert [] == [kernel for kernel in report if kernel.reason]


def test_rms_normalisation_in_pieces_is_one_kernel(target: Target, tmp_path: Path):
    """As Llama's modules are exported: the root divides, or one over it multiplies."""
    model = native.Collected()
    last = model.value(known=True)
    model.weights[last] = np.array([-1], np.int64)
    for size in SIZES[1:]:
        data, weight = model.value(2, 5, size), model.value(size, known=True)
        mean = model.node("ReduceMean", model.node("Pow", data, scalar(model, 2.0)), last)
        root = model.node("Sqrt", model.node("Add", mean, scalar(model, 1e-6)))
        model.output(model.node("Mul", weight, model.node("Div", data, root)), 3)
        model.output(model.node("Mul", model.node("Mul", data, model.node("Div", scalar(model, 1.0), root)), weight), 3)

    report = model.agree(target, tmp_path)

    assert {"rms_norm"} == names(report)


def test_what_only_looks_like_a_normalisation_stays_what_it_is(target: Target, tmp_path: Path):
    """Another value in the root, another axis in the mean, a weight that varies by row: the numbers are right."""
    model = native.Collected()
    last, rows = model.value(known=True), model.value(known=True)
    model.weights[last], model.weights[rows] = np.array([-1], np.int64), np.array([1], np.int64)
    data, other = model.value(2, 5, 16), model.value(2, 5, 16)
    square = model.node("Mul", other, other)
    root = model.node("Sqrt", model.node("Add", model.node("ReduceMean", square, last), scalar(model, 1e-6)))
    model.output(model.node("Div", data, root), 3)
    centred = model.node("Sub", data, model.node("ReduceMean", data, rows))
    variance = model.node("ReduceMean", model.node("Mul", centred, centred), last)
    deviation = model.node("Sqrt", model.node("Add", variance, scalar(model, 1e-5)))
    model.output(model.node("Div", centred, deviation), 3)
    norm = model.node("LayerNormalization", data, model.value(16, known=True), axis=-1)
    model.output(model.node("Mul", norm, model.value(5, 1, known=True)), 3)
    model.output(model.node("Pow", data, scalar(model, 3.0)), 3)

    model.agree(target, tmp_path)
