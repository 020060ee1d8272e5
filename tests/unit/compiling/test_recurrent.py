"""Recurrent layers of a keyword spotter's size compile, and the code does not grow with the sequence."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import helper

from tests.unit.compiling.conftest import Save, onnx_model, tensor
from vlab import targets
from vlab.compiling import Compiled, importing, lowering
from vlab.targets import Target

GATES = {"LSTM": 4, "GRU": 3}
MOST_LINES = 5000
"""Of LLVM's language for a layer, unoptimised; an LSTM has 1,802, and with names written out more than a minute can hold."""


def layer(operator: str, steps: int, size: int = 10, hidden: int = 64) -> Any:
    """One layer over a sequence, of which only the last hidden state is wanted."""
    random, rows = np.random.default_rng(3), GATES[operator] * hidden
    shapes = {"w": (1, rows, size), "r": (1, rows, hidden), "b": (1, 2 * rows)}
    weights = {name: (random.standard_normal(shape) / 8).astype(np.float32) for name, shape in shapes.items()}
    node = helper.make_node(operator, ["x", *weights], ["", "h"], name="layer", hidden_size=hidden)
    return onnx_model([node], [tensor("x", [steps, 1, size])], [tensor("h", [1, 1, hidden])], weights)


@pytest.mark.parametrize("operator", ["LSTM", "GRU"])
@pytest.mark.parametrize("name", ["host/x86_64", "riscv/rv64gc-linux"])
def test_a_layer_of_a_keyword_spotter_compiles_and_agrees(
    save: Save, compile_for: Callable[..., Compiled], operator: str, name: str
):
    """49 steps of 10 features, 64 hidden: within a minute and 2 GiB, and checked against ONNX Runtime."""
    compiled = compile_for(save(layer(operator, 49)), name, timeout_s=60, memory_bytes=2 * 2**30)

    assert compiled.manifest.numerics.max_abs_err < 1e-5
    assert all(kernel.scheduled for kernel in compiled.manifest.kernels)


def code(model: Any, target: Target) -> tuple[int, int]:
    """Kernels of a model, and lines of LLVM's language that they are."""
    imported = importing.import_onnx(model.SerializeToString(), {})
    lowered = lowering.lower(imported.module, imported.nodes, target, 1)
    text = str(lowering.emit_object(lowered, target).inspect_source("ll"))
    return len(lowered.report), text.count("\n")


@pytest.mark.parametrize("operator", ["LSTM", "GRU"])
def test_steps_share_their_kernels(operator: str):
    """Four times the steps are the same kernels, and hardly more code."""
    target = targets.load("riscv/rv64gc-linux")
    kernels, lines = code(layer(operator, 4), target)
    kernels_of_more, lines_of_more = code(layer(operator, 16), target)

    assert kernels == kernels_of_more
    assert lines < MOST_LINES
    assert lines_of_more < 1.2 * lines
