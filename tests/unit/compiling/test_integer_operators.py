"""Single quantised operators natively, bit for bit as LiteRT's reference kernels compute them."""

from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tests.boards import ready
from tests.unit.compiling.test_integer import HOST, Compile
from vlab import processes, reference
from vlab.datasets import read_rows, write_rows
from vlab.records import ModelFormat

SAMPLES = 8
SCALES = ((0.0394, -128, 0.1042, 4, 0.0509, -128), (0.05, 3, 0.05, -7, 0.1, 5), (0.11, 3, 0.013, -7, 0.02, 5))
"""Scales and zero points of two operands and an output."""


class Operators:
    """A model of operators side by side, each with inputs and an output of its own."""

    def __init__(self) -> None:
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators, self.graph.inputs, self.graph.outputs = [], [], [], []
        empty = schema.BufferT()
        empty.data = []
        self.model = schema.ModelT()
        self.model.version, self.model.operatorCodes = 3, []
        self.model.subgraphs, self.model.buffers = [self.graph], [empty]
        self.names: list[str] = []
        self.random = np.random.default_rng(1)

    def tensor(
        self, shape: tuple[int, ...], scales: Any = None, zero_point: int = 0, dtype: str = "int8", axis: int = 0
    ) -> int:
        """Number of a new tensor."""
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.buffer = f"t{len(self.graph.tensors)}", list(shape), 0
        tensor.type = {"int8": schema.TensorType.INT8, "int32": schema.TensorType.INT32}[dtype]
        if scales is not None:
            about = schema.QuantizationParametersT()
            about.scale = np.atleast_1d(np.asarray(scales, np.float32))
            about.zeroPoint = np.full(about.scale.shape, zero_point, np.int64)
            about.quantizedDimension = axis
            tensor.quantization = about
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def input(self, shape: tuple[int, ...], scale: float, zero_point: int) -> int:
        """Number of a new input of codes."""
        self.graph.inputs.append(self.tensor(shape, scale, zero_point))
        return int(self.graph.inputs[-1])

    def constant(self, values: Any, dtype: str, scales: Any = None, axis: int = 0) -> int:
        """Number of a new constant."""
        array = np.ascontiguousarray(values, dtype)
        number = self.tensor(array.shape, scales, 0, dtype, axis)
        content = schema.BufferT()
        content.data = np.frombuffer(array.tobytes(), np.uint8)
        self.graph.tensors[number].buffer = len(self.model.buffers)
        self.model.buffers.append(content)
        return number

    def add(self, kind: str, inputs: list[int], output: int, options: str = "", version: int = 2, **fields: Any) -> None:
        """An operator, whose output is one of the model."""
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, kind)
        code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), version
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = len(self.model.operatorCodes), inputs, [output]
        if options:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, options)
            operator.builtinOptions = getattr(schema, f"{options}T")()
            for name, value in fields.items():
                setattr(operator.builtinOptions, name, value)
        self.model.operatorCodes.append(code)
        self.graph.operators.append(operator)
        self.graph.outputs.append(output)
        self.names.append(f"{kind} {fields}")

    def content(self) -> bytes:
        """The model as a file."""
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def elementwise(model: Operators) -> None:
    """Two operands with scales of their own, functions of one value, and codes of another scale."""
    for left, left_zero, right, right_zero, scale, zero in SCALES:
        for kind, options in (("ADD", "AddOptions"), ("SUB", "SubOptions"), ("MUL", "MulOptions")):
            operands = [model.input((1, 4096), left, left_zero), model.input((1, 4096), right, right_zero)]
            model.add(kind, operands, model.tensor((1, 4096), scale / 3 if kind == "MUL" else scale, zero), options)
    for ratio in (0.25, 0.3, 1.7):
        model.add("QUANTIZE", [model.input((1, 256), 0.1 * ratio, -3)], model.tensor((1, 256), 0.1, 5), "QuantizeOptions")
    model.add("LOGISTIC", [model.input((1, 256), 0.05, -5)], model.tensor((1, 256), 1 / 256, -128))
    model.add("TANH", [model.input((1, 256), 0.02, -5)], model.tensor((1, 256), 1 / 128, 0))


def reductions(model: Operators) -> None:
    """Shares of classes, means, and poolings with and without padding."""
    for shape, scale in (((1, 10), 0.1), ((4, 37), 0.02)):
        share = model.tensor(shape, 1 / 256, -128)
        model.add("SOFTMAX", [model.input(shape, scale, 9)], share, "SoftmaxOptions", beta=1.0)
    for scale, zero in ((0.07, -3), (0.1, 9)):
        axes = model.constant([1, 2], "int32")
        model.add("MEAN", [model.input((1, 9, 9, 12), 0.1, 9), axes], model.tensor((1, 12), scale, zero), "ReducerOptions")
    for padding, stride, size in ((0, 1, 9), (0, 2, 5), (1, 1, 7), (1, 2, 4)):
        for kind in ("AVERAGE_POOL_2D", "MAX_POOL_2D"):
            window = {"padding": padding, "strideW": stride, "strideH": stride, "filterWidth": 3, "filterHeight": 3}
            output = model.tensor((1, size, size, 5), 0.1, -3)
            model.add(kind, [model.input((1, 9, 9, 5), 0.1, -3)], output, "Pool2DOptions", **window)


def products(model: Operators) -> None:
    """A convolution, a depthwise one and a matrix product, with an activation, padding and strides."""
    for padding, stride, size in ((0, 2, 5), (1, 1, 7)):
        window = {"padding": padding, "strideW": stride, "strideH": stride, "dilationWFactor": 1, "dilationHFactor": 1}
        for kind, shape, axis in (("CONV_2D", (16, 3, 3, 6), 0), ("DEPTHWISE_CONV_2D", (1, 3, 3, 16), 3)):
            scales = 0.01 * (1 + model.random.random(16).astype(np.float32))
            weights = model.constant(model.random.integers(-127, 128, shape), "int8", scales, axis)
            bias = model.constant(model.random.integers(-3000, 3000, 16), "int32", np.float32(0.1) * scales)
            channels = 6 if kind == "CONV_2D" else 16
            fields = window | ({} if kind == "CONV_2D" else {"depthMultiplier": 1}) | {"fusedActivationFunction": stride - 1}
            inputs = [model.input((1, 9, 9, channels), 0.1, -3), weights, bias]
            output = model.tensor((1, size, size, 16), 0.07, 4)
            model.add(kind, inputs, output, "Conv2DOptions" if axis == 0 else "DepthwiseConv2DOptions", 3, **fields)
    weights = model.constant(model.random.integers(-127, 128, (10, 33)), "int8", 0.01)
    bias = model.constant(model.random.integers(-3000, 3000, 10), "int32", 0.001)
    inputs = [model.input((2, 33), 0.1, -3), weights, bias]
    model.add("FULLY_CONNECTED", inputs, model.tensor((2, 10), 0.2, 4), "FullyConnectedOptions", 4)


def test_each_operator_equals_litert(compile_for: Compile, tmp_path: Path):
    """Whatever the codes, scales, strides and padding: not one code differs, and no kernel computes in float32."""
    target = ready(HOST)
    model = Operators()
    for some in (elementwise, reductions, products):
        some(model)
    path = tmp_path / "operators.tflite"
    path.write_bytes(model.content())
    runtime = reference.load(path.read_bytes(), ModelFormat.tflite, path.name)
    random = np.random.default_rng(11)
    rows = [random.integers(-128, 128, (SAMPLES, *spec.shape)).astype(np.int8) for spec in runtime.inputs]

    compiled = compile_for(path)
    write_rows(rows, tmp_path / "inputs.bin")
    command = target.command(compiled.directory / "model", ["infer", tmp_path / "inputs.bin", tmp_path / "outputs.bin"])
    done = processes.run_limited(command, timeout_s=300)
    assert done.returncode == 0, done.last_words
    got = read_rows(tmp_path / "outputs.bin", compiled.manifest.outputs, SAMPLES)
    apart = {
        name: int(np.abs(ours.reshape(theirs.shape).astype(int) - theirs).max())
        for name, ours, theirs in zip(model.names, got, runtime.outputs(rows), strict=True)
    }

    assert {} == {name: most for name, most in apart.items() if most}
    assert [] == [kernel.reason for kernel in compiled.manifest.kernels if "in float32" in kernel.reason]


def test_the_factor_of_a_softmax_counts(compile_for: Compile, tmp_path: Path):
    """A softmax of half its input has no integer kernel, and is right in float32; the check would refuse it otherwise."""
    model = Operators()
    share = model.tensor((2, 3), 1 / 256, -128)
    model.add("SOFTMAX", [model.input((2, 3), 0.4, 9)], share, "SoftmaxOptions", beta=0.5)
    path = tmp_path / "softmax.tflite"
    path.write_bytes(model.content())

    reasons = [kernel.reason for kernel in compile_for(path).manifest.kernels]

    assert any("in float32" in reason for reason in reasons)
