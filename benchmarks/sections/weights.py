"""What a quantised model stores of its weights: the yardstick for the weights in an image."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import tflite

from vlab.compiling import inspect_model
from vlab.records import ModelFormat


@dataclass(frozen=True)
class Stored:
    """Bytes in a model file."""

    weights_bytes: int
    """int8 weights and int32 biases."""
    scales_bytes: int
    """The float32 scales of the int8 weights, one for each channel or tensor, without which these mean nothing; those of the
    biases follow from them."""

    @property
    def total_bytes(self) -> int:
        """Both together."""
        return self.weights_bytes + self.scales_bytes


def stored(path: Path) -> Stored:
    """What a quantised ONNX (QDQ) or TFLite model stores.

    Raises:
        ModelError: the file is no model.
    """
    if inspect_model(path).format is ModelFormat.tflite:
        return _in_tflite(path.read_bytes())
    return _in_onnx(onnx.load(path).graph)


def _in_onnx(graph: Any) -> Stored:
    arrays = {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer}
    weights: dict[str, Any] = {}
    scales: dict[str, Any] = {}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in arrays:
            weights[node.input[0]] = arrays[node.input[0]]
            if arrays[node.input[0]].dtype == "int8":
                scales[node.input[1]] = arrays[node.input[1]]
    return Stored(sum(array.nbytes for array in weights.values()), sum(array.nbytes for array in scales.values()))


_WHOLE = (tflite.TensorType.INT8, tflite.TensorType.INT32)


def _in_tflite(content: bytes) -> Stored:
    model = tflite.Model.GetRootAsModel(content, 0)
    graph = model.Subgraphs(0)
    weights = scales = 0
    for index in range(graph.TensorsLength()):
        tensor = graph.Tensors(index)
        quantisation = tensor.Quantization()
        stored_bytes = model.Buffers(tensor.Buffer()).DataLength()
        if tensor.Type() in _WHOLE and stored_bytes and quantisation is not None and quantisation.ScaleLength():
            weights += stored_bytes
            scales += 4 * quantisation.ScaleLength() if tensor.Type() == tflite.TensorType.INT8 else 0
    return Stored(weights, scales)
