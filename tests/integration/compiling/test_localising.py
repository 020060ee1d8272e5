"""A kernel that computes something else is found, and named by the model's own node."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.boards import ready
from tests.miscompiling import give_wrong_kernel
from tests.unit.compiling.conftest import onnx_model, tensor
from tests.unit.compiling.tflite_model import dense_softmax
from vlab import compiling
from vlab.errors import DifferenceError


@pytest.fixture
def miscompile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Gives an operator of Relax a wrong kernel, in the processes that compile."""
    return lambda operator, kernel: give_wrong_kernel(operator, kernel, tmp_path / "wrong", monkeypatch)


def saved(folder: Path, model: Any) -> Path:
    """The model's file."""
    onnx.save(model, folder / "m.onnx")
    return folder / "m.onnx"


def two_branches() -> Any:
    """Convolution, sine and a branch beside it, joined and reduced to few values."""
    random = np.random.default_rng(5)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="stem", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Sin", ["b"], ["c"], name="wave"),
        helper.make_node("Mul", ["a", "two"], ["d"], name="side"),
        helper.make_node("Add", ["c", "d"], ["e"], name="join"),
        helper.make_node("GlobalAveragePool", ["e"], ["f"], name="pool"),
        helper.make_node("Flatten", ["f"], ["y"], name="flatten"),
    ]
    weights = {"w": random.standard_normal((4, 1, 3, 3)).astype(np.float32), "two": np.float32([2])}
    return onnx_model(nodes, [tensor("x", [1, 1, 8, 8])], [tensor("y", [1, 4])], weights)


def test_the_first_wrong_operator_is_named(miscompile: Callable[[str, str], None], tmp_path: Path):
    """On the target's own emulator: operator, node, figures and kernel; stack traces stay in the log."""
    miscompile("relax.sin", "te.sin(x(*at)) + tirx.const(0.01, 'float32')")
    with pytest.raises(DifferenceError) as caught:
        compiling.compile_model(saved(tmp_path, two_branches()), ready("arm/cortex-m4"), cache=tmp_path / "cache")

    told = str(caught.value)
    assert "the compiled model differs from onnxruntime" in told
    assert "the first operator that differs is Sin (node wave): tensor c by up to 0.01" in told
    assert "in kernel " in told
    assert "\n" not in told


def test_a_tflite_operator_is_named(miscompile: Callable[[str, str], None], tmp_path: Path):
    """Nodes of TFLite have no names; number and output say which it is."""
    miscompile("relax.nn.relu", "tirx.max(x(*at), tirx.const(0.5, 'float32'))")
    path = tmp_path / "dense.tflite"
    path.write_bytes(dense_softmax())

    with pytest.raises(DifferenceError, match=r"first operator that differs is FULLY_CONNECTED \(node 0 hidden\).*kernel "):
        compiling.compile_model(path, ready("host/x86_64"), cache=tmp_path / "cache")
