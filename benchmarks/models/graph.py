"""ONNX graphs written node by node, with seeded random weights that keep activations finite."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Weights = npt.NDArray[np.float32]

OPSET = 17
IR_VERSION = 8
"""The first that has opset 17 (onnx/docs/Versioning.md)."""


def output_size(size: int, kernel: int, stride: int, before: int, after: int) -> int:
    """Size of a convolution's output (ONNX operator Conv, explicit padding)."""
    return (size + before + after - kernel) // stride + 1


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Padding before and after, as TensorFlow's "SAME" has it: the odd one comes after.

    Source: tensorflow/core/framework/common_shape_fns.cc, GetWindowedOutputSizeVerbose.
    """
    total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


@dataclass(frozen=True)
class Network:
    """A model and what it costs."""

    model: Any
    """onnx.ModelProto."""
    macs: int
    """Multiply-accumulates of one inference, of convolutions and matrix products."""
    parameters: int
    """Trained values."""


class Graph:
    """A graph under construction; every method adds nodes and returns the name of what they compute."""

    def __init__(self, name: str, seed: int) -> None:
        self._name = name
        self._random = np.random.default_rng(seed)
        self._nodes: list[Any] = []
        self._weights: list[Any] = []
        self._inputs: list[Any] = []
        self._shapes: dict[str, tuple[int, ...]] = {}
        self.macs = 0
        self._parameters = 0

    def input(self, name: str, shape: Sequence[int], dtype: int = TensorProto.FLOAT) -> str:
        """An input of the model."""
        self._inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        self._shapes[name] = tuple(shape)
        return name

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor."""
        return self._shapes[name]

    def constant(self, value: Any, name: str) -> str:
        """A value that is no parameter, such as a shape or a bound."""
        self._weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def normal(self, shape: Sequence[int], scale: float, name: str, mean: float = 0.0) -> str:
        """Parameters drawn from a normal distribution of that standard deviation."""
        values = (mean + scale * self._random.standard_normal(shape)).astype(np.float32)
        self._parameters += values.size
        return self.constant(values, name)

    def node(self, kind: str, inputs: Sequence[str], name: str, shape: Sequence[int], **attributes: Any) -> str:
        """Any node with one output, whose name is the node's."""
        self._nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        self._shapes[name] = tuple(shape)
        return name

    def convolution(
        self,
        data: str,
        name: str,
        *,
        channels: int,
        kernel: tuple[int, int],
        stride: int = 1,
        padding: Sequence[tuple[int, int]] | None = None,
        depthwise: bool = False,
        gain: float = 2.0,
    ) -> str:
        """Convolution with bias, into which an exporter has folded the batch normalisation that followed it.

        Args:
            data: [1, channels, height, width].
            name: of the node.
            channels: of the output.
            kernel: height and width.
            stride: in both directions.
            padding: before and after, for height and width; as "SAME" where it is not given.
            depthwise: one filter for each channel.
            gain: variance of a weight times its fan-in; 2 keeps the scale of activations through ReLU (He et al., 2015).
        """
        _, inputs, *size = self.shape(data)
        padding = padding or [same_padding(*numbers, stride) for numbers in zip(size, kernel, strict=True)]
        fan_in = (1 if depthwise else inputs) * math.prod(kernel)
        weights = self.normal((channels, 1 if depthwise else inputs, *kernel), math.sqrt(gain / fan_in), f"{name}.weight")
        bias = self.normal((channels,), 0.1, f"{name}.bias")
        pairs = zip(size, kernel, padding, strict=True)
        out = [output_size(extent, window, stride, *around) for extent, window, around in pairs]
        self.macs += channels * math.prod(out) * fan_in
        return self.node(
            "Conv",
            [data, weights, bias],
            name,
            (1, channels, *out),
            group=inputs if depthwise else 1,
            kernel_shape=kernel,
            pads=[before for before, _ in padding] + [after for _, after in padding],
            strides=[stride, stride],
        )

    def relu(self, data: str) -> str:
        """max(x, 0)."""
        return self.node("Relu", [data], f"{data}.relu", self.shape(data))

    def relu6(self, data: str) -> str:
        """min(max(x, 0), 6), as PyTorch exports it: Clip with its bounds as constants."""
        bounds = [self.constant(np.float32(bound), f"{data}.{end}") for end, bound in (("min", 0), ("max", 6))]
        return self.node("Clip", [data, *bounds], f"{data}.relu6", self.shape(data))

    def add(self, left: str, right: str, name: str) -> str:
        """Elementwise sum of two activations of one shape."""
        return self.node("Add", [left, right], name, self.shape(left))

    def classifier(self, data: str, classes: int, *, softmax: bool) -> str:
        """Mean over the image, dense layer, and softmax where the trained model has one."""
        channels = self.shape(data)[1]
        data = self.node("GlobalAveragePool", [data], "pool", (1, channels, 1, 1))
        data = self.node("Flatten", [data], "flatten", (1, channels), axis=1)
        weights = self.normal((classes, channels), math.sqrt(1 / channels), "dense.weight")
        bias = self.normal((classes,), 0.1, "dense.bias")
        self.macs += channels * classes
        data = self.node("Gemm", [data, weights, bias], "dense", (1, classes), transB=1)
        return self.node("Softmax", [data], "probabilities", (1, classes), axis=-1) if softmax else data

    def finish(self, output: str) -> Network:
        """The model whose only output is that tensor, checked."""
        outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, self.shape(output))]
        graph = helper.make_graph(self._nodes, self._name, self._inputs, outputs, self._weights)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="vlab-benchmarks"
        )
        onnx.checker.check_model(model, full_check=True)
        return Network(model, self.macs, self._parameters)
