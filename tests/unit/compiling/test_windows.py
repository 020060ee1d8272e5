"""Convolution and pooling of many shapes through the whole compile path: compiled, run, compared with ONNX Runtime."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from onnx import helper

from tests.boards import ready
from tests.unit.compiling.conftest import Save, onnx_model, tensor
from tests.unit.compiling.native import AVX2, SCALAR, Collected
from vlab import compiling
from vlab.compiling.kernels.convolution import pack
from vlab.compiling.kernels.geometry import Geometry
from vlab.compiling.schedule import Registers, tiles
from vlab.compiling.schedule.windows import Window, by_phase
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
    {"inputs": 4, "outputs": 8, "size": (2, 60), "kernel": (1, 33), "pads": (0, 16, 0, 16)},
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


def model_of(convolutions: list[dict[str, Any]], poolings: list[dict[str, Any]]) -> Any:
    """Each case beside the others in one model: an input, a convolution, what follows it, an output.

    What follows alternates between nothing, a bias with an activation, and a residual with an activation. Poolings come after a
    pointwise convolution, as only then is their data laid out with the channels last.
    """
    random = np.random.default_rng(3)
    nodes, inputs, outputs, weights = [], [], [], {}
    for index, (case, after) in enumerate(zip(convolutions, itertools.cycle(("", "bias", "residual")), strict=False)):
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
    for index, case in enumerate(poolings):
        attributes = {key: value for key, value in case.items() if key not in ("operator", "inputs", "size")}
        weights[f"pw{index}"] = random.standard_normal((case["inputs"], case["inputs"], 1, 1))
        inputs.append(tensor(f"px{index}", [1, case["inputs"], *case["size"]]))
        outputs.append(tensor(f"py{index}", [1, case["inputs"], "height", "width"]))
        nodes.append(helper.make_node("Conv", [f"px{index}", f"pw{index}"], [f"pc{index}"]))
        nodes.append(helper.make_node(case["operator"], [f"pc{index}"], [f"py{index}"], **attributes))
    return onnx_model(nodes, inputs, outputs, {name: value.astype(np.float32) for name, value in weights.items()})


def model_of_surroundings() -> Any:
    """Convolutions whose result meets their own data, another branch, a larger tensor, or is used twice."""
    random = np.random.default_rng(4)
    weights = {name: random.standard_normal((12, 12, 3, 3)).astype(np.float32) for name in ("w0", "w1", "w2", "w3")}
    shape = [1, 12, 7, 7]
    conv = {"pads": (1, 1, 1, 1)}
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["c0"], **conv),
        helper.make_node("Add", ["c0", "x"], ["own"]),
        helper.make_node("Conv", ["x", "w1"], ["c1"], **conv),
        helper.make_node("Abs", ["branch"], ["positive"]),
        helper.make_node("Sqrt", ["positive"], ["root"]),
        helper.make_node("Mul", ["root", "c1"], ["other"]),
        helper.make_node("Conv", ["x", "w2"], ["c2"], **conv),
        helper.make_node("Add", ["c2", "large"], ["larger"]),
        helper.make_node("Conv", ["x", "w3"], ["c3"], **conv),
        helper.make_node("Sigmoid", ["c3"], ["gate"]),
        helper.make_node("Mul", ["c3", "gate"], ["swish"]),
        helper.make_node("Add", ["c3", "row"], ["along_rows"]),
    ]
    inputs = [tensor("x", shape), tensor("branch", shape), tensor("large", [3, *shape[1:]]), tensor("row", [1, 1, 1, 7])]
    outputs = [tensor(name, shape) for name in ("own", "other", "swish", "along_rows")] + [tensor("larger", [3, *shape[1:]])]
    return onnx_model(nodes, inputs, outputs, weights)


def test_what_surrounds_a_convolution_does_not_change_it(save: Save, cache: Path):
    """Whatever is fused with a convolution, the numbers are ONNX Runtime's, and what does not fit says why."""
    compiled = compiling.compile_model(save(model_of_surroundings()), ready("host/x86_64"), cache=cache)

    assert all(kernel.scheduled or kernel.reason for kernel in compiled.manifest.kernels)


@pytest.mark.parametrize(
    ("registers", "cases"),
    [(Registers(8, 12, 16), slice(None)), (Registers(1, 16, 32), slice(0, None, 2)), (Registers(16, 5, 8), slice(1, None, 3))],
    ids=["vectors", "scalars", "few registers"],
)
def test_windows_of_every_shape_agree_with_the_reference_and_are_scheduled(
    save: Save, cache: Path, registers: Registers, cases: slice
):
    """Odd channels, strides, dilations, groups, paddings and batches give ONNX Runtime's numbers, and no kernel falls back."""
    update = {"lanes": registers.lanes, "accumulators": registers.accumulators, "registers": registers.total}
    target = ready("host/x86_64").model_copy(update=update)

    compiled = compiling.compile_model(save(model_of(CONVOLUTIONS[cases], POOLINGS[cases])), target, cache=cache)

    assert () == tuple(kernel for kernel in compiled.manifest.kernels if not kernel.scheduled)


def convolutions_of_all_kinds() -> Collected:
    """Transposed ones, over one axis and two, ones with weights that are inputs, and chains over one axis."""
    model = Collected()

    def transposed(shape: tuple[int, ...], weights: tuple[int, ...], *, known: bool = True, **attributes: Any) -> None:
        bias = model.value(weights[1] * attributes.get("group", 1), known=True)
        names = model.value(*shape), model.value(*weights, known=known), bias
        model.output(model.node("Relu", model.node("ConvTranspose", *names, **attributes)), len(shape))

    transposed((1, 4, 7, 7), (4, 20, 3, 3), strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1])
    transposed((2, 4, 5, 9), (4, 8, 4, 4), strides=[2, 2], pads=[1, 1, 1, 1])
    transposed((1, 3, 6, 6), (3, 5, 2, 2), strides=[3, 3])  # outputs that no input reaches
    transposed((1, 3, 6, 6), (3, 17, 5, 5), strides=[1, 2], dilations=[2, 2], pads=[2, 1, 2, 1])
    transposed((1, 4, 6, 6), (4, 6, 3, 3), strides=[2, 3], dilations=[2, 3], pads=[0, 1, 2, 3])
    transposed((1, 6, 5, 5), (6, 4, 3, 3), strides=[2, 2], pads=[1, 1, 1, 1], group=3)
    transposed((1, 18, 6, 6), (18, 1, 4, 4), strides=[2, 2], dilations=[3, 1], group=18)
    transposed((1, 4, 3, 60), (4, 4, 2, 40), strides=[2, 1])  # more columns at the border than get code of their own
    transposed((1, 4, 5, 5), (4, 4, 3, 3), known=False, strides=[2, 2])
    transposed((1, 8, 20), (8, 20, 4), strides=[2], pads=[1, 1])
    transposed((1, 8, 9), (8, 20, 3), strides=[3], dilations=[2], pads=[1, 0], output_padding=[2])

    def conv(data: str, weights: tuple[int, ...], *, known: bool = True, **attributes: Any) -> str:
        return model.node("Conv", data, model.value(*weights, known=known), **attributes)

    model.output(conv(model.value(2, 6, 9, 9), (12, 6, 3, 3), known=False, pads=[1, 1, 1, 1]), 4)
    model.output(conv(model.value(1, 6, 9, 9), (6, 1, 3, 3), known=False, group=6), 4)
    one = model.node("Relu", conv(model.value(2, 6, 30), (12, 2, 3), known=False, pads=[1, 1], group=3))
    two = model.node("MaxPool", conv(one, (12, 1, 3), group=12, dilations=[2]), kernel_shape=[3], strides=[2], pads=[1, 0])
    scaled = model.node("Mul", two, model.value(12, 1, known=True))
    three = model.node("Add", conv(scaled, (12, 12, 3), pads=[2, 0]), model.node("Sigmoid", scaled))
    model.output(model.node("AveragePool", three, kernel_shape=[4], pads=[2, 1], strides=[3]), 3)
    model.output(model.node("GlobalAveragePool", three), 3)

    tensor = model.value(2, 5, 6, 20)
    for operator, axes in (("ReduceMean", [1, 2]), ("ReduceMean", [2]), ("ReduceSum", [0, 1]), ("ReduceSum", [1])):
        model.weights[f"axes{len(model.weights)}"] = np.array(axes, np.int64)
        model.output(model.node(operator, tensor, list(model.weights)[-1], keepdims=0), 4 - len(axes))
    return model


@pytest.mark.parametrize("target", [AVX2, SCALAR], ids=["vectors", "scalars"])
def test_convolutions_of_all_kinds_and_reductions_agree_and_have_rules(target: Target, tmp_path: Path):
    """Strides, dilations, paddings, groups and weights that are inputs give ONNX Runtime's numbers, and nothing falls back."""
    report = convolutions_of_all_kinds().agree(target, tmp_path)

    assert () == tuple(kernel for kernel in report if kernel.reason)


def test_convolutions_of_all_kinds_agree_on_an_emulated_board(save: Save, cache: Path):
    """The compile's own check, which runs on the board, finds ONNX Runtime's numbers with RISC-V vectors as well."""
    model = convolutions_of_all_kinds().model()

    compiled = compiling.compile_model(save(model), ready("riscv/rv64gcv-linux"), cache=cache)

    assert () == tuple(kernel for kernel in compiled.manifest.kernels if kernel.reason)


def test_what_no_rule_is_made_for_says_so_and_is_right(tmp_path: Path):
    """Windows over three axes, pooling of channels that come first and reductions of other kinds are reported, not silent."""
    model = Collected()
    video = model.value(1, 4, 5, 6, 7)
    model.output(model.node("Conv", video, model.value(3, 4, 2, 2, 2, known=True)), 5)
    model.output(model.node("MaxPool", video, kernel_shape=[2, 3, 2], strides=[1, 2, 2]), 5)
    model.output(model.node("AveragePool", model.value(1, 4, 9, 9), kernel_shape=[3, 3]), 4)
    model.output(model.node("Cast", model.node("ArgMax", video, axis=1), to=1), 5)

    report = model.agree(AVX2, tmp_path)

    told = {kernel.name for kernel in report if not kernel.scheduled and "no rule is made" in kernel.reason}
    assert {"conv3d", "max_pool3d", "avg_pool2d", "fused_argmax_cast"} == told


@given(
    size=st.integers(1, 9),
    kernel=st.integers(1, 7),
    stride=st.integers(1, 5),
    dilation=st.integers(1, 5),
    before=st.integers(0, 6),
    out=st.integers(1, 40),
)
def test_the_windows_of_a_transposed_convolution_are_its_products(
    size: int, kernel: int, stride: int, dilation: int, before: int, out: int
):
    """Every output is in one window, and its taps meet what the definition o = i * stride + k * dilation - before says."""
    products = set()
    places = []
    for window in by_phase(Window(size, kernel, stride, dilation, before, out)):
        places += [window.to(place) for place in range(window.out)]
        products |= {
            (window.to(place), window.at(place, tap), window.weight(tap))
            for place in range(window.out)
            for tap in range(window.kernel)
            if window.inside(place, tap)
        }

    pairs = ((i * stride + k * dilation - before, i, k) for i in range(size) for k in range(kernel))
    assert list(range(out)) == sorted(places)
    assert {(o, i, k) for o, i, k in pairs if 0 <= o < out} == products


@given(
    channels=st.integers(1, 300),
    rows=st.integers(1, 20),
    columns=st.integers(1, 60),
    registers=st.sampled_from(
        [Registers(1, 16), Registers(4, 10, 16), Registers(8, 12, 16), Registers(16, 28), Registers(16, 6, 8, True)]
    ),
    mergeable=st.booleans(),
)
def test_a_tile_and_its_operands_fit_into_the_registers(
    channels: int, rows: int, columns: int, registers: Registers, mergeable: bool
):
    """Sums, one vector of weights for each of theirs, and one value never take more registers than there are."""
    plan = tiles.plan(channels, rows, columns, registers, mergeable=mergeable)

    vectors = len(tiles.pieces(plan.tile.channels, registers.lanes))
    assert 0 == rows % plan.merged_rows
    assert 1 <= plan.tile.columns <= columns * plan.merged_rows
    assert vectors * plan.tile.columns <= registers.accumulators
    assert vectors * plan.tile.columns + vectors + (not registers.scalar_factors) <= registers.total


@given(channels=st.integers(1, 300), lanes=st.sampled_from([1, 4, 8, 16]))
def test_pieces_cover_the_channels_exactly(channels: int, lanes: int):
    """Every channel is in one vector, and no vector is longer than the CPU's."""
    sizes = tiles.pieces(channels, lanes)

    assert channels == sum(sizes)
    assert max(sizes) <= lanes


@given(
    size=st.integers(1, 40),
    kernel=st.integers(1, 7),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 3),
    before=st.integers(0, 6),
    after=st.integers(0, 6),
    tile=st.integers(1, 9),
)
def test_spans_cover_the_output_once_and_know_which_windows_leave_the_input(
    size: int, kernel: int, stride: int, dilation: int, before: int, after: int, tile: int
):
    """Column after column without gap, and a span is inner exactly where no window of it leaves the input."""
    out = (size + before + after - (kernel - 1) * dilation - 1) // stride + 1
    assume(out >= 1)
    window = Window(size, kernel, stride, dilation, before, out)

    columns = []
    for span in window.spans(tile):
        own = range(span.start, span.start + span.tiles * span.length)
        assert span.inner == all(window.inside(column, tap) for column in own for tap in range(kernel))
        columns += own
    assert list(range(out)) == columns


@given(
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    inputs=st.integers(1, 4),
    channels=st.integers(1, 9),
    groups=st.integers(1, 3),
    tile=st.integers(1, 9),
)
def test_packed_weights_lie_where_the_computation_looks(
    kernel: tuple[int, int], inputs: int, channels: int, groups: int, tile: int
):
    """The weight of each output channel and step is at the place that the formula of `direct` names, without gaps."""
    geometry = Geometry(1, (9, 9), inputs * groups, (9, 9), channels * groups, kernel, (1, 1), (1, 1), (0, 0), groups)
    weights = np.arange(geometry.steps * channels * groups).reshape(*kernel, inputs, channels * groups)

    packed = pack(weights, geometry, tile)

    for channel in range(channels * groups):
        group, within = divmod(channel, channels)
        first = within - within % tile
        width = min(channels - first, tile)
        at = (group * channels + first) * geometry.steps + np.arange(geometry.steps) * width + within % tile
        assert np.array_equal(weights.reshape(geometry.steps, -1)[:, channel], packed[at])
