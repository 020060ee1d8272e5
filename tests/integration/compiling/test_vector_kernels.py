"""Integer kernels for RISC-V's vectors, bit for bit as LiteRT's reference kernels compute them."""

from pathlib import Path

import numpy as np
import pytest

from tests.boards import ready
from tests.unit.compiling.test_integer_operators import Operators
from vlab import processes, reference
from vlab.compiling import compile_model
from vlab.datasets import read_rows, write_rows
from vlab.records import ModelFormat

SAMPLES = 3
CONVOLUTIONS = (
    # height, width, channels, outputs, kernel, stride, dilation, valid, activation
    (9, 64, 3, 16, (3, 3), 1, 1, 0, 1),  # few outputs, many pixels: vectors of pixels of a row
    (33, 36, 4, 10, (3, 5), 2, 1, 1, 0),  # every second pixel, vectors of several rows
    (7, 7, 5, 45, (3, 3), 1, 2, 0, 0),  # vectors of 32, 8 and 4 channels, and one alone
    (5, 8, 64, 64, (1, 1), 1, 1, 0, 1),
)
DEPTHWISE = (
    (14, 21, 8, (3, 3), 1, 1, 0, 1),  # vectors of pixels, and one that overlaps the last
    (10, 13, 16, (3, 3), 2, 1, 1, 0),
    (7, 9, 5, (3, 3), 1, 1, 0, 0),
    (13, 13, 40, (5, 5), 1, 2, 0, 0),
)
PRODUCTS = ((1, 96, 200, 20), (1, 33, 10, 127), (7, 40, 70, 127))
"""Rows, inputs, outputs, and the largest weight, which says how long chains of int16 are."""


def convolution(model: Operators, shape: tuple[int, ...], kernel: tuple[int, int], rest: tuple[int, ...], outputs: int) -> None:
    """A convolution, or a depthwise one if it is given no outputs."""
    stride, dilation, valid, activation = rest
    height, width, channels = shape
    kind, options, axis = ("CONV_2D", "Conv2DOptions", 0) if outputs else ("DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions", 3)
    count, taps = outputs or channels, kernel[0] * kernel[1] * (channels if outputs else 1)
    scales = 0.01 * (0.2 + 4 * model.random.random(count).astype(np.float32))
    sizes = (outputs, *kernel, channels) if outputs else (1, *kernel, channels)
    weights = model.constant(model.random.integers(-127, 128, sizes), "int8", scales, axis)
    bias = model.constant(model.random.integers(-3000, 3000, count), "int32", np.float32(0.1) * scales)
    whole = [(size - (one - 1) * dilation - 1) // stride + 1 for size, one in zip((height, width), kernel, strict=True)]
    high, wide = whole if valid else (-(-height // stride), -(-width // stride))
    output = model.tensor((1, high, wide, count), 0.2 * taps**0.5, -128 if activation else 4)
    fields = {"padding": valid, "strideW": stride, "strideH": stride, "dilationWFactor": dilation, "dilationHFactor": dilation}
    fields |= {"fusedActivationFunction": activation} | ({} if outputs else {"depthMultiplier": 1})
    model.add(kind, [model.input((1, height, width, channels), 0.1, -3), weights, bias], output, options, 3, **fields)


@pytest.mark.parametrize(("built", "boards"), [("rv64gcv", ("rv64gcv", "rv64gcv256")), ("rv64gcv256", ("rv64gcv256",))])
def test_kernels_of_vectors_equal_litert(built: str, boards: tuple[str, ...], tmp_path: Path):
    """Whatever the channels, pixels, strides and dilation: no code differs, nor on longer vectors than it is built for."""
    target = ready(f"riscv/{built}-linux")
    model = Operators()
    for height, width, channels, outputs, kernel, *rest in CONVOLUTIONS:
        convolution(model, (height, width, channels), kernel, tuple(rest), outputs)
    for height, width, channels, kernel, *rest in DEPTHWISE:
        convolution(model, (height, width, channels), kernel, tuple(rest), 0)
    for rows, inputs, outputs, largest in PRODUCTS:
        weights = model.constant(model.random.integers(-largest, largest + 1, (outputs, inputs)), "int8", 0.01)
        bias = model.constant(model.random.integers(-3000, 3000, outputs), "int32", 0.001)
        output = model.tensor((rows, outputs), 0.005 * largest, 4)
        operands = [model.input((rows, inputs), 0.1, -3), weights, bias]
        model.add("FULLY_CONNECTED", operands, output, "FullyConnectedOptions", 4)
    path = tmp_path / "operators.tflite"
    path.write_bytes(model.content())
    runtime = reference.load(path.read_bytes(), ModelFormat.tflite, path.name)
    random = np.random.default_rng(11)
    columns = [random.integers(-128, 128, (SAMPLES, *spec.shape)).astype(np.int8) for spec in runtime.inputs]
    for column in columns:
        column[0] = -128  # the largest sums there are

    compiled = compile_model(path, target, cache=tmp_path / "cache")
    write_rows(columns, tmp_path / "inputs.bin")
    expected = runtime.outputs(columns)
    apart = []
    for board in boards:
        argv = ["infer", tmp_path / "inputs.bin", tmp_path / f"{board}.bin"]
        done = processes.run_limited(ready(f"riscv/{board}-linux").command(compiled.directory / "model", argv), timeout_s=300)
        assert done.returncode == 0, done.last_words
        got = read_rows(tmp_path / f"{board}.bin", compiled.manifest.outputs, SAMPLES)
        for name, ours, theirs in zip(model.names, got, expected, strict=True):
            apart += [(board, name)] if (ours.reshape(theirs.shape) != theirs).any() else []

    assert [] == apart
    assert [] == [kernel.reason for kernel in compiled.manifest.kernels if "in float32" in kernel.reason]
    assert all(theirs.min() < theirs.max() for theirs in expected)
