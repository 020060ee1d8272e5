"""What an artifact says of its kernel calls: the model's own names, multiply-accumulates, bytes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper

from tests.artifacts import calls_of
from tests.unit.compiling.conftest import Save, onnx_model, tensor
from tests.unit.compiling.tflite_model import dense_softmax
from vlab.compiling import Compiled

Compile = Callable[..., Compiled]


def normalised(name: str, source: str, result: str) -> list:
    """A convolution of 3 by 3 with batch normalisation."""
    normal = [f"{name}.{part}" for part in ("scale", "shift", "mean", "variance")]
    return [
        helper.make_node("Conv", [source, f"{name}.w"], [f"{name}.c"], name=f"{name}.conv", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", [f"{name}.c", *normal], [result], name=f"{name}.bn"),
    ]


def residual(blocks: int = 2, channels: int = 16, size: int = 16) -> object:
    """Equal residual blocks, so that equal kernels are called for different nodes; then a dense layer."""
    random = np.random.default_rng(3)
    weights = {"dense.w": random.standard_normal((channels, 16)), "dense.b": random.standard_normal(16)}
    nodes = [*normalised("stem", "x", "stem.n"), helper.make_node("Relu", ["stem.n"], ["h0"], name="stem.relu")]
    for index in range(blocks):
        name = f"block{index}"
        nodes += normalised(f"{name}.first", f"h{index}", f"{name}.n")
        nodes.append(helper.make_node("Relu", [f"{name}.n"], [f"{name}.r"], name=f"{name}.relu"))
        nodes += normalised(f"{name}.second", f"{name}.r", f"{name}.m")
        nodes.append(helper.make_node("Add", [f"{name}.m", f"h{index}"], [f"{name}.s"], name=f"{name}.add"))
        nodes.append(helper.make_node("Relu", [f"{name}.s"], [f"h{index + 1}"]))
    nodes.append(helper.make_node("GlobalAveragePool", [f"h{blocks}"], ["p"], name="pool"))
    nodes.append(helper.make_node("Flatten", ["p"], ["f"], name="flatten"))
    nodes.append(helper.make_node("Gemm", ["f", "dense.w", "dense.b"], ["y"], name="dense"))
    for name in ["stem", *(f"block{index}.{part}" for index in range(blocks) for part in ("first", "second"))]:
        inputs = 3 if name == "stem" else channels
        weights[f"{name}.w"] = random.standard_normal((channels, inputs, 3, 3)) / 12
        weights |= {f"{name}.{part}": random.random(channels) + 0.5 for part in ("scale", "shift", "mean", "variance")}
    floats = {name: value.astype(np.float32) for name, value in weights.items()}
    return onnx_model(nodes, [tensor("x", [1, 3, size, size])], [tensor("y", [1, 16])], floats)


def test_fused_kernels_know_all_their_nodes_and_equal_ones_keep_their_own(save: Save, compile_for: Compile):
    """A kernel of convolution, normalisation, sum and activation names all four; a shared kernel's calls differ."""
    calls = calls_of(compile_for(save(residual())))
    with_work = {call.nodes: call.macs for call in calls if call.macs}

    conv = 16 * 16 * 16 * 16 * 9
    assert {
        ("stem.conv", "stem.bn", "stem.relu"): 16 * 16 * 16 * 3 * 9,
        ("block0.first.conv", "block0.first.bn", "block0.relu"): conv,
        ("block0.second.conv", "block0.second.bn", "block0.add", "h1"): conv,
        ("block1.first.conv", "block1.first.bn", "block1.relu"): conv,
        ("block1.second.conv", "block1.second.bn", "block1.add", "h2"): conv,
        ("dense",): 16 * 16,
    } == with_work
    firsts = [call for call in calls if "block0.relu" in call.nodes or "block1.relu" in call.nodes]
    assert firsts[0].kernel == firsts[1].kernel
    assert 16 * 16 * 16 * 4 == firsts[0].input_bytes == firsts[0].output_bytes
    assert firsts[0].weight_bytes >= 16 * 16 * 9 * 4


def test_every_node_that_computes_is_in_some_kernel(save: Save, compile_for: Compile):
    """Nodes are not lost where a pass decomposes, folds, inlines or reorders them; those of constants alone may be."""
    nodes = [
        helper.make_node("Split", ["x"], ["left", "right"], name="split", num_outputs=2, axis=1),
        helper.make_node("Add", ["w", "w"], ["twice"], name="constant"),
        helper.make_node("MatMul", ["left", "twice"], ["product"], name="product"),
        helper.make_node("LayerNormalization", ["product", "scale"], ["normal"], name="normal", axis=-1),
        helper.make_node("Gelu", ["normal"], ["bent"], name="gelu"),
        helper.make_node("Clip", ["right", "low", "high"], ["clipped"], name="clip"),
        helper.make_node("Concat", ["bent", "clipped"], ["joined"], name="concat", axis=1),
        helper.make_node("ArgMax", ["joined"], ["largest"], name="argmax", axis=1, keepdims=0),
        helper.make_node("Softmax", ["joined"], ["y"], name="softmax"),
    ]
    random = np.random.default_rng(4)
    weights = {
        "w": random.standard_normal((8, 8)).astype(np.float32),
        "scale": np.ones(8, np.float32),
        "low": np.float32(-1),
        "high": np.float32(1),
    }
    outputs = [tensor("y", [1, 16]), tensor("largest", [1], TensorProto.INT64)]
    model = onnx_model(nodes, [tensor("x", [1, 16])], outputs, weights)
    model.opset_import[0].version = 20
    calls = calls_of(compile_for(save(model)))

    found = {node for call in calls for node in call.nodes}
    assert {node.name for node in nodes} - {"constant"} <= found
    assert all(call.nodes for call in calls)
    assert 8 * 8 == sum(call.macs for call in calls if "product" in call.nodes and call.macs >= 64)


def test_tflite_operators_are_named_by_index_and_output(compile_for: Compile, tmp_path: Path):
    """TFLite operators have no names, so they go by their index and the tensor they compute."""
    path = tmp_path / "dense.tflite"
    path.write_bytes(dense_softmax())
    calls = calls_of(compile_for(path))

    assert ["0", "1"] == [node.split()[0] for call in calls for node in call.nodes]
    assert all(len(node.split()) == 2 for call in calls for node in call.nodes)


def test_outputs_that_no_kernel_computes(save: Save, compile_for: Compile):
    """An output may be an input, a constant, another output, or a view of a value that lives on; it agrees all the same."""
    nodes = [
        helper.make_node("Identity", ["x"], ["input"]),
        helper.make_node("Add", ["w", "w"], ["constant"]),
        helper.make_node("Relu", ["x"], ["first"]),
        helper.make_node("Identity", ["first"], ["second"]),
        helper.make_node("Reshape", ["first", "shape"], ["view"]),
        *(helper.make_node("Softmax", [source], [f"s{place}"]) for place, source in enumerate(["view", "s0", "s1"])),
    ]
    sizes = {"input": [1, 8], "constant": [4], "first": [1, 8], "second": [1, 8], "view": [2, 4], "s2": [2, 4]}
    weights = {"w": np.arange(4, dtype=np.float32), "shape": np.array([2, 4])}
    model = onnx_model(nodes, [tensor("x", [1, 8])], [tensor(name, shape) for name, shape in sizes.items()], weights)

    manifest = compile_for(save(model)).manifest

    assert list(sizes) == [spec.name for spec in manifest.outputs]
    assert manifest.numerics.max_abs_err < 1e-6


def test_integer_kernels_know_their_nodes_and_work(save: Save, compile_for: Compile):
    """Where quantised nodes become integer kernels, each names its own operator, and its loops tell their work."""
    random = np.random.default_rng(5)
    weights = {"step": np.float32(0.05), "small": np.float32(0.01), "zero": np.int8(0)}
    nodes, source = [], "x"
    for place, channels in enumerate((4, 8)):
        name = f"layer{place}"
        weights[f"{name}.w"] = random.integers(-127, 127, (8, channels, 3, 3)).astype(np.int8)
        nodes += [
            helper.make_node("QuantizeLinear", [source, "step", "zero"], [f"{name}.q"], name=f"{name}.quantise"),
            helper.make_node("DequantizeLinear", [f"{name}.q", "step", "zero"], [f"{name}.d"], name=f"{name}.dequantise"),
            helper.make_node("DequantizeLinear", [f"{name}.w", "small", "zero"], [f"{name}.v"], name=f"{name}.weights"),
            helper.make_node("Conv", [f"{name}.d", f"{name}.v"], [f"{name}.c"], name=f"{name}.conv", pads=[1, 1, 1, 1]),
            helper.make_node("Relu", [f"{name}.c"], [f"{name}.r"], name=f"{name}.relu"),
        ]
        source = f"{name}.r"
    nodes += [
        helper.make_node("QuantizeLinear", [source, "step", "zero"], ["last.q"], name="last.quantise"),
        helper.make_node("DequantizeLinear", ["last.q", "step", "zero"], ["y"], name="last.dequantise"),
    ]
    model = onnx_model(nodes, [tensor("x", [1, 4, 8, 8])], [tensor("y", [1, 8, 8, 8])], weights)
    calls = calls_of(compile_for(save(model)))
    convolutions = [call for call in calls if call.macs]

    assert [8 * 8 * 8 * 4 * 9, 8 * 8 * 8 * 8 * 9] == [call.macs for call in convolutions]
    for place, call in enumerate(convolutions):
        assert call.kernel.startswith("integer_")
        assert {f"layer{place}.conv", f"layer{place}.relu"} <= set(call.nodes)
        assert f"layer{1 - place}.conv" not in call.nodes
        assert call.weight_bytes >= 8 * (4, 8)[place] * 9
