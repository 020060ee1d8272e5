"""Convolution and pooling of many shapes through the whole compile path: compiled, run, compared with ONNX Runtime."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from tests.boards import ready
from tests.unit.compiling.conftest import Save, onnx_model, tensor
from vlab import compiling
from vlab.targets import Target

CONVOLUTIONS: list[dict[str, Any]] = [
    # channels of input and output, size, and what differs from a 1x1 window without padding
    {"inputs": 16, "outputs": 24, "size": (7, 7)},
    {"inputs": 13, "outputs": 37, "size": (14, 14), "batch": 2},
    {"inputs": 3, "outputs": 10, "size": (9, 11), "kernel": (3, 3), "pads": (1, 1, 1, 1)},
    {"inputs": 32, "outputs": 64, "size": (7, 7), "kernel": (3, 3), "pads": (1, 1, 1, 1)},
    {"inputs": 5, "outputs": 16, "size": (23, 30), "kernel": (3, 3), "pads": (0, 0, 1, 1), "strides": (2, 2)},
    {"inputs": 1, "outputs": 65, "size": (49, 10), "kernel": (10, 4), "pads": (4, 1, 5, 1), "strides": (2, 2)},
    {"inputs": 6, "outputs": 17, "size": (16, 16), "kernel": (5, 5), "pads": (2, 2, 2, 2)},
    {"inputs": 3, "outputs": 33, "size": (40, 40), "kernel": (7, 7), "pads": (3, 3, 3, 3), "strides": (2, 2), "batch": 3},
    {"inputs": 8, "outputs": 8, "size": (17, 19), "kernel": (3, 3), "pads": (2, 2, 2, 2), "dilations": (2, 2)},
    {"inputs": 12, "outputs": 18, "size": (10, 10), "kernel": (3, 3), "pads": (1, 1, 1, 1), "group": 3},
    {"inputs": 8, "outputs": 16, "size": (10, 10), "kernel": (3, 3), "pads": (1, 1, 1, 1), "group": 8},
    {"inputs": 16, "outputs": 32, "size": (14, 15), "strides": (2, 2)},
    {"inputs": 4, "outputs": 20, "size": (1, 50), "kernel": (1, 9), "pads": (0, 8, 0, 0)},
    {"inputs": 48, "outputs": 48, "size": (20, 20), "kernel": (3, 3), "pads": (1, 1, 1, 1), "group": 48},
    {"inputs": 21, "outputs": 21, "size": (15, 33), "kernel": (3, 3), "pads": (1, 1, 1, 1), "group": 21, "strides": (2, 2)},
    {"inputs": 18, "outputs": 18, "size": (9, 9), "kernel": (5, 5), "pads": (2, 2, 2, 2), "group": 18, "batch": 2},
    {"inputs": 7, "outputs": 7, "size": (12, 12), "kernel": (7, 7), "pads": (6, 6, 6, 6), "group": 7, "dilations": (2, 2)},
]
POOLINGS: list[dict[str, Any]] = [
    {"operator": "MaxPool", "inputs": 20, "size": (23, 23), "kernel_shape": (3, 3), "pads": (1, 1, 1, 1), "strides": (2, 2)},
    {"operator": "MaxPool", "inputs": 3, "size": (8, 40), "kernel_shape": (1, 20), "strides": (1, 7)},
    {"operator": "AveragePool", "inputs": 17, "size": (14, 14), "kernel_shape": (3, 3), "pads": (1, 1, 1, 1)},
    {
        "operator": "AveragePool", "inputs": 32, "size": (14, 14), "kernel_shape": (4, 4), "pads": (1, 1, 2, 2),
        "strides": (3, 3), "count_include_pad": 1,
    },
]  # fmt: skip


def model_of_all() -> Any:
    """Each case beside the others in one model: an input, a convolution, what follows it, an output.

    What follows alternates between nothing, a bias with an activation, and a residual with an activation. Poolings come after a
    pointwise convolution, as only then is their data laid out with the channels last.
    """
    random = np.random.default_rng(3)
    nodes, inputs, outputs, weights = [], [], [], {}
    for index, (case, after) in enumerate(zip(CONVOLUTIONS, itertools.cycle(("", "bias", "residual")), strict=False)):
        group, kernel, batch = case.get("group", 1), case.get("kernel", (1, 1)), case.get("batch", 1)
        pads, strides, dilations = (
            case.get(key, (n,) * c) for key, n, c in (("pads", 0, 4), ("strides", 1, 2), ("dilations", 1, 2))
        )
        out = [
            (case["size"][axis] + pads[axis] + pads[axis + 2] - (kernel[axis] - 1) * dilations[axis] - 1) // strides[axis] + 1
            for axis in (0, 1)
        ]
        weights[f"w{index}"] = random.standard_normal((case["outputs"], case["inputs"] // group, *kernel))
        names = [f"x{index}", f"w{index}"]
        if after:
            weights[f"b{index}"] = random.standard_normal(case["outputs"])
            names.append(f"b{index}")
        inputs.append(tensor(f"x{index}", [batch, case["inputs"], *case["size"]]))
        outputs.append(tensor(f"y{index}", [batch, case["outputs"], *out]))
        result = f"c{index}" if after else f"y{index}"
        nodes.append(helper.make_node("Conv", names, [result], group=group, pads=pads, strides=strides, dilations=dilations))
        if after == "residual":
            inputs.append(tensor(f"r{index}", [batch, case["outputs"], *out]))
            nodes.append(helper.make_node("Add", [result, f"r{index}"], [f"s{index}"]))
        if after:
            nodes.append(helper.make_node("Relu", [f"s{index}" if after == "residual" else result], [f"y{index}"]))
    for index, case in enumerate(POOLINGS):
        attributes = {key: value for key, value in case.items() if key not in ("operator", "inputs", "size")}
        weights[f"pw{index}"] = random.standard_normal((case["inputs"], case["inputs"], 1, 1))
        inputs.append(tensor(f"px{index}", [1, case["inputs"], *case["size"]]))
        outputs.append(tensor(f"py{index}", [1, case["inputs"], "height", "width"]))
        nodes.append(helper.make_node("Conv", [f"px{index}", f"pw{index}"], [f"pc{index}"]))
        nodes.append(helper.make_node(case["operator"], [f"pc{index}"], [f"py{index}"], **attributes))
    return onnx_model(nodes, inputs, outputs, {name: value.astype(np.float32) for name, value in weights.items()})


def machine(lanes: int, accumulators: int) -> Target:
    """This machine with a register file of another shape, to see the schedule as other targets do."""
    return ready("host/x86_64").model_copy(update={"lanes": lanes, "accumulators": accumulators})


@pytest.mark.parametrize(("lanes", "accumulators"), [(8, 12), (1, 28), (16, 6)])
def test_windows_of_every_shape_agree_with_the_reference_and_are_scheduled(
    save: Save, cache: Path, lanes: int, accumulators: int
):
    """Odd channels, strides, dilations, groups, paddings and batches give ONNX Runtime's numbers, and no kernel falls back."""
    compiled = compiling.compile_model(save(model_of_all()), machine(lanes, accumulators), cache=cache)

    assert () == tuple(kernel for kernel in compiled.manifest.kernels if not kernel.scheduled)
