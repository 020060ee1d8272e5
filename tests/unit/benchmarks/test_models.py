"""The models that are measured."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from benchmarks import models
from vlab import reference
from vlab.records import ModelFormat, TensorSpec

COSTS = {  # multiply-accumulates and parameters: the tiny suite's tables, torchvision's cards, BERT's sizes multiplied out
    "ds-cnn": (2_656_768, 22_604),
    "resnet8": (12_501_632, 77_706),
    "mobilenet-v1-0.25": (7_489_664, 210_850),
    "mobilenet-v2": (300_774_272, None),
    "resnet18": (1_814_073_344, None),
    "bert-6": (6 * (64 * (4 * 384 * 384 + 2 * 384 * 1536) + 2 * 64 * 64 * 384), 6 * (12 * 384 * 384 + 13 * 384)),
}
SMALL = ("ds-cnn", "resnet8", "mobilenet-v1-0.25")


@pytest.mark.parametrize("name", COSTS)
def test_a_model_is_the_published_network(name: str) -> None:
    """Multiply-accumulates and parameters are those of the literature."""
    built = models.build(name)
    macs, parameters = COSTS[name]
    assert (macs, parameters or built.parameters) == (built.macs, built.parameters)


@pytest.mark.parametrize("name", [*SMALL, "ds-cnn-int8"])
def test_a_model_is_the_same_bytes_every_time(name: str) -> None:
    """Two constructions give one serialisation."""
    first, second = (models.build(name).model.SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("name", [*SMALL, "ds-cnn-int8"])
def test_a_model_separates_its_inputs(name: str, run: Callable[[str], np.ndarray]) -> None:
    """Outputs are finite and differ from input to input: an agreement on constants would prove nothing."""
    outputs = run(name)
    assert np.isfinite(outputs).all()
    assert len(np.unique(outputs, axis=0)) == len(outputs)


def test_a_quantised_twin_keeps_every_weight_in_int8() -> None:
    """In the twin of DS-CNN the weights of all convolutions and of the dense layer are int8."""
    graph = models.build("ds-cnn-int8").model.graph
    weights = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    stored = {node.output[0]: weights.get(node.input[0]) for node in graph.node if node.op_type == "DequantizeLinear"}
    kinds = [stored[node.input[1]].dtype for node in graph.node if node.op_type in ("Conv", "Gemm")]
    assert kinds == 10 * [np.dtype(np.int8)]


@pytest.fixture
def run() -> Callable[[str], np.ndarray]:
    """Runs a model in ONNX Runtime on four random inputs."""

    def outputs(name: str) -> np.ndarray:
        model = models.build(name).model
        loaded = reference.load(model.SerializeToString(), ModelFormat.onnx, name)
        specs = [TensorSpec(name=one.name, shape=one.shape, dtype=one.dtype) for one in loaded.inputs]
        return loaded.outputs(reference.random_rows(specs, 4))[0]

    return outputs


def test_models_name_every_node_once() -> None:
    """Node names are unique, so that a profile or a message can speak of them."""
    for name in COSTS:
        graph: onnx.GraphProto = models.build(name).model.graph
        names = [node.name for node in graph.node]
        assert sorted(set(names)) == sorted(names)
