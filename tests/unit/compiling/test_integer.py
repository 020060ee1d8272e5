"""Quantised models natively: against LiteRT's reference kernels bit for bit, against ONNX Runtime in what they agree on."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from tests.artifacts import TRAINED
from tests.boards import ready
from tests.unit.compiling.conftest import onnx_model, tensor
from tests.unit.compiling.tflite_model import separable as separable_tflite
from vlab import processes, reference
from vlab.compiling import compile_model, importing, lowering
from vlab.compiling.building import Compiled
from vlab.datasets import read_rows, write_rows
from vlab.records import ModelFormat
from vlab.targets import Target

Compile = Callable[..., Compiled]

HOST = "host/x86_64"
INPUTS = 200
QUANTISED_BYTES = {"ad01_int8": 270_880, "pretrainedResnet_quant": 78_752}
"""Of each model's int8 weights and int32 biases."""


def codes(compiled: Compiled, target: Target, columns: list[npt.NDArray[np.int8]], scratch: Path) -> npt.NDArray[np.int8]:
    """The artifact's only output for inputs [N, ...]."""
    write_rows(columns, scratch / "inputs.bin")
    argv = target.command(compiled.directory / "model", ["infer", scratch / "inputs.bin", scratch / "outputs.bin"])
    done = processes.run_limited(argv, timeout_s=300)
    assert done.returncode == 0, done.last_words
    return read_rows(scratch / "outputs.bin", compiled.manifest.outputs, len(columns[0]))[0]


@pytest.mark.parametrize("name", sorted(QUANTISED_BYTES))
def test_a_tiny_int8_model_equals_litert(name: str, tmp_path: Path):
    """Over 200 inputs drawn evenly from all codes there is no difference at all; weights stay int8."""
    path = TRAINED / f"{name}.tflite"
    if not path.is_file():
        pytest.skip(f"{path} is not here; it comes with MLPerf Tiny (github.com/mlcommons/tiny)")
    target = ready(HOST)
    compiled = compile_model(path, target, cache=tmp_path / "cache")
    shape = compiled.manifest.inputs[0].shape
    rows = np.random.default_rng(11).integers(-128, 128, (INPUTS, *shape)).astype(np.int8)
    (expected,) = reference.load(path.read_bytes(), ModelFormat.tflite, name).outputs([rows])

    got = codes(compiled, target, [rows], tmp_path)

    assert np.array_equal(expected, got)
    assert compiled.manifest.weights_bytes <= 1.1 * QUANTISED_BYTES[name]
    assert all(kernel.name.startswith(("integer_", "fused_integer_", "reshape")) for kernel in compiled.manifest.kernels)


def separable(random: np.random.Generator) -> onnx.ModelProto:
    """Convolution, depthwise and pointwise convolution, a residual, poolings, sigmoid and a dense layer, over 3 by 12 by 12."""

    def weights(*shape: int) -> npt.NDArray[np.float32]:
        return (random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["c0"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c0"], ["r0"]),
        helper.make_node("Conv", ["r0", "w1", "b0"], ["c1"], pads=[1, 1, 1, 1], group=16),
        helper.make_node("Conv", ["c1", "w2", "b0"], ["c2"]),
        helper.make_node("Add", ["r0", "c2"], ["sum"]),
        helper.make_node("MaxPool", ["sum"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Sigmoid", ["pooled"], ["gate"]),
        helper.make_node("Mul", ["pooled", "gate"], ["gated"]),
        helper.make_node("GlobalAveragePool", ["gated"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w3", "b3"], ["y"], transB=1),
    ]
    arrays = {
        "w0": weights(16, 3, 3, 3),
        "b0": weights(16),
        "w1": weights(16, 1, 3, 3),
        "w2": weights(16, 16, 1, 1),
        "w3": weights(10, 16),
        "b3": weights(10),
    }
    return onnx_model(nodes, [tensor("x", [1, 3, 12, 12])], [tensor("y", [1, 10])], arrays)


class Rows(CalibrationDataReader):
    """Samples that a quantiser calibrates with."""

    def __init__(self, rows: npt.NDArray[np.float32]) -> None:
        self.rows = iter(rows)

    def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
        """The next sample; None after the last."""
        row = next(self.rows, None)
        return None if row is None else {"x": row}


@pytest.mark.parametrize(
    ("form", "activations", "per_channel"),
    [
        (QuantFormat.QDQ, QuantType.QInt8, True),
        (QuantFormat.QDQ, QuantType.QUInt8, False),
        (QuantFormat.QOperator, QuantType.QUInt8, True),
    ],
)
def test_a_quantised_onnx_model_runs_as_integers(
    form: QuantFormat, activations: QuantType, per_channel: bool, compile_for: Compile, tmp_path: Path
):
    """Written as QDQ or with QLinear operators: it agrees with ONNX Runtime, and nothing between codes is float."""
    random = np.random.default_rng(5)
    onnx.save(separable(random), tmp_path / "float.onnx")
    rows = random.standard_normal((16, 1, 3, 12, 12)).astype(np.float32)
    path = tmp_path / "int8.onnx"
    quantize_static(
        tmp_path / "float.onnx",
        path,
        Rows(rows),
        quant_format=form,
        per_channel=per_channel,
        activation_type=activations,
        weight_type=QuantType.QInt8,
    )

    compiled = compile_for(path)
    between = [kernel.name for kernel in compiled.manifest.kernels if not kernel.name.startswith(("integer", "fused_integer"))]

    assert all("conv" not in name and "matmul" not in name for name in between), between
    assert [] == [kernel.reason for kernel in compiled.manifest.kernels if "in float32" in kernel.reason]
    assert compiled.manifest.weights_bytes < 3000


@pytest.mark.parametrize("name", ["arm/cortex-m3", "riscv/rv32imac"])
def test_an_int8_model_needs_no_floating_point(name: str, tmp_path: Path):
    """Where there is no FPU, the kernels of an int8 model call no soft float; those of its float twin do."""
    target = ready(name)

    assert soft_float(separable_tflite("int8"), target, tmp_path) == []
    assert soft_float(separable_tflite("float32"), target, tmp_path) != []


def soft_float(model: bytes, target: Target, folder: Path) -> list[str]:
    """Routines of soft float (Arm's run-time ABI, libgcc) that a model's kernels call."""
    imported = importing.import_tflite(model, {})
    lowered = lowering.lower(imported.module, imported.nodes, target, 1)
    lowering.emit_object(lowered, target).write_to_file(str(folder / "kernels.o"), "o")
    lister = target.compiler.program.removesuffix("gcc") + "nm"
    done = processes.run_limited([lister, "--undefined-only", "--just-symbols", folder / "kernels.o"], timeout_s=60)
    assert done.returncode == 0, done.last_words
    return [
        symbol
        for symbol in done.stdout.decode().split()
        if re.match(r"__aeabi_([fd]|[iul]+2[fd])|__\w+[sd]f([23]|[sd]i)", symbol)
    ]
