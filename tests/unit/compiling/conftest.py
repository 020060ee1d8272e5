"""Small models and one cache for all compiles of a run."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.boards import ready
from vlab import compiling
from vlab.compiling import Compiled

Save = Callable[..., Path]


def tensor(name: str, shape: Sequence[int | str] | None, dtype: int = TensorProto.FLOAT) -> Any:
    """Description of an input or output."""
    return helper.make_value_info(name, helper.make_tensor_type_proto(dtype, shape))


def onnx_model(nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: dict[str, Any] | None = None) -> Any:
    """A model of these parts."""
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in (weights or {}).items()]
    graph = helper.make_graph(nodes, "small", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def small_cnn(batch: int | str = 1) -> Any:
    """Convolution, depthwise convolution, pooling and a dense layer over images of 8 by 8."""
    random = np.random.default_rng(7)
    weights = {
        "stem": random.standard_normal((16, 1, 3, 3)),
        "depthwise": random.standard_normal((16, 1, 3, 3)),
        "dense": random.standard_normal((16, 10)),
        "bias": random.standard_normal(10),
    }
    nodes = [
        helper.make_node("Conv", ["x", "stem"], ["a"], name="stem", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Conv", ["b", "depthwise"], ["c"], name="depthwise", group=16, pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["c"], ["d"], name="pool"),
        helper.make_node("Flatten", ["d"], ["e"], name="flatten"),
        helper.make_node("Gemm", ["e", "dense", "bias"], ["f"], name="dense"),
        helper.make_node("Softmax", ["f"], ["y"], name="softmax"),
    ]
    floats = {name: value.astype(np.float32) for name, value in weights.items()}
    return onnx_model(nodes, [tensor("x", [batch, 1, 8, 8])], [tensor("y", [batch, 10])], floats)


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Writes a model into a file."""

    def write(model: Any, name: str = "small.onnx") -> Path:
        path = tmp_path / name
        onnx.save(model, path)
        return path

    return write


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache for all tests of a run; what a test compiles twice is compiled once."""
    return tmp_path_factory.mktemp("compile-cache")


@pytest.fixture(scope="session")
def compile_for(cache: Path) -> Callable[..., Compiled]:
    """Compiles for a target by name; skips where a tool is missing, with the command that installs it."""

    def run(model: Path, name: str = "host/x86_64", **options: Any) -> Compiled:
        return compiling.compile_model(model, ready(name), **{"cache": cache, **options})

    return run
